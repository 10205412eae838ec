//! A proxy as a process: started with a log, ended when dropped, and weighed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::time::ClockId;
use nix::unistd::{Pid, User, geteuid};

use crate::Failure;

/// A running proxy. Dropping it kills it with its children, and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
    log: PathBuf,
}

/// A program in a session of its own, as services are. An interrupt typed at the terminal is for us, who end it; and
/// Linux, which shares processors out among sessions first (`sched_autogroup_enabled`, sched(7)), does not take it and the
/// load for one.
pub fn service(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setsid");
    command.arg(program);
    command
}

impl Process {
    /// Starts a [`service`] with its output going to the file `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Result<Self, Failure> {
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let program =
            command.get_args().next().unwrap_or(command.get_program()).to_string_lossy().into_owned();
        let child = command.spawn().map_err(|e| format!("cannot start {program}: {e}"))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        Ok(Process { child, pid, log })
    }

    /// Fails with the last line of its log when it has ended.
    pub fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("ended with {status}: {}", self.last_words()).into()),
        }
    }

    /// The last line of its log that says something.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("(it said nothing)")
            .trim()
            .to_owned()
    }

    /// Processor time of all its threads so far, ended ones included: what utime + stime count in ticks of 10 ms, in
    /// nanoseconds.
    ///
    /// Of a proxy that has a process for each client, theirs count, too, as long as they live.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let own: Duration = ClockId::pid_cpu_clock_id(self.pid)?.now()?.into();
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap_or_default();
        let of_child = |pid: &str| {
            let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.parse().ok()?)).ok()?;
            clock.now().ok().map(Duration::from)
        };
        Ok(own + children.split_whitespace().filter_map(of_child).sum::<Duration>())
    }

    /// Resident memory in bytes. `status` may be dozens of pages behind, `smaps_rollup` counts.
    pub fn rss(&self) -> Result<u64, Failure> {
        let exact = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid));
        let text = exact.or_else(|_| fs::read_to_string(format!("/proc/{}/status", self.pid)))?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("Rss:").or_else(|| line.strip_prefix("VmRSS:")));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("/proc does not tell memory")?;
        Ok(kib.parse::<u64>()? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its own children, too: they would live on, with whatever we have open.
        let _ = killpg(self.pid, Signal::SIGKILL);
        // Should it not have become a group of its own yet.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises our limit of open files, which children inherit, as far as we may, and says how far that is.
pub fn raise_open_files() -> Result<u64, Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

/// The account for programs that refuse to run as root, when we are root.
pub fn unprivileged() -> Result<Option<User>, Failure> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let found = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    found.map(Some).ok_or_else(|| "no account named postgres or nobody".into())
}

/// Writes a file into our directory, readable by `account` and nobody else.
pub fn write_private(path: &Path, content: &str, account: Option<&User>) -> Result<(), Failure> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    give(path, account)
}

/// Makes `account` the owner.
pub fn give(path: &Path, account: Option<&User>) -> Result<(), Failure> {
    if let Some(user) = account {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(())
}
