//! How much may wait somewhere: so many things, of so many bytes. What is beyond that is dropped and counted, since
//! nobody waits for room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::stats::Counter;

/// See the module.
#[derive(Debug)]
pub struct Budget {
    things: AtomicUsize,
    bytes: AtomicUsize,
    most_things: usize,
    most_bytes: usize,
    /// What there was no room for.
    pub dropped: Counter,
}

/// What a thing takes of a budget; given back with the value.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// Room for so many things and bytes.
    pub fn new(most_things: usize, most_bytes: usize) -> Arc<Budget> {
        Arc::new(Budget {
            things: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            most_things,
            most_bytes,
            dropped: Counter::default(),
        })
    }

    /// Room for a thing of so many bytes; `None`, which is counted, where there is none.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        if self.things.fetch_add(1, Relaxed) >= self.most_things {
            self.things.fetch_sub(1, Relaxed);
            self.dropped.add(1);
            return None;
        }
        // From here on what has been taken is given back with it.
        let mut room = Room { budget: self.clone(), bytes: 0 };
        room.grow(bytes).then_some(room)
    }

    /// Things and bytes that wait now.
    pub fn used(&self) -> (usize, usize) {
        (self.things.load(Relaxed), self.bytes.load(Relaxed))
    }
}

impl Room {
    /// Takes more; false, which is counted, where there is no more.
    pub fn grow(&mut self, bytes: usize) -> bool {
        if self.budget.bytes.fetch_add(bytes, Relaxed).saturating_add(bytes) > self.budget.most_bytes {
            self.budget.bytes.fetch_sub(bytes, Relaxed);
            self.budget.dropped.add(1);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Relaxed);
        self.budget.things.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_beyond_is_dropped_and_counted() {
        let budget = Budget::new(2, 10);
        let mut one = budget.take(4).unwrap();
        let two = budget.take(6).unwrap();
        assert!(budget.take(0).is_none() && !one.grow(1));
        assert_eq!((budget.used(), budget.dropped.get()), ((2, 10), 2));
        drop(two);
        assert!(one.grow(6) && budget.take(1).is_none());
        drop(one);
        assert_eq!((budget.used(), budget.dropped.get()), ((0, 0), 3));
    }

    proptest! {
        /// Never more than there is room for, and all is given back.
        #[test]
        fn never_beyond(sizes in proptest::collection::vec((0usize..8, any::<bool>()), 0..60)) {
            let budget = Budget::new(5, 16);
            let mut held = Vec::new();
            for (size, lets_go) in sizes {
                if lets_go { held.pop(); }
                held.extend(budget.take(size));
                let (things, bytes) = budget.used();
                prop_assert!(things == held.len() && things <= 5 && bytes <= 16);
            }
            held.clear();
            prop_assert_eq!(budget.used(), (0, 0));
        }
    }
}
