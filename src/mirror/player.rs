//! Runs exchanges on a connection as their sessions ran them: under their settings, with their prepared statements.

use std::collections::HashMap;
use std::time::Duration;

use super::link::{Address, Link, split};
use crate::core::clock::Instant;
use crate::core::error::{Error, Result, SqlState};
use crate::pool::connect::Target;
use crate::pool::settings::Settings;
use crate::wire::message::{TxStatus, cstr};
use crate::wire::reply;
use crate::wire::summary::{Key, Outcome};

/// An exchange to be run.
#[derive(Debug)]
pub struct Script<'a> {
    /// What its session has set; `None` where the connection has that already.
    pub settings: Option<&'a Settings>,
    /// Names and bodies of statements that it uses.
    pub statements: Vec<(&'a [u8], &'a [u8])>,
    /// The client's messages.
    pub requests: &'a [u8],
}

/// How connections are used.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Longest time for an exchange.
    pub timeout: Duration,
    /// Nothing but reading is allowed.
    pub only_reads: bool,
    /// Of checksums.
    pub key: Key,
}

/// What came of one.
#[derive(Debug)]
pub struct Played {
    /// How its statements ended.
    pub results: Vec<Outcome>,
    /// From sending it to ReadyForQuery, in microseconds.
    pub took_us: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Player {
    link: Link,
    manner: Manner,
    settings: Settings,
    /// Named statements that the connection has, where that is certain.
    known: HashMap<Box<[u8]>, Box<[u8]>>,
}

/// Most statements that a connection keeps.
const MOST_KNOWN: usize = 1000;
/// Time beyond the server's own limit after which it is given up.
const GRACE: Duration = Duration::from_millis(500);

impl Player {
    /// Opens a connection.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn open(target: &Target, address: &Address, manner: Manner) -> Result<Player> {
        let link = Link::open(target, address).await?;
        Ok(Player { link, manner, settings: Settings::default(), known: HashMap::new() })
    }

    /// Whether it is in a transaction.
    pub fn is_busy(&self) -> bool {
        self.link.status != TxStatus::Idle
    }

    /// Runs one.
    ///
    /// # Errors
    /// The connection is lost, or of no use any more: the server has not answered in time.
    pub async fn play(&mut self, script: &Script<'_>) -> Result<Played> {
        let limit = self.manner.timeout + GRACE;
        let late = |_| Error::backend(SqlState::QUERY_CANCELED, format!("no answer within {limit:?}"));
        tokio::time::timeout(limit, self.play_unbounded(script)).await.map_err(late)?
    }

    async fn play_unbounded(&mut self, script: &Script<'_>) -> Result<Played> {
        if let Some(settings) = script.settings {
            self.carry(settings).await?;
        }
        let key = self.manner.key;
        let preparing = self.preparing(script);
        if !preparing.is_empty() {
            let prepared = self.link.ask(&preparing, b"", key).await?;
            if let Some(failed) = prepared.into_iter().find(|outcome| outcome.code.is_some()) {
                self.known.clear();
                return Ok(Played { results: vec![failed], took_us: 0 });
            }
        }
        let (head, tail) = at_copy_data(script.requests);
        let began = Instant::now();
        let results = self.link.ask(head, tail, key).await?;
        let took_us = Instant::now().micros_since(began);
        self.learn(script, results.iter().all(|outcome| outcome.code.is_none()));
        Ok(Played { results, took_us })
    }

    /// Gives the connection a session's settings, and ours.
    async fn carry(&mut self, settings: &Settings) -> Result<()> {
        let mut want = settings.clone();
        if want.get("statement_timeout").is_none() {
            want.set("statement_timeout", &self.manner.timeout.as_millis().to_string());
        }
        if self.manner.only_reads {
            want.set("default_transaction_read_only", "on");
        }
        if want == self.settings {
            return Ok(());
        }
        let mut bytes = Vec::new();
        reply::query(&mut bytes, &self.settings.statement_to(&want));
        let outcomes = self.link.ask(&bytes, b"", self.manner.key).await?;
        if let Some(code) = outcomes.iter().find_map(|outcome| outcome.code) {
            return Err(Error::backend(code, "the session's settings cannot be carried there"));
        }
        self.settings = want;
        Ok(())
    }

