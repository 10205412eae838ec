//! Tells CDNs what is outdated, by tag: with requests of method PURGE or BAN, as Varnish and others take them, or by
//! Fastly's (developer.fastly.com, "Purge multiple surrogate key tags") and Cloudflare's API (developers.cloudflare.com,
//! "Purge cached content by tag").
//!
//! Each tag is told twice: at once, and again when an answer that was on its way while it was written must have arrived,
//! which a CDN would have kept after it was told. A request that fails is made again until it does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::{Client, Method, RequestBuilder};
use tokio::sync::Notify;

use crate::config::{Cdn, CdnKind};
use crate::core::clock::Instant;
use crate::core::keyfile;
use crate::core::ledger::Told;
use crate::wire::tls;

/// Tags in one request: Cloudflare takes 100, Fastly 256.
const BATCH: usize = 100;
/// When a tag is told again: longer than an answer is on its way from us to the edge.
const AGAIN: Duration = Duration::from_secs(2);
/// Pauses after requests that fail.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How often it is looked whether something is due.
const ROUND: Duration = Duration::from_millis(50);
/// Largest token of an API, in bytes.
const TOKEN: usize = 4096;

/// When a tag is to be told.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// When it was found to be outdated.
    since: Instant,
    /// Once more after that.
    again: bool,
}

/// What one CDN is to be told.
#[derive(Debug)]
pub struct Line {
    /// What the configuration says of it.
    pub cdn: Cdn,
    due: Mutex<BTreeMap<String, Due>>,
    come: Notify,
    told: Arc<Told>,
}

impl Line {
    /// An empty one; `told` is its account.
    pub fn new(cdn: Cdn, told: Arc<Told>) -> Arc<Line> {
        Arc::new(Line { cdn, due: Mutex::default(), come: Notify::new(), told })
    }

    /// Has a tag told, at once.
    pub fn tell(&self, tag: &str, now: Instant) {
        let mut due = self.due.lock();
        let since = due.get(tag).filter(|due| due.at <= now).map_or(now, |due| due.since);
        due.insert(tag.to_string(), Due { at: now, since, again: true });
        drop(due);
        self.come.notify_one();
    }

