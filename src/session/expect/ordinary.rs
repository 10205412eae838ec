//! What most answers are: told by one look.

use super::{Expect, Expected, Ready};
use crate::plan::Held;

/// Whether a frame answers what only its client has asked, with nothing to know about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordinary {
    /// It does not, or it takes a closer look.
    No,
    /// It does, and more may follow.
    More,
    /// It does, and what comes next answers what is expected next ([`Expected::answered`]).
    Last,
}

impl Expected {
    /// What [`Expected::answer`] would say, for the most frequent.
    #[inline]
    pub fn ordinary(&self, kind: u8) -> Ordinary {
        match (kind, self.queue.front()) {
            (b'D', Some(Expect::Query(_) | Expect::Execute(..))) | (b'T', Some(Expect::Query(_))) => {
                Ordinary::More
            }
            (b'1', Some(Expect::ParseUnnamed(_)))
            | (b'2', Some(Expect::Bind))
            | (b'T' | b'n', Some(Expect::DescribePortal)) => Ordinary::Last,
            _ => Ordinary::No,
        }
    }

    /// As [`Expected::push`] of a Describe of a portal, an Execute of all of it, and a Sync.
    #[inline]
    pub fn push_usual_end(&mut self, plan: Option<Held>) {
        self.queue.extend([Expect::DescribePortal, Expect::Execute(plan, 0), Expect::Sync]);
        self.ready += 1;
        (self.skipping, self.open) = (false, false);
    }

    /// The last ordinary frame has come for what was expected first.
    #[inline]
    pub fn answered(&mut self) {
        self.queue.pop_front();
    }

    /// As [`Expected::ready`], where that is the last thing owed, and the client's.
    #[inline]
    pub fn last_ready(&mut self) -> Option<Ready> {
        let last =
            self.queue.len() == 1 && matches!(self.queue.front(), Some(Expect::Query(_) | Expect::Sync));
        if last { self.ready() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is owed, and what it leaves, is the same as of the three of them.
    #[test]
    fn the_usual_end() {
        let (mut one, mut three) = (Expected::default(), Expected::default());
        for expected in [&mut one, &mut three] {
            expected.push(Expect::Bind);
        }
        one.push_usual_end(None);
        three.push(Expect::DescribePortal);
        three.push(Expect::Execute(None, 0));
        three.push(Expect::Sync);
        assert_eq!(format!("{one:?}"), format!("{three:?}"));
    }
}
