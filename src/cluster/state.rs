//! What is known of a cluster over restarts: its system identifier and the newest timeline that any member was seen on,
//! in a small file of its own. Without it, a primary of the past that is all that is in reach looks like any other.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::election::Memory;

/// What the file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) system: u64,
    pub(super) timeline: u32,
}

/// The file as TOML, whose numbers have a sign.
#[derive(Deserialize)]
struct Words {
    system: String,
    timeline: u32,
}

impl Kept {
    /// What is worth keeping, once it is known whose data it is.
    pub(super) fn of(memory: &Memory) -> Option<Kept> {
        let system = memory.system.filter(|_| memory.newest > 0)?;
        Some(Kept { system, timeline: memory.newest })
    }

    /// What a cluster begins with.
    pub(super) fn memory(kept: Option<Kept>) -> Memory {
        let Some(Kept { system, timeline }) = kept else { return Memory::default() };
        Memory { system: Some(system), newest: timeline, ..Memory::default() }
    }
}

/// The file of a cluster: its name, with what file systems might take amiss in hexadecimal.
fn path(dir: &Path, cluster: &str) -> PathBuf {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let name =
        cluster.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") });
    dir.join(format!("cluster-{}.toml", name.collect::<String>()))
}

/// Reads what was kept of a cluster. What cannot be read is told of, and counts as nothing.
pub(super) fn load(dir: &Path, cluster: &str) -> Option<Kept> {
    let path = path(dir, cluster);
    let kept = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => Err(e.to_string()),
        Ok(text) => parse(&text),
    };
    match kept {
        Ok(kept) => {
            let Kept { system, timeline } = kept;
            tracing::info!(cluster, file = %path.display(), system, timeline, "known from before");
            Some(kept)
        }
        Err(e) => {
            let so = "until servers say otherwise, a primary of the past may be taken for the primary";
            tracing::warn!(cluster, file = %path.display(), error = e, "cannot read what is known of a cluster: {so}");
            None
        }
    }
}

fn parse(text: &str) -> Result<Kept, String> {
    let words: Words = toml::from_str(text).map_err(|e| e.message().to_string())?;
    let system = words.system.parse().map_err(|_| "system is not a number".to_string())?;
    Ok(Kept { system, timeline: words.timeline })
}

/// Writes it: the file is whole at any time, and on the disk when this returns. Another process may know more.
pub(super) fn save(dir: &Path, cluster: &str, kept: Kept) -> io::Result<()> {
    let path = path(dir, cluster);
    let known = fs::read_to_string(&path).ok().and_then(|text| parse(&text).ok());
    if known.is_some_and(|known| known.system == kept.system && known.timeline >= kept.timeline) {
        return Ok(());
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = File::create(&temporary)?;
    writeln!(
        file,
        "# What Turnpike knows of cluster {cluster:?}. Remove it when other servers take their place."
    )?;
    writeln!(file, "system = \"{}\"\ntimeline = {}", kept.system, kept.timeline)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_and_only_grows() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |system, timeline| Kept { system, timeline };
        assert_eq!(load(dir.path(), "a/b"), None);
        save(dir.path(), "a/b", at(u64::MAX, 7)).expect("saved");
        save(dir.path(), "a/b", at(u64::MAX, 6)).expect("saved");
        assert_eq!(load(dir.path(), "a/b"), Some(at(u64::MAX, 7)));
        save(dir.path(), "a/b", at(5, 1)).expect("saved");
        assert_eq!(load(dir.path(), "a/b"), Some(at(5, 1)), "other servers");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn what_cannot_be_read_counts_as_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        for text in ["", "system = 7\ntimeline = 1", "system = 'x'\ntimeline = 1", "\0"] {
            fs::write(path(dir.path(), "main"), text).expect("written");
            assert_eq!(load(dir.path(), "main"), None, "{text:?}");
        }
        save(dir.path(), "main", Kept { system: 1, timeline: 1 }).expect("replaced");
        assert!(load(dir.path(), "main").is_some());
    }
}
