//! What was found, kept over restarts in a small file: a start while the primary is away still knows its replicas.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Found;
use crate::core::limits::MAX_MEMBERS;

/// The file of a cluster: its name, with what file systems might take amiss in hexadecimal.
fn path(dir: &Path, cluster: &str) -> PathBuf {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let name =
        cluster.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") });
    dir.join(format!("members-{}.json", name.collect::<String>()))
}

/// Reads what was kept. What cannot be read counts as nothing.
pub(super) async fn load(dir: Option<&Path>, cluster: &str) -> Vec<Found> {
    let Some(path) = dir.map(|dir| path(dir, cluster)) else { return Vec::new() };
    let read = tokio::task::spawn_blocking(move || fs::read_to_string(path)).await;
    let Ok(Ok(text)) = read else { return Vec::new() };
    let known: Vec<Found> = serde_json::from_str(&text).unwrap_or_default();
    // Somebody may have been at it.
    let fine = |found: &Found| super::Place::new(&found.place.host, found.place.port).is_some();
    known.into_iter().filter(fine).take(MAX_MEMBERS).collect()
}

/// Writes it; the file is whole at any time.
pub(super) async fn save(dir: Option<&Path>, cluster: &str, known: impl Iterator<Item = &Found>) {
    let Some(path) = dir.map(|dir| path(dir, cluster)) else { return };
    let known: Vec<&Found> = known.collect();
    let Ok(text) = serde_json::to_string_pretty(&known) else { return };
    let written = tokio::task::spawn_blocking(move || write(&path, &text)).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(cluster, %error, "cannot keep who was found");
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_there_again() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(load(Some(dir.path()), "a/b").await, []);
        let place = Place::new("db", 1).expect("a place");
        let found =
            Found { name: Some("x".into()), place, shunned: true, zone: Some("z".into()), region: None };
        save(Some(dir.path()), "a/b", [&found].into_iter()).await;
        assert_eq!(load(Some(dir.path()), "a/b").await, [found]);
        assert_eq!(load(None, "a/b").await, []);
        for text in [
            "",
            "{}",
            "[{\"place\": 7}]",
            "[{\"name\":null,\"place\":{\"host\":\"/tmp\",\"port\":1},\"shunned\":false}]",
        ] {
            fs::write(path(dir.path(), "a/b"), text).expect("written");
            assert_eq!(load(Some(dir.path()), "a/b").await, [], "{text}");
        }
    }
}