    /// What makes statements ready that the requests use, or are to make.
    fn preparing(&mut self, script: &Script<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        // In a transaction that has failed nothing can be prepared, and nothing is run.
        if self.link.status == TxStatus::Failed {
            return bytes;
        }
        if self.known.len() > MOST_KNOWN {
            let known = std::mem::take(&mut self.known);
            known.keys().for_each(|name| reply::close_statement(&mut bytes, name));
        }
        for (name, body) in &script.statements {
            if !name.is_empty() && self.known.get(*name).is_some_and(|known| **known == **body) {
                continue;
            }
            if !name.is_empty() {
                reply::close_statement(&mut bytes, name);
                self.known.insert((*name).into(), (*body).into());
            }
            reply::parse(&mut bytes, name, body);
        }
        // Where many sessions share a connection, another may have a statement of that name.
        for (name, _) in
            parses(script.requests).filter(|(name, _)| self.manner.only_reads && !name.is_empty())
        {
            reply::close_statement(&mut bytes, name);
        }
        if !bytes.is_empty() {
            bytes.extend_from_slice(reply::SYNC);
        }
        bytes
    }

    /// Notes what the requests have prepared, and what they may have taken away.
    fn learn(&mut self, script: &Script<'_>, succeeded: bool) {
        for (kind, body) in messages(script.requests) {
            match (kind, body) {
                (b'P', body) => match cstr(body) {
                    Some((name, body)) if succeeded && !name.is_empty() => {
                        self.known.insert(name.into(), body.into());
                    }
                    Some((name, _)) => drop(self.known.remove(name)),
                    None => {}
                },
                (b'C', [b'S', name @ ..]) => {
                    self.known.remove(cstr(name).map_or(name, |(name, _)| name));
                }
                (b'Q', text) if takes_away(text) => self.known.clear(),
                _ => {}
            }
        }
    }
}

/// Kinds and bodies of some messages.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (kind, body, others) = split(rest)?;
        rest = others;
        Some((kind, body))
    })
}

/// Names and bodies of the statements that some messages prepare.
fn parses(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    messages(bytes).filter(|(kind, _)| *kind == b'P').filter_map(|(_, body)| cstr(body))
}

/// Whether a text may take prepared statements away.
fn takes_away(text: &[u8]) -> bool {
    let has = |word: &[u8]| text.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
    has(b"deallocate") || has(b"discard")
}

/// What comes before COPY data, and the rest.
fn at_copy_data(messages: &[u8]) -> (&[u8], &[u8]) {
    let mut rest = messages;
    while let Some((kind, _, others)) = split(rest) {
        if matches!(kind, b'd' | b'c' | b'f') {
            return messages.split_at(messages.len() - rest.len());
        }
        rest = others;
    }
    (messages, b"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_taken_apart() {
        let mut bytes = Vec::new();
        reply::parse(&mut bytes, b"a", b"SELECT 1\0\0\0");
        reply::query(&mut bytes, "COPY t FROM STDIN");
        let head = bytes.len();
        reply::copy_fail(&mut bytes, "no");
        assert_eq!(parses(&bytes).collect::<Vec<_>>(), [(&b"a"[..], &b"SELECT 1\0\0\0"[..])]);
        assert_eq!(at_copy_data(&bytes).0.len(), head);
        assert_eq!(at_copy_data(&bytes[..head]), (&bytes[..head], &b""[..]));
        assert!(
            takes_away(b" Discard ALL\0") && takes_away(b"BEGIN; DEALLOCATE a\0") && !takes_away(b"SELECT 1")
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let (head, tail) = at_copy_data(&bytes);
            prop_assert_eq!(head.len() + tail.len(), bytes.len());
            parses(&bytes).count();
        }
    }
}
