//! `[[database]] invalidation`: who tells of writes that do not pass through this process.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::people;
use super::raw::{Fault, Section};
use super::words::INVALIDATIONS;
use super::{User, Writers};

/// Who tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Teller {
    /// Nobody.
    #[default]
    Nobody,
    /// The server's WAL: `turnpike cache enable-wal`.
    Wal,
    /// Triggers: `turnpike cache enable-triggers`.
    Triggers,
}

/// How writes elsewhere come to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// Who tells of them.
    pub teller: Teller,
    /// The `[[user]]` that listens, and asks who else writes.
    pub user: Option<String>,
    /// How much later than they were visible.
    pub bound: Duration,
    /// The replication slot; without it, one that is named after the database.
    pub slot: Option<String>,
}

/// How late what is told may be where nothing is said.
pub const BOUND: Duration = Duration::from_millis(200);
const BOUNDS: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(60);
/// Longest name of a slot, in bytes (`NAMEDATALEN`).
const LONGEST: usize = 63;

impl Default for Invalidation {
    /// Nobody tells.
    fn default() -> Self {
        Invalidation { teller: Teller::Nobody, user: None, bound: BOUND, slot: None }
    }
}

impl Invalidation {
    /// Whether anybody tells.
    pub fn is_told(&self) -> bool {
        self.teller != Teller::Nobody
    }

    /// The name of the replication slot for a database, by its name on the server: slots are the whole server's, and
    /// their names have small letters, digits and `_`.
    pub fn slot(&self, dbname: &str) -> String {
        if let Some(slot) = &self.slot {
            return slot.clone();
        }
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let plain = dbname.bytes().take(LONGEST - 9).map(|b| if fits(b) { char::from(b) } else { '_' });
        format!("turnpike_{}", plain.collect::<String>())
    }
}

/// Of a `[[database]]`.
pub(super) fn read(section: &Section<'_>, users: &[User], writers: Option<Writers>) -> Invalidation {
    let teller = section.word("invalidation", INVALIDATIONS).unwrap_or_default();
    let user = people::own_login(section, "invalidation_user", users);
    let slot = section.parsed("invalidation_slot", slot).and_then(|slots| slots.into_iter().next());
    let bound = section.duration("invalidation_bound", BOUNDS).unwrap_or(BOUND);
    if teller == Teller::Nobody {
        if section.has("invalidation_slot") {
            section.report("invalidation_slot", "has no effect without invalidation");
        }
        return Invalidation { teller, user, bound, slot };
    }
    if writers == Some(Writers::Proxy) {
        let fault = Fault::from("has no effect where writers = \"proxy\" says that nobody writes elsewhere");
        section.report("invalidation", fault.hint("leave one of them out"));
    }
    if section.text_quietly("name").is_some_and(|name| name == "*") {
        let fault = Fault::from("needs a database with a name");
        section.report("invalidation", fault.hint("give the database a [[database]] of its own"));
    }
    if !section.has("invalidation_user") {
        let fault = Fault::from("is missing: somebody must listen to what is written elsewhere");
        section.report(
            "invalidation_user",
            fault.hint("name a [[user]] with a password; for \"wal\", one with REPLICATION"),
        );
    }
    if teller == Teller::Triggers && section.has("invalidation_slot") {
        section.report("invalidation_slot", "has no effect where triggers tell");
    }
    Invalidation { teller, user, bound, slot }
}

fn slot(text: &str) -> Result<String, Fault> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let fine = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(fits);
    let fault = || Fault::from(format!("{text:?} is no name of a slot"));
    fine.then(|| text.to_string()).ok_or_else(|| fault().hint("small letters, digits and _, 63 at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_slots() {
        let slot = |dbname: &str| Invalidation::default().slot(dbname);
        assert_eq!(slot("audit"), "turnpike_audit");
        assert_eq!(slot("My-Däta"), "turnpike__y____ta");
        assert_eq!(slot(&"x".repeat(80)).len(), LONGEST);
        let named = Invalidation { slot: Some("own".into()), ..Invalidation::default() };
        assert_eq!(named.slot("audit"), "own");
    }
}
