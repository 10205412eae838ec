//! What is asked for again and again, on disk: the requests, with whose they are, in a small file in `state_dir`, encrypted
//! as recordings are, since clients' values are in them. No result is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::General;
use crate::mirror::file::key::Key;
use crate::mirror::file::seal::{Opener, Sealer};
use crate::session::shared::Shared;
use crate::session::warming;
use crate::session::warmth::{Hot, Request, Who};

/// How often it is written.
const ROUND: Duration = Duration::from_secs(60);
/// Most bytes of it that are read.
const MOST: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Row {
    who: Who,
    request: Request,
    asked: u32,
}

/// Where it is, and under which key. `None` where it is not configured.
fn place(general: &General) -> Option<(PathBuf, PathBuf)> {
    Some((general.state_dir.as_ref()?.join("warm"), general.cache_warm_key_file.clone()?))
}

/// Reads it: what cannot be read is told of, and counts as nothing. Then keeps it for as long as it is polled, and has what
/// is asked for often read again.
pub async fn run(shared: Arc<Shared>) {
    let place = place(&shared.config.load().general);
    if let Some((path, key)) = &place {
        match load(path, key) {
            Ok(kept) => shared.warmth.recall(kept),
            Err(error) => {
                tracing::warn!(file = %path.display(), error, "cannot read what was asked for most")
            }
        }
    }
    let keep = async {
        while place.is_some() {
            tokio::time::sleep(ROUND).await;
            keep(&shared).await;
        }
    };
    tokio::join!(warming::run(shared.clone()), keep);
}

/// Writes it, if that is configured.
pub async fn keep(shared: &Arc<Shared>) {
    let Some((path, key)) = place(&shared.config.load().general) else { return };
    warming::gather(shared).await;
    let all = shared.warmth.all(None);
    let saved = tokio::task::spawn_blocking({
        let path = path.clone();
        move || save(&path, &key, all)
    });
    if let Err(error) = saved.await.unwrap_or_else(|e| Err(e.to_string())) {
        tracing::warn!(file = %path.display(), error, "cannot keep what is asked for most");
    }
}

fn load(path: &Path, key: &Path) -> Result<Vec<Hot>, String> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(|e| e.to_string())?,
    };
    let mut opener = Opener::new(BufReader::new(file), &Key::read(key)?).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    while let Some(part) = opener.next_part().map_err(|e| e.to_string())? {
        bytes.extend_from_slice(part);
        if bytes.len() > MOST {
            return Err("it is too large".into());
        }
    }
    let rows: Vec<Row> = postcard::from_bytes(&bytes).map_err(|e| e.to_string())?;
    let hot = |row: Row| Hot { who: Arc::new(row.who), request: Arc::new(row.request), asked: row.asked };
    Ok(rows.into_iter().map(hot).collect())
}

/// The file is whole at any time.
fn save(path: &Path, key: &Path, all: Vec<Hot>) -> Result<(), String> {
    let row = |hot: Hot| Row { who: (*hot.who).clone(), request: (*hot.request).clone(), asked: hot.asked };
    let rows: Vec<Row> = all.into_iter().map(row).collect();
    let bytes = postcard::to_allocvec(&rows).map_err(|e| e.to_string())?;
    let key = Key::read(key)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut sealer = Sealer::new(file, &key)?;
        sealer.add(&bytes)?;
        let mut file = sealer.finish()?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_is_there_again_and_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("warm"), dir.path().join("warm.key"));
        fs::write(&key, [7; 32]).unwrap();
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(load(&path, &key).unwrap().is_empty());
        let pairs = vec![("timezone".to_string(), "UTC".to_string())];
        let who = Who { database: "d".into(), user: "u".into(), class: pairs, settings: Vec::new() };
        let statement = b"SELECT 'the patient''s name'".to_vec();
        let request = Request { simple: true, statement, bind: Vec::new(), describes: (false, false) };
        let hot = Hot { who: Arc::new(who), request: Arc::new(request), asked: 5 };
        save(&path, &key, vec![hot.clone()]).unwrap();
        let kept = load(&path, &key).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((&kept[0].who, &kept[0].request, kept[0].asked), (&hot.who, &hot.request, 5));
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|w| w == b"patient"));
        fs::write(&key, [8; 32]).unwrap();
        assert!(load(&path, &key).is_err());
    }
}
