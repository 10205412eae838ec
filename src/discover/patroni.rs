//! Members that Patroni tells of: `GET /cluster` of its REST API (documentation, "Patroni REST API").

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::place::Place;
use super::{Cluster, Found, look_at};
use crate::config::discovery::Discovery;
use crate::core::limits::MAX_MEMBERS;
use crate::wire::tls::trusting;

/// Longest that one of the addresses may take to answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Largest answer, in bytes.
const LARGEST: usize = 1 << 20;
/// Longest name.
const LONGEST: usize = 63;

/// Asks, again and again.
#[derive(Default)]
pub(super) struct Source {
    client: Option<(Option<PathBuf>, reqwest::Client)>,
    /// Which of the addresses has answered last.
    last: usize,
}

/// An answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    members: Vec<Found>,
    leader: Option<Place>,
}

impl Source {
    /// Who is told of now, by the first that answers.
    ///
    /// # Errors
    /// Why nobody does.
    pub(super) async fn ask(
        &mut self,
        cluster: &Cluster,
        settings: &Discovery,
    ) -> Result<Vec<Found>, String> {
        let client = self.client(settings.patroni_ca.as_deref())?;
        let mut problems = Vec::new();
        for n in 0..settings.patroni.len() {
            let at = (self.last + n) % settings.patroni.len();
            let Some(base) = settings.patroni.get(at) else { continue };
            let answer = tokio::time::timeout(LIMIT, get(&client, &format!("{base}/cluster"))).await;
            match answer
                .unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))
                .and_then(|text| read(&text))
            {
                Ok(told) => {
                    self.last = at;
                    if let Some(leader) = &told.leader {
                        look_at(cluster, leader);
                    }
                    return Ok(told.members);
                }
                Err(problem) => problems.push(format!("{base}: {problem}")),
            }
        }
        Err(problems.join("; "))
    }

    fn client(&mut self, ca: Option<&Path>) -> Result<reqwest::Client, String> {
        if let Some((of, client)) = &self.client
            && of.as_deref() == ca
        {
            return Ok(client.clone());
        }
        let client = client(ca)?;
        self.client = Some((ca.map(Path::to_path_buf), client.clone()));
        Ok(client)
    }
}

fn client(ca: Option<&Path>) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(trusting(ca)?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(LIMIT)
        .build()
        .map_err(|e| e.to_string())
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, String> {
    let failed = |e: reqwest::Error| {
        let cause = std::error::Error::source(&e).map(|cause| format!(": {cause}"));
        format!("{e}{}", cause.unwrap_or_default())
    };
    let mut response = client.get(url).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(format!("answers with {}", response.status()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if text.len() + chunk.len() > LARGEST {
            return Err(format!("the answer is larger than {LARGEST} bytes"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

/// Reads an answer. Members that make no sense are left out.
fn read(text: &[u8]) -> Result<Told, String> {
    let answer: Value = serde_json::from_slice(text).map_err(|e| format!("the answer is not JSON: {e}"))?;
    let members = answer.get("members").and_then(Value::as_array).ok_or("the answer has no members")?;
    let mut told = Told::default();
    for member in members {
        let Some(found) = member_of(member) else { continue };
        let leads = matches!(text_of(member, "role"), Some("leader" | "master" | "primary"));
        if leads {
            told.leader = Some(found.place.clone());
        }
        if told.members.len() < MAX_MEMBERS {
            // Whoever leads is asked for more than reads.
            told.members.push(Found { shunned: found.shunned && !leads, ..found });
        }
    }
    Ok(told)
}

fn text_of<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

/// A member that runs.
fn member_of(member: &Value) -> Option<Found> {
    if !matches!(text_of(member, "state"), Some("running" | "streaming" | "in archive recovery")) {
        return None;
    }
    let port = member.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok())?;
    let place = Place::new(text_of(member, "host")?, port)?;
    let tag = |key: &str| member.get("tags").and_then(|tags| tags.get(key));
    let said = |key: &str| tag(key).and_then(Value::as_str).filter(|text| is_name(text)).map(str::to_string);
    let set = |key: &str| match tag(key) {
        Some(Value::Bool(set)) => *set,
        Some(Value::String(text)) => matches!(text.as_str(), "true" | "yes" | "on" | "1"),
        _ => false,
    };
    Some(Found {
        name: text_of(member, "name").filter(|name| is_name(name)).map(str::to_string),
        place,
        shunned: set("noloadbalance"),
        zone: said("zone"),
        region: said("region"),
    })
}

/// What may be a name here, and in logs and metrics.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\');
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = r#"{"members": [
        {"name": "a", "role": "leader", "state": "running", "api_url": "http://10.0.0.1:8008/patroni",
         "host": "10.0.0.1", "port": 5432, "timeline": 7, "tags": {"noloadbalance": true}},
        {"name": "b", "role": "replica", "state": "streaming", "host": "b.db", "port": 5433, "timeline": 7, "lag": 0,
         "tags": {"zone": "z1", "region": "r", "nofailover": true}},
        {"name": "c", "role": "sync_standby", "state": "streaming", "host": "::1", "port": 5432, "lag": "unknown",
         "tags": {"noloadbalance": "true", "zone": 7}},
        {"name": "down", "role": "replica", "state": "stopped", "host": "10.0.0.9", "port": 5432},
        {"name": "no port", "role": "replica", "state": "running", "host": "10.0.0.9"},
        {"name": "path", "role": "replica", "state": "running", "host": "/tmp", "port": 5432},
        {"name": "q\"uote", "role": "replica", "state": "running", "host": "d", "port": 5432},
        7, null], "scope": "demo", "pause": true}"#;

    #[test]
    fn who_is_told_of() {
        let told = read(ANSWER.as_bytes()).expect("an answer");
        let members: Vec<_> = told
            .members
            .iter()
            .map(|f| (f.name.as_deref(), f.place.to_string(), f.shunned, f.zone.as_deref()))
            .collect();
        let want = [
            (Some("a"), "10.0.0.1:5432".to_string(), false, None),
            (Some("b"), "b.db:5433".to_string(), false, Some("z1")),
            (Some("c"), "[::1]:5432".to_string(), true, None),
            (None, "d:5432".to_string(), false, None),
        ];
        assert_eq!(members, want);
        assert_eq!(told.leader.expect("a leader").to_string(), "10.0.0.1:5432");
        assert_eq!(read(b"{\"members\": []}"), Ok(Told::default()));
        for text in ["", "[]", "{}", "{\"members\": {}}", "<html>", "\u{0}"] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_too_much(at in 0..ANSWER.len(), len in 0usize..40, with in ".{0,20}") {
            let mut text = ANSWER.as_bytes().to_vec();
            text.splice(at..(at + len).min(ANSWER.len()), with.into_bytes());
            if let Ok(told) = read(&text) {
                prop_assert!(told.members.len() <= MAX_MEMBERS);
            }
        }
    }
}
