//! Giving a server of a throwaway cluster another part to play: crashed, following somebody else, rewound.

use std::fs::{self, File};
use std::io::Write;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::server::{Server, StopMode};
use super::{ClusterError, Context};

/// Its presence makes a server start as a standby.
const STANDBY: &str = "standby.signal";

impl Server {
    /// Kills the postmaster and all of its processes (SIGKILL), as when the machine goes; waits until they are gone.
    pub fn crash(&self) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let outcome = self.kill();
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // They leave by themselves when the postmaster is gone; some do so only when they are done.
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        outcome
    }

    /// Has settings take effect from the next start, or [`Server::reload`]; the server may be down.
    pub fn configure(&self, settings: &[(&str, &str)]) -> Result<(), ClusterError> {
        let path = self.data_dir.join("postgresql.auto.conf");
        let mut file =
            File::options().append(true).open(path).context("cannot open a server's configuration")?;
        for (name, value) in settings {
            // The last line for a setting is the one that counts.
            writeln!(file, "{name} = '{}'", value.replace('\'', "''"))
                .context("cannot write a server's configuration")?;
        }
        Ok(())
    }

    /// Has a standby stream from `leader`: at once, if it runs.
    pub fn follow(&self, leader: &Server) -> Result<(), ClusterError> {
        // Known to the leader by its name, as one that `pg_basebackup` has set up.
        let conninfo = format!(
            "host={} port={} user=postgres application_name={}",
            leader.socket_dir().display(),
            leader.port,
            self.name
        );
        self.configure(&[("primary_conninfo", &conninfo), ("primary_slot_name", "")])?;
        if self.pid().is_some() { self.reload() } else { Ok(()) }
    }

    /// Makes a primary of the past a standby of `leader` (pg_rewind), and starts it. The cluster needs `wal_log_hints`
    /// and `full_page_writes`.
    pub fn rejoin(&self, leader: &Server) -> Result<(), ClusterError> {
        self.stop(StopMode::Fast)?;
        // Until its first checkpoint, the leader's control file knows nothing of its new timeline.
        leader.psql("postgres", "CHECKPOINT")?;
        let source = format!(
            "host={} port={} user=postgres dbname=postgres",
            leader.socket_dir().display(),
            leader.port
        );
        let mut command = self.site().program("pg_rewind");
        command.arg("-D").arg(&self.data_dir).args(["--no-sync", "--source-server", &source]);
        self.site().run(&mut command)?;
        self.site().write(&self.data_dir.join(STANDBY), b"")?;
        self.follow(leader)?;
        self.start()
    }
}
