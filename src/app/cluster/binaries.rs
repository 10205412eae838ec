//! Finding an installation of PostgreSQL on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ClusterError;

/// Oldest major version that we work with.
pub const OLDEST: u32 = 15;
/// Names a directory of PostgreSQL programs to use instead of searching.
pub const OVERRIDE: &str = "TURNPIKE_POSTGRES_BIN";

/// The programs of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The directory that has `postgres`, `initdb`, `pg_basebackup` and `psql`.
    pub dir: PathBuf,
    /// Major version.
    pub major: u32,
}

impl Binaries {
    /// The newest installation that is not too old, or the one that the environment names.
    pub fn find() -> Result<Self, ClusterError> {
        let candidates = match env::var_os(OVERRIDE) {
            Some(dir) => vec![PathBuf::from(dir)],
            None => candidates(),
        };
        candidates
            .into_iter()
            .filter_map(Self::at)
            .filter(|b| b.major >= OLDEST)
            .max_by_key(|b| b.major)
            .ok_or(ClusterError::NotInstalled)
    }

    /// The installation in `dir`, if it is a whole one.
    fn at(dir: PathBuf) -> Option<Self> {
        let whole = ["postgres", "initdb", "pg_basebackup", "psql"].iter().all(|p| dir.join(p).is_file());
        let major = if whole { major_version(&dir.join("postgres"))? } else { return None };
        Some(Binaries { dir, major })
    }

    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Where packages put PostgreSQL. Distributions keep the server's programs out of the search path.
fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        env::var_os("PATH").map(|p| env::split_paths(&p).collect()).unwrap_or_default();
    dirs.extend(versions_below("/usr/lib/postgresql", "", "bin"));
    dirs.extend(versions_below("/usr", "pgsql-", "bin"));
    dirs.extend(versions_below("/opt/homebrew/opt", "postgresql@", "bin"));
    dirs.extend(versions_below("/usr/local/opt", "postgresql@", "bin"));
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        dirs.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    dirs
}

/// `parent/prefix*/leaf` for every such directory.
fn versions_below(parent: &str, prefix: &str, leaf: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(prefix))
        .map(|e| e.path().join(leaf))
        .filter(|p| p.is_dir())
        .collect()
}

fn major_version(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian ...)` and `postgres (PostgreSQL) 18beta1` both start with the major version.
fn parse_version(line: &str) -> Option<u32> {
    let version = line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("something else"), None);
    }
}
