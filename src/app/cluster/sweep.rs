//! The watchman of a throwaway cluster: a process that outlives us, stops the servers and removes their directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::site::Site;
use super::{ClusterError, Context};

const SCRIPT: &str = include_str!("sweep.sh");

/// Dropping it, or dying, stops every server in the directory and removes the directory.
///
/// Both ways are one: the watchman's standard input ends. Nothing has to run in a process that is killed.
#[derive(Debug)]
pub(super) struct Sweeper {
    child: Child,
    dir: PathBuf,
}

impl Sweeper {
    /// Sets a watchman over the site's directory, before anything is started in it.
    pub(super) fn watch(site: &Site) -> Result<Self, ClusterError> {
        let mut command = site.shell();
        command.arg("-c").arg(SCRIPT).arg("turnpike-sweep").arg(site.dir());
        // It must be able to remove the directory, so it does not stand in it.
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("cannot start /bin/sh to watch over the cluster")?;
        Ok(Sweeper { child, dir: site.dir().to_path_buf() })
    }

    /// Where it will sweep.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        // The watchman has our rights taken away; the directory's parent may be writable to us alone.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
