//! One server of a throwaway cluster: starting, stopping, killing, asking.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::port::free_port;
use super::site::Site;
use super::{ClusterError, Context};

/// How long a server may take to start or stop: recovery after a kill included.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at something that will happen soon.
pub(super) const GLANCE: Duration = Duration::from_millis(10);
/// The line of postmaster.pid that says how far the server is (`LOCK_FILE_LINE_PM_STATUS`), counted from zero.
const STATUS_LINE: usize = 7;

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for every session to leave.
    Smart,
    /// Ends sessions, then shuts down in order.
    Fast,
    /// Drops everything; the next start recovers.
    Immediate,
}

impl StopMode {
    fn signal(self) -> Signal {
        match self {
            StopMode::Smart => Signal::SIGTERM,
            StopMode::Fast => Signal::SIGINT,
            StopMode::Immediate => Signal::SIGQUIT,
        }
    }
}

/// One server. Every method takes `&self`, so that tests may share it.
#[derive(Debug)]
pub struct Server {
    /// `primary`, `replica1`, `replica2` and so on.
    pub name: String,
    /// Always an address of loopback.
    pub host: &'static str,
    /// TCP port; the same over restarts.
    pub port: u16,
    /// Its data directory.
    pub data_dir: PathBuf,
    site: Arc<Site>,
    process: Mutex<Option<Child>>,
}

impl Server {
    pub(super) fn new(site: &Arc<Site>, name: &str) -> Self {
        Server {
            name: name.to_owned(),
            host: "127.0.0.1",
            port: free_port(),
            data_dir: site.dir().join(name),
            site: site.clone(),
            process: Mutex::new(None),
        }
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// The directory of its Unix socket; any user of that socket is trusted.
    pub fn socket_dir(&self) -> &Path {
        self.site.dir()
    }

    /// Process id of the postmaster, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.lock().as_ref().map(Child::id)
    }

    /// The file that it logs to.
    pub fn log_path(&self) -> PathBuf {
        self.site.log_path(&self.name)
    }

    /// A connection string for TCP.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@{}:{}/{database}", self.host, self.port)
    }

    /// A connection string for TCP as the superuser `postgres`.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url("postgres", self.site.password(), database)
    }

    /// Starts it and waits until it takes connections.
    pub fn start(&self) -> Result<(), ClusterError> {
        let mut process = self.process.lock();
        if process.is_some() {
            return Ok(());
        }
        // After a kill, the sessions of the dead postmaster need a moment to notice and leave its shared memory.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match self.launch() {
                Err(ClusterError::Died { .. }) if Instant::now() < deadline && self.data_dir.exists() => {
                    thread::sleep(20 * GLANCE);
                }
                outcome => {
                    *process = Some(outcome?);
                    return Ok(());
                }
            }
        }
    }

    fn launch(&self) -> Result<Child, ClusterError> {
        let log = self.site.open_log(&self.name).context("cannot open a server's log")?;
        let mut command = self.site.program("postgres");
        command.arg("-D").arg(&self.data_dir).args(["-p", &self.port.to_string()]);
        // A replica is known to its primary by this name.
        command.args(["-c", &format!("cluster_name={}", self.name)]);
        command.stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().context("cannot start postgres")?;
        self.wait_ready(&mut child)?;
        Ok(child)
    }

    /// A server says in its lock file that it is ready; asking by connecting would disturb those who count connections.
    fn wait_ready(&self, child: &mut Child) -> Result<(), ClusterError> {
        let deadline = Instant::now() + PATIENCE;
        while !self.says_ready(child.id()) {
            if child.try_wait().context("cannot wait for postgres")?.is_some() {
                return Err(ClusterError::Died {
                    name: self.name.clone(),
                    log: self.site.log_tail(&self.name),
                });
            }
            if Instant::now() > deadline {
                end(child);
                return Err(ClusterError::TooSlow(format!("{} to start", self.name)));
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn says_ready(&self, pid: u32) -> bool {
        let Ok(lock) = fs::read_to_string(self.data_dir.join("postmaster.pid")) else { return false };
        let mut lines = lock.lines();
        // The file of a killed predecessor lies there until it is replaced.
        lines.next() == Some(&pid.to_string()) && lines.nth(STATUS_LINE - 1).map(str::trim) == Some("ready")
    }

    /// Stops it and waits until it is gone.
    pub fn stop(&self, mode: StopMode) -> Result<(), ClusterError> {
        self.end_with(mode.signal())
    }

    /// Stops it, if it runs, and starts it again.
    pub fn restart(&self, mode: StopMode) -> Result<(), ClusterError> {
        self.stop(mode)?;
        self.start()
    }

    /// Kills the postmaster as the kernel would (SIGKILL), and waits until it is gone.
    pub fn kill(&self) -> Result<(), ClusterError> {
        self.end_with(Signal::SIGKILL)
    }

    fn end_with(&self, signal: Signal) -> Result<(), ClusterError> {
        let mut process = self.process.lock();
        let Some(child) = process.as_mut() else { return Ok(()) };
        // We have not reaped the child, so the process id is still its own.
        let _ = kill(Pid::from_raw(child.id() as i32), signal);
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().context("cannot wait for postgres")?.is_none() {
            if Instant::now() > deadline {
                return Err(ClusterError::TooSlow(format!("{} to stop", self.name)));
            }
            thread::sleep(GLANCE);
        }
        *process = None;
        Ok(())
    }

    /// Re-reads its configuration files.
    pub fn reload(&self) -> Result<(), ClusterError> {
        self.psql("postgres", "SELECT pg_reload_conf()").map(drop)
    }

    /// Makes a replica a primary, and waits until it is one.
    pub fn promote(&self) -> Result<(), ClusterError> {
        self.psql("postgres", "SELECT pg_promote()").map(drop)
    }

    /// Runs a script as the superuser over the Unix socket and returns what `psql -At` prints. Statements are
    /// transactions of their own unless the script says otherwise; an error ends it.
    pub fn psql(&self, database: &str, script: &str) -> Result<String, ClusterError> {
        let mut command = self.site.program("psql");
        command.arg("-h").arg(self.socket_dir()).args(["-p", &self.port.to_string(), "-U", "postgres"]);
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]);
        self.site.run_with_input(&mut command, script)
    }
}

impl Drop for Server {
    /// Reaps what the sweeper has stopped, or ends what was never announced to it.
    fn drop(&mut self) {
        if let Some(mut child) = self.process.lock().take() {
            end(&mut child);
        }
    }
}

fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGQUIT);
    }
    let _ = child.wait();
}