    /// Tells what is due for as long as it is polled.
    pub async fn run(self: Arc<Line>) {
        let mut connected = None;
        let mut pause = PAUSES.0;
        loop {
            let _ = tokio::time::timeout(ROUND, self.come.notified()).await;
            let batch = self.take(Instant::now());
            if batch.is_empty() {
                self.note(None);
                continue;
            }
            let tags: Vec<&str> = batch.keys().map(String::as_str).collect();
            match self.send(&mut connected, &tags).await {
                Ok(()) => {
                    pause = PAUSES.0;
                    self.done(batch, Instant::now());
                    self.note(None);
                }
                Err(error) => {
                    // Its authority may be another by now: the file is read again.
                    connected = None;
                    tracing::warn!(cdn = self.cdn.name, error, "it was not told what is outdated");
                    self.told.failed.add(1);
                    self.put_back(batch);
                    self.note(Some(error));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    async fn send(&self, connected: &mut Option<Client>, tags: &[&str]) -> Result<(), String> {
        let client = match connected {
            Some(client) => client,
            None => connected.insert(client(&self.cdn)?),
        };
        send(client, &self.cdn, tags).await
    }

    fn note(&self, error: Option<String>) {
        *self.told.now.lock() = (self.due.lock().len(), error);
    }

    /// Takes out what is due.
    fn take(&self, now: Instant) -> BTreeMap<String, Due> {
        let mut due = self.due.lock();
        let tags: Vec<String> =
            due.iter().filter(|(_, due)| due.at <= now).map(|(tag, _)| tag.clone()).take(BATCH).collect();
        tags.into_iter().filter_map(|tag| due.remove_entry(&tag)).collect()
    }

    fn done(&self, batch: BTreeMap<String, Due>, now: Instant) {
        self.told.done.add(1);
        self.told.tags.add(batch.len() as u64);
        let mut all = self.due.lock();
        for (tag, due) in batch {
            if due.again {
                self.told.took.record(now.since(due.since));
                // What has been found to be outdated once more meanwhile is told before.
                all.entry(tag).or_insert(Due { at: now + AGAIN, since: now, again: false });
            }
        }
    }

    /// It was not told; what was outdated first counts.
    fn put_back(&self, batch: BTreeMap<String, Due>) {
        let mut all = self.due.lock();
        for (tag, due) in batch {
            let newer = all.insert(tag.clone(), due);
            if let (Some(newer), Some(held)) = (newer, all.get_mut(&tag)) {
                held.again |= newer.again;
            }
        }
    }
}

fn client(cdn: &Cdn) -> Result<Client, String> {
    // Whoever comes first chooses who does the arithmetic.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder =
        Client::builder().timeout(cdn.timeout).redirect(reqwest::redirect::Policy::none()).no_proxy();
    let builder = match &cdn.ca {
        Some(ca) => builder.tls_backend_preconfigured(tls::trusting(Some(ca))?),
        // The system's root certificates are what it goes by.
        None => builder,
    };
    builder.build().map_err(|e| e.to_string())
}

/// What went wrong, down to the cause.
fn failed(error: reqwest::Error) -> String {
    // Where it goes has no secret in it, but says nothing that the name of the CDN does not.
    let error = error.without_url();
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

async fn send(client: &Client, cdn: &Cdn, tags: &[&str]) -> Result<(), String> {
    let token = match &cdn.token_file {
        Some(path) => {
            let bytes = keyfile::read(path, "token file", TOKEN)?;
            let text = String::from_utf8(bytes).map_err(|_| "the token file is not UTF-8")?;
            Some(text.trim().to_string())
        }
        None => None,
    };
    let request = request(client, cdn, token.as_deref().unwrap_or_default(), tags)?;
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    if cdn.kind == CdnKind::Cloudflare {
        let text = answer.text().await.map_err(failed)?;
        let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if said["success"] != true {
            return Err("it answers that it has not done it".into());
        }
    }
    Ok(())
}

fn request(client: &Client, cdn: &Cdn, token: &str, tags: &[&str]) -> Result<RequestBuilder, String> {
    let method = |name: &str| Method::from_bytes(name.as_bytes()).map_err(|e| e.to_string());
    let Cdn { url, service, .. } = cdn;
    let request = match cdn.kind {
        CdnKind::Purge => client.request(method("PURGE")?, url).header("surrogate-key", tags.join(" ")),
        // Tags have nothing in them that means something in a regular expression, which must have no space in it.
        CdnKind::Ban => {
            let pattern = format!(r"(^|\s)({})(\s|$)", tags.join("|"));
            client.request(method("BAN")?, url).header("x-surrogate-key", pattern)
        }
        CdnKind::Fastly => client
            .post(format!("{url}/service/{service}/purge"))
            .header("fastly-key", token)
            .header("accept", "application/json")
            .header("surrogate-key", tags.join(" ")),
        CdnKind::Cloudflare => client
            .post(format!("{url}/client/v4/zones/{service}/purge_cache"))
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(serde_json::json!({ "tags": tags }).to_string()),
    };
    let other = matches!(cdn.kind, CdnKind::Purge | CdnKind::Ban) && !token.is_empty();
    Ok(if other { request.bearer_auth(token) } else { request })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Arc<Line> {
        let cdn = Cdn {
            name: "edge".into(),
            kind: CdnKind::Ban,
            url: "http://127.0.0.1:1".into(),
            service: String::new(),
            token_file: None,
            ca: None,
            timeout: Duration::from_secs(1),
        };
        Line::new(cdn, Arc::default())
    }

    #[test]
    fn each_tag_is_told_twice() {
        let (line, now) = (line(), Instant::now());
        line.tell("a", now);
        line.tell("b", now);
        let batch = line.take(now);
        assert_eq!(batch.len(), 2);
        // One of them has been written once more while that was under way.
        line.tell("b", now);
        line.done(batch, now);
        assert_eq!(line.take(now).into_keys().collect::<Vec<_>>(), ["b"]);
        assert!(line.take(now + AGAIN / 2).is_empty());
        let second = line.take(now + AGAIN);
        assert_eq!(second.keys().collect::<Vec<_>>(), ["a"]);
        line.done(second, now + AGAIN);
        assert!(line.take(now + AGAIN * 9).is_empty());
    }

    #[test]
    fn what_fails_is_told_later() {
        let (line, now) = (line(), Instant::now());
        line.tell("a", now);
        let batch = line.take(now);
        line.put_back(batch);
        let batch = line.take(now);
        assert_eq!(batch.len(), 1);
        assert!(batch.values().all(|due| due.again && due.since == now));
    }
}
