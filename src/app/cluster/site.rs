//! Where a throwaway cluster lives and as whom: a private directory, an account, programs, a password.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, io, thread};

use nix::unistd::{User, geteuid};

use super::binaries::Binaries;
use super::{ClusterError, Context};

/// Longest path of a Unix socket that every system takes (`sun_path` holds 104 bytes on BSD, 108 on Linux).
const MAX_SOCKET_PATH: usize = 103;
/// `/.s.PGSQL.` and five digits.
const SOCKET_NAME: usize = 15;

/// What all servers of a cluster share.
#[derive(Debug)]
pub(super) struct Site {
    dir: PathBuf,
    binaries: Binaries,
    /// The account to run as when we are root: PostgreSQL refuses to be root.
    account: Option<User>,
    password: String,
}

impl Site {
    /// Makes a private directory below `parent` (the system's temporary directory if `None`).
    pub(super) fn new(parent: Option<&Path>) -> Result<Self, ClusterError> {
        let binaries = Binaries::find()?;
        let account = unprivileged_account()?;
        let parent = parent.map_or_else(env::temp_dir, Path::to_path_buf);
        let parent = parent.canonicalize().context("the directory for the cluster cannot be used")?;
        let dir = parent.join(format!("turnpike-{}", random_word()?));
        if dir.as_os_str().len() + SOCKET_NAME > MAX_SOCKET_PATH {
            return Err(ClusterError::PathTooLong(dir));
        }
        fs::DirBuilder::new().mode(0o700).create(&dir).context("cannot create the cluster's directory")?;
        let site = Site { dir, binaries, account, password: random_word()? };
        site.give(&site.dir)?;
        Ok(site)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Hands a file to the account that the servers run as.
    fn give(&self, path: &Path) -> Result<(), ClusterError> {
        let Some(account) = &self.account else { return Ok(()) };
        chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw()))
            .context("cannot hand a file to the account that PostgreSQL runs as")
    }

    /// Puts a file that only the servers may read into the directory.
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<(), ClusterError> {
        fs::write(path, content).context("cannot write a file of the cluster")?;
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .context("cannot protect a file of the cluster")?;
        self.give(path)
    }

    /// A PostgreSQL program, ready to run as the right account, untouched by the caller's `PG*` variables.
    pub(super) fn program(&self, name: &str) -> Command {
        self.prepared(Command::new(self.binaries.program(name)))
    }

    /// A shell under the same conditions.
    pub(super) fn shell(&self) -> Command {
        self.prepared(Command::new("/bin/sh"))
    }

    fn prepared(&self, mut command: Command) -> Command {
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Some(account) = &self.account {
            // As root, the standard library also lets go of the supplementary groups here.
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
            command.env("HOME", &self.dir);
        }
        // A group of its own: an interrupt typed at the terminal is for us, and we stop the servers in order.
        command.env("LC_ALL", "C").current_dir(&self.dir).process_group(0).stdin(Stdio::null());
        command
    }

    /// Runs a program to its end and returns what it printed.
    pub(super) fn run(&self, command: &mut Command) -> Result<String, ClusterError> {
        let what = command.get_program().to_string_lossy().into_owned();
        let output = command.output().map_err(|source| ClusterError::Io { what: what.clone(), source })?;
        finished(what, output)
    }

    /// The same, with something to read.
    pub(super) fn run_with_input(&self, command: &mut Command, input: &str) -> Result<String, ClusterError> {
        let what = command.get_program().to_string_lossy().into_owned();
        let failed = |source| ClusterError::Io { what: what.clone(), source };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let stdin = child.stdin.take();
        // Written from a thread of its own, since the program may print more than a pipe holds before it has read all.
        let output = thread::scope(|scope| {
            scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input.as_bytes())));
            child.wait_with_output()
        });
        finished(what.clone(), output.map_err(failed)?)
    }

    /// The last lines that a server wrote.
    pub(super) fn log_tail(&self, name: &str) -> String {
        let log = fs::read(self.log_path(name)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Where a server writes its log.
    pub(super) fn log_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// The log, opened for appending.
    pub(super) fn open_log(&self, name: &str) -> io::Result<File> {
        File::options().create(true).append(true).open(self.log_path(name))
    }
}

fn finished(what: String, output: Output) -> Result<String, ClusterError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(ClusterError::Command { what, output: text(&[output.stdout, output.stderr].concat()) })
}

/// `postgres` if the machine has that account, else `nobody`; none unless we are root.
fn unprivileged_account() -> Result<Option<User>, ClusterError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let found = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    found.map(Some).ok_or(ClusterError::NoAccount)
}

/// Twelve random letters and digits.
fn random_word() -> Result<String, ClusterError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0u8; 12];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string())).context("no random bytes")?;
    Ok(bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect())
}
