//! The hours of all pools on disk, in a small file in `state_dir`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hours::Hours;

/// Most pools whose hours are kept, about a kilobyte each.
pub const MOST_POOLS: usize = 1000;

/// A database and a user, as clients name them, and a backend.
pub type Key = (String, String, String);

#[derive(Serialize, Deserialize)]
struct Row {
    database: String,
    user: String,
    backend: String,
    /// From Monday 0:00 UTC.
    hours: Vec<Option<f64>>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("pools.json")
}

/// Reads what was kept. What cannot be read is told of, and counts as nothing.
pub fn load(dir: &Path) -> Vec<(Key, Hours)> {
    let path = path(dir);
    let read = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => Err(e.to_string()),
        Ok(text) => serde_json::from_str::<Vec<Row>>(&text).map_err(|e| e.to_string()),
    };
    match read {
        Ok(rows) => {
            let rows = rows.into_iter().take(MOST_POOLS);
            rows.map(|row| ((row.database, row.user, row.backend), Hours::of(&row.hours))).collect()
        }
        Err(error) => {
            tracing::warn!(file = %path.display(), error, "cannot read when pools were used");
            Vec::new()
        }
    }
}

/// The file's text.
pub fn text<'a>(all: impl Iterator<Item = (&'a Key, &'a Hours)>) -> String {
    let tenth = |n: f64| (n * 10.0).round() / 10.0;
    let rows = all.filter(|(_, hours)| !hours.is_empty()).map(|((database, user, backend), hours)| Row {
        database: database.clone(),
        user: user.clone(),
        backend: backend.clone(),
        hours: hours.so_far().iter().map(|n| n.map(tenth)).collect(),
    });
    serde_json::to_string(&rows.collect::<Vec<_>>()).unwrap_or_default()
}

/// Writes it; the file is whole at any time.
pub fn save(dir: &Path, text: &str) {
    let path = path(dir);
    let write = || -> io::Result<()> {
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    if let Err(error) = write() {
        tracing::warn!(file = %path.display(), %error, "cannot keep when pools were used");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_kept_is_there_again() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(load(dir.path()).is_empty());
        let key = |user: &str| ("d\"b".to_string(), user.to_string(), "b".to_string());
        let mut hours = Hours::default();
        (0..100).for_each(|_| hours.note(Duration::ZERO, 7));
        save(dir.path(), &text([(&key("u"), &hours), (&key("idle"), &Hours::default())].into_iter()));
        let again = load(dir.path());
        assert_eq!(again.len(), 1, "who never used any is not kept");
        assert_eq!((again[0].0.clone(), again[0].1.usual(Duration::ZERO)), (key("u"), 7));
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
        for text in ["", "{}", "[{\"database\":1}]", "\0"] {
            fs::write(path(dir.path()), text).expect("written");
            assert!(load(dir.path()).is_empty(), "{text:?}");
        }
        save(&dir.path().join("gone"), "[]");
    }
}
