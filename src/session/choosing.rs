//! Looks after the shapes that rules with `auto = true` may choose: counts what plans have seen, has that judged
//! ([`crate::cache::benefit`]), and sets the flag that sessions look at in the plan.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;

use super::shared::Shared;
use crate::cache::benefit::{Account, Counted, State};
use crate::core::clock::Instant;
use crate::fence::versions::Versions;
use crate::plan::Plan;

/// How often they are judged.
const ROUND: Duration = Duration::from_millis(500);
/// Rounds after which it is counted anew how much memory the results of each take: all of them are gone through for that.
const WEIGH: u32 = 20;
/// Shapes that are tried at once.
const MOST_TRIALS: usize = 8;
/// Shapes that are judged, those first whose results are kept, then those that are asked for most.
const MOST: usize = 4096;

/// A shape, in the database that it was asked in.
type Shape = (String, u128);

/// How the shapes stand that may be chosen.
#[derive(Debug, Default)]
pub struct Choices(Mutex<HashMap<Shape, Account>>);

impl Choices {
    /// Why a shape stands as it does, for people.
    pub fn reason(&self, database: &str, fingerprint: u128) -> Option<String> {
        self.0.lock().get(&(database.to_string(), fingerprint)).map(Account::reason)
    }

    /// How many shapes are kept, and how many are on trial.
    pub fn counts(&self) -> (u64, u64) {
        let accounts = self.0.lock();
        let of = |state| accounts.values().filter(|account| account.state == state).count() as u64;
        (of(State::Chosen), of(State::Trial))
    }

    /// Judges all shapes by what is counted of them now; tells how each stands.
    fn judge(&self, counted: HashMap<Shape, Counted>, memory: u64) -> HashMap<Shape, State> {
        let mut accounts = self.0.lock();
        accounts.retain(|shape, _| counted.contains_key(shape));
        let mut ranked: Vec<(Shape, Counted)> = counted.into_iter().collect();
        ranked.sort_by_key(|(shape, now)| {
            let kept = accounts.get(shape).is_some_and(|account| account.state != State::Out);
            (!kept, std::cmp::Reverse(now.calls))
        });
        for (shape, _) in ranked.iter().skip(MOST) {
            accounts.remove(shape);
        }
        ranked.truncate(MOST);
        for (shape, now) in ranked {
            let account = accounts.entry(shape).or_default();
            account.look(now, ROUND, memory);
            account.judge();
        }
        let on_trial = accounts.values().filter(|account| account.state == State::Trial).count();
        let mut waiting: Vec<&mut Account> =
            accounts.values_mut().filter(|account| account.wants_trial()).collect();
        waiting.sort_by(|a, b| b.benefit().total_cmp(&a.benefit()));
        waiting.into_iter().take(MOST_TRIALS.saturating_sub(on_trial)).for_each(Account::try_out);
        accounts.iter().map(|(shape, account)| (shape.clone(), account.state)).collect()
    }
}

fn shape(plan: &Plan) -> Shape {
    (plan.home.database.clone(), plan.fingerprint)
}

/// Looks after them for as long as it is polled.
pub async fn run(shared: Arc<Shared>) {
    let (mut rounds, mut sizes) = (0u32, HashMap::new());
    loop {
        tokio::time::sleep(ROUND).await;
        let choosing = shared.planner.rules().cache.choosing();
        if choosing == 0 || shared.cache.is_none() {
            continue;
        }
        if rounds.is_multiple_of(WEIGH)
            && let Some(cache) = shared.cache.clone()
        {
            // There may be very many: not on a worker.
            sizes = tokio::task::spawn_blocking(move || cache.by_shape()).await.unwrap_or_default();
        }
        rounds = rounds.wrapping_add(1);
        round(&shared, choosing, &sizes);
    }
}

/// One round.
fn round(shared: &Shared, choosing: u64, sizes: &HashMap<u128, (u64, u64)>) {
    let Some(cache) = &shared.cache else { return };
    let mut plans = shared.planner.store.all();
    plans.retain(|plan| plan.cache.rules & choosing != 0 && plan.cache.refused.is_none());
    let mut versions: HashMap<String, Option<Arc<Versions>>> = HashMap::new();
    let mut counted: HashMap<Shape, Counted> = HashMap::new();
    for plan in &plans {
        let Some(own) = plan.cache.account() else { continue };
        let database = &plan.home.database;
        let versions = versions.entry(database.clone()).or_insert_with(|| {
            let pools = shared.pools.of(Some(database));
            pools.first().map(|pool| cache.versions.of(&pool.purpose.dbname))
        });
        let total = plan.parts.total();
        let sum = counted.entry(shape(plan)).or_default();
        sum.calls += total.calls;
        sum.us += total.time_us;
        sum.hits += own.hits.get();
        sum.misses += own.misses.get();
        sum.kept.0 += own.stored.get();
        sum.kept.1 += own.stored_us.get();
        let writes = versions.as_ref().map_or(0, |versions| versions.moves(plan.touches.reads.tables()));
        sum.writes = sum.writes.max(writes);
        sum.bytes = sizes.get(&plan.fingerprint).map_or(0, |(_, bytes)| *bytes);
    }
    let states = shared.choices.judge(counted, shared.config.load().general.cache_memory);
    let began = Instant::now();
    for plan in &plans {
        let kept = states.get(&shape(plan)).is_some_and(|state| *state != State::Out);
        if plan.cache.account().is_some_and(|account| account.chosen.swap(kept, Relaxed) != kept) {
            let fingerprint = format!("{:032x}", plan.fingerprint);
            tracing::debug!(fingerprint, kept, age = ?began.since(plan.built), "results of a shape");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_few_are_tried_at_a_time_and_those_that_are_gone_are_forgotten() {
        let choices = Choices::default();
        let counted = |round: u64, shapes: u128| -> HashMap<Shape, Counted> {
            let of = |n: u128| Counted {
                calls: round * 100,
                us: round * 100 * (1000 + n as u64),
                ..Counted::default()
            };
            (0..shapes).map(|n| (("d".to_string(), n), of(n))).collect()
        };
        for round in 0..20 {
            choices.judge(counted(round, 20), 1 << 20);
        }
        assert_eq!(choices.counts(), (0, MOST_TRIALS as u64));
        // The most promising first.
        assert!(choices.reason("d", 19).unwrap().starts_with("on trial"));
        assert!(choices.reason("d", 0).unwrap().starts_with("not chosen yet"));
        assert_eq!(choices.reason("e", 19), None);
        choices.judge(counted(21, 1), 1 << 20);
        assert_eq!(choices.reason("d", 19), None);
        assert_eq!(choices.judge(counted(22, MOST as u128 + 9), 1 << 20).len(), MOST);
    }
}
