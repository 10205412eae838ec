//! Who is the primary, from what the members say of themselves. A pure decision; what was known before is passed in.
//!
//! The server's own word counts, and timelines say whose word is newer: each promotion begins one. So the primary is the
//! one member that is not in recovery and is on the newest timeline that any member has been seen on, now or before. Two
//! of them on the same timeline cannot be told apart: nobody takes writes until an operator has decided. Configured
//! roles only narrow this: a `replica` never takes writes, and once promoted takes nothing at all (what it has may have
//! parted from the others'; `auto` is for those that may be promoted); a `primary` that is in recovery serves reads.

use crate::config::Role;

/// What a member is, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has answered yet.
    Unknown,
    /// It does not answer.
    Unreachable,
    /// It takes writes.
    Primary,
    /// It follows the primary, and takes reads.
    Replica,
    /// It is in recovery, but not on the primary's timeline, as far as it shows: its data may have parted from the primary's.
    OtherTimeline,
    /// It is not in recovery, on an old timeline: a primary of the past.
    Stale,
    /// It is not in recovery, and so is another on the same timeline.
    Rival,
    /// It is not in recovery, and configured as a replica.
    Promoted,
    /// It has the data of another cluster: its system identifier differs.
    Stranger,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [State; 9] = [
        State::Unknown,
        State::Unreachable,
        State::Primary,
        State::Replica,
        State::OtherTimeline,
        State::Stale,
        State::Rival,
        State::Promoted,
        State::Stranger,
    ];

    /// Whether statements are sent to it.
    pub fn is_used(self) -> bool {
        matches!(self, State::Primary | State::Replica)
    }

    /// A word for it.
    pub fn label(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Unreachable => "unreachable",
            State::Primary => "primary",
            State::Replica => "replica",
            State::OtherTimeline => "other timeline",
            State::Stale => "stale primary",
            State::Rival => "rival primary",
            State::Promoted => "promoted replica",
            State::Stranger => "wrong system",
        }
    }
}

/// What one member says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Whether it is in recovery.
    pub in_recovery: bool,
    /// The timeline that it is on, at least; `None` where it may not tell.
    pub timeline: Option<u32>,
    /// Its system identifier; `None` where it may not tell.
    pub system: Option<u64>,
}

/// One member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What it is meant to be.
    pub role: Role,
    /// What it says now; `None` where it does not answer.
    pub word: Option<Word>,
    /// Whether it has been asked at all.
    pub asked: bool,
}

/// What is known from before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The members' system identifier, once most agree on one.
    pub system: Option<u64>,
    /// The newest timeline that any member was seen on; 0 for none.
    pub newest: u32,
    /// Whether that has grown since there first was a primary.
    pub grown: bool,
    /// The last primary, and its timeline.
    pub primary: Option<(usize, u32)>,
}

/// Decides. The states are those of the views, in order.
pub fn elect(views: &[View], memory: &mut Memory) -> Vec<State> {
    memory.system = memory.system.or_else(|| common_system(views));
    let is_stranger = |word: &Word| memory.system.zip(word.system).is_some_and(|(a, b)| a != b);
    // Who cannot be the primary does not say what is new either, unless it follows somebody.
    let counts =
        |view: &&View| view.word.is_some_and(|w| !is_stranger(&w) && (w.in_recovery || may_lead(view)));
    let timelines = views.iter().filter(counts).filter_map(|v| v.word?.timeline);
    let newest = timelines.fold(memory.newest, u32::max);
    memory.grown |= memory.primary.is_some() && newest > memory.newest;
    memory.newest = newest;
    let leads = |view: &View| {
        let Some(word) = view.word else { return false };
        may_lead(view) && !word.in_recovery && !is_stranger(&word) && word.timeline.unwrap_or(0) == newest
    };
    // Until it is known whose data they have, nobody is the primary.
    let settled = memory.system.is_some() || views.iter().all(|v| v.word.is_none_or(|w| w.system.is_none()));
    let leaders = views.iter().filter(|v| leads(v)).count();
    let follows = |timeline: Option<u32>| timeline.map_or(!memory.grown, |t| t == newest);
    let state = |view: &View| match view.word {
        None if view.asked => State::Unreachable,
        None => State::Unknown,
        Some(word) if is_stranger(&word) => State::Stranger,
        Some(_) if !settled => State::Unknown,
        Some(word) if word.in_recovery && follows(word.timeline) => State::Replica,
        Some(word) if word.in_recovery => State::OtherTimeline,
        Some(_) if !may_lead(view) => State::Promoted,
        Some(_) if !leads(view) => State::Stale,
        Some(_) if leaders > 1 => State::Rival,
        Some(_) => State::Primary,
    };
    let states: Vec<State> = views.iter().map(state).collect();
    if let Some(i) = states.iter().position(|s| *s == State::Primary) {
        memory.primary = Some((i, newest));
    }
    states
}

fn may_lead(view: &View) -> bool {
    view.role != Role::Replica
}

/// The system identifier that most members have; of those that as many have, the one that is listed first. Decided at
/// once where it is more than half of all, else when all have been asked.
fn common_system(views: &[View]) -> Option<u64> {
    let known = || views.iter().filter_map(|v| v.word?.system);
    let votes = |system: u64| known().filter(|s| *s == system).count();
    // The last of the greatest is taken, and the first listed is to be.
    let most = known().collect::<Vec<_>>().into_iter().rev().max_by_key(|s| votes(*s))?;
    (votes(most) * 2 > views.len() || views.iter().all(|v| v.asked)).then_some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `p3` is out of recovery on timeline 3, `r3` in recovery; `?` has not been asked, `x` does not answer. `=replica`
    /// is the configured role, `@2` the system identifier (1 if not given), `r-` a replica that may not tell its timeline.
    fn view(text: &str) -> View {
        let (text, role) = match text.split_once('=') {
            Some((text, "replica")) => (text, Role::Replica),
            Some((text, _)) => (text, Role::Primary),
            None => (text, Role::Auto),
        };
        let (text, system) = text.split_once('@').unwrap_or((text, "1"));
        let word = |in_recovery| {
            Some(Word {
                in_recovery,
                timeline: text.get(1..).and_then(|t| t.parse().ok()),
                system: system.parse().ok(),
            })
        };
        match text.as_bytes().first() {
            Some(b'p') => View { role, word: word(false), asked: true },
            Some(b'r') => View { role, word: word(true), asked: true },
            first => View { role, word: None, asked: first == Some(&b'x') },
        }
    }

    fn check(memory: &mut Memory, views: &str, want: &str) {
        let views: Vec<View> = views.split(' ').map(view).collect();
        let states: Vec<&str> = elect(&views, memory).iter().map(|s| s.label()).collect();
        assert_eq!(states.join(", "), want, "{views:?}");
    }

    #[test]
    fn one_look() {
        for (views, want) in [
            ("p1 r1 r1", "primary, replica, replica"),
            ("? r1 r1", "unknown, replica, replica"),
            ("x r1 r1", "unreachable, replica, replica"),
            ("p1 p2 r2", "stale primary, primary, replica"),
            ("p1 p1 r1", "rival primary, rival primary, replica"),
            ("p2 r1 r2", "primary, other timeline, replica"),
            ("p1 r2", "stale primary, replica"),
            ("p1 r-", "primary, replica"),
            ("p1 p2=replica r1", "primary, promoted replica, replica"),
            ("r1=primary p1", "replica, primary"),
            ("p1=replica r1", "promoted replica, replica"),
            ("p1 r1 r1@2", "primary, replica, wrong system"),
            ("p1@2 r1 r1", "wrong system, replica, replica"),
            ("p1 r1@2", "primary, wrong system"),
            ("p1 ? ?", "unknown, unknown, unknown"),
            ("p1 x ?", "unknown, unreachable, unknown"),
            ("p1 x x", "primary, unreachable, unreachable"),
            ("p1 r1 ?", "primary, replica, unknown"),
            ("p1@- r1@-", "primary, replica"),
            ("p1@- r1", "primary, replica"),
        ] {
            check(&mut Memory::default(), views, want);
        }
    }

    #[test]
    fn a_primary_of_the_past_never_is_one_again() {
        let mut memory = Memory::default();
        check(&mut memory, "p1 r1 r1", "primary, replica, replica");
        check(&mut memory, "x r1 r1", "unreachable, replica, replica");
        check(&mut memory, "x p2 r1", "unreachable, primary, other timeline");
        check(&mut memory, "p1 p2 r2", "stale primary, primary, replica");
        check(&mut memory, "p1 x r2", "stale primary, unreachable, replica");
        check(&mut memory, "p1 x x", "stale primary, unreachable, unreachable");
        check(&mut memory, "r2 p2 r-", "replica, primary, other timeline");
        assert_eq!(memory.primary, Some((1, 2)));
    }

    #[test]
    fn strangers_stay_strangers() {
        let mut memory = Memory::default();
        check(&mut memory, "p1 r1", "primary, replica");
        check(&mut memory, "x p9@2", "unreachable, wrong system");
        check(&mut memory, "p1@2 p1@2", "wrong system, wrong system");
        assert_eq!(memory.newest, 1, "their timelines say nothing");
    }
}
