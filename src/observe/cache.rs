//! Metrics of results that are kept. A process that keeps none has none of them.

use super::metrics::{Family, Kind};
use crate::cache::Cache;
use crate::cache::outside::{Health, Outside};
use crate::cache::remote::Remote;
use crate::cache::strict::Board;
use crate::core::clock::Instant;
use crate::core::stats;
use crate::fence::versions::Cause;
use crate::session::shared::Shared;

/// All of them now.
pub fn families(shared: &Shared) -> Vec<Family> {
    use Kind::{Counter, Gauge};
    let Some(cache) = &shared.cache else { return Vec::new() };
    let stats = &cache.stats;
    let (entries, bytes, collected) = cache.size();
    let one = |name, kind, help, value: u64| Family::new(name, kind, help).with(&[], value as f64);
    let lookups = Family::new("turnpike_cache_lookups_total", Counter, "Results that were looked for.");
    let (hits, late) = (stats.hits.get(), stats.stale.get());
    let outdated = Family::new(
        "turnpike_cache_outdated_total",
        Counter,
        "Times that something was written, by how much is known of it.",
    );
    let causes = Cause::ALL.into_iter().zip(cache.versions.moved());
    let elsewhere_moves: u64 = cache.outsides.all().iter().map(|(_, outside)| outside.moves()).sum();
    let fetched = stats.fetched.get();
    let levels = Family::new("turnpike_cache_hits_total", Counter, "Results given, by where they were kept.");
    let invalidated = Family::new(
        "turnpike_cache_invalidated_total",
        Counter,
        "Results that were found to be of no use any more, or that memory had no room for.",
    );
    let flushes = Family::new("turnpike_cache_flushes_total", Counter, "Flushes, by what was flushed.");
    let unkept = Family::new(
        "turnpike_cache_not_kept_total",
        Counter,
        "Results that were not looked for, or not kept, though a rule says so.",
    );
    let mut families = vec![
        one("turnpike_cache_entries", Gauge, "Results that are kept.", entries),
        one("turnpike_cache_bytes", Gauge, "About how much memory they take.", bytes),
        one("turnpike_cache_collecting_bytes", Gauge, "Answers that are being collected.", collected),
        lookups
            .with(&[("outcome", "hit")], hits.saturating_sub(late) as f64)
            .with(&[("outcome", "late")], late as f64)
            .with(&[("outcome", "miss")], stats.misses.get() as f64),
        one(
            "turnpike_cache_waited_total",
            Counter,
            "Misses that waited for somebody else to read the same.",
            stats.waited.get(),
        ),
        one("turnpike_cache_stored_total", Counter, "Results kept.", stats.stored.get()),
        levels
            .with(&[("level", "l1")], hits.saturating_sub(fetched) as f64)
            .with(&[("level", "l2")], fetched as f64),
        causes
            .fold(outdated, |family, (cause, n)| family.with(&[("cause", cause.label())], n as f64))
            .with(&[("cause", "elsewhere")], elsewhere_moves as f64),
        stats
            .outdated()
            .fold(invalidated, |family, (by, n)| family.with(&[("cause", by.label())], n as f64))
            .with(&[("cause", "evicted")], stats.evicted.get() as f64),
        stats.flushes().fold(flushes, |family, (what, n)| family.with(&[("what", what.label())], n as f64)),
        stats.bypassed().fold(unkept, |family, (why, n)| family.with(&[("reason", why.label())], n as f64)),
    ];
    families.extend(cache.remote().into_iter().flat_map(|remote| outside(remote)));
    families.extend(elsewhere(cache).into_iter().chain(strict(cache)).chain(chosen(shared)));
    families
}

/// Shapes that were chosen, and results that were read again before anybody asked.
fn chosen(shared: &Shared) -> Vec<Family> {
    use Kind::{Counter, Gauge};
    let (chosen, trial) = shared.choices.counts();
    let warmth = &shared.warmth;
    let shapes =
        Family::new("turnpike_cache_chosen_shapes", Gauge, "Shapes that rules with auto = true have chosen.");
    let warmed =
        Family::new("turnpike_cache_warmed_total", Counter, "Results read again before anybody asked.");
    let spent = Family::new("turnpike_cache_warm_seconds_total", Counter, "Servers' time that took.");
    vec![
        shapes.with(&[("state", "chosen")], chosen as f64).with(&[("state", "trial")], trial as f64),
        warmed
            .with(&[("why", "again")], warmth.warmed.get() as f64)
            .with(&[("why", "ahead")], warmth.renewed.get() as f64),
        spent.with(&[], warmth.spent_us.get() as f64 / 1e6),
    ]
}

/// Those of results that are kept in Redis, too.
fn outside(remote: &Remote) -> Vec<Family> {
    use Kind::{Counter, Gauge};
    let stats = &remote.stats;
    let one = |name, kind, help, value: u64| Family::new(name, kind, help).with(&[], value as f64);
    let lookups = Family::new("turnpike_cache_redis_lookups_total", Counter, "Results looked for in Redis.");
    let outcomes = [
        ("hit", &stats.hits),
        ("miss", &stats.misses),
        ("late", &stats.late),
        ("away", &stats.away),
        ("broken", &stats.broken),
        ("outdated", &stats.outdated),
    ];
    let add = |family: Family, (outcome, n): (&str, &stats::Counter)| {
        family.with(&[("outcome", outcome)], n.get() as f64)
    };
    vec![
        one("turnpike_cache_redis_up", Gauge, "Whether Redis is there.", u64::from(remote.is_there())),
        outcomes.into_iter().fold(lookups, add),
        one("turnpike_cache_redis_errors_total", Counter, "Errors of Redis.", stats.errors.get()),
        one(
            "turnpike_cache_redis_lost_total",
            Counter,
            "Times that the connection to Redis was lost, or given up.",
            stats.lost.get(),
        ),
        one("turnpike_cache_redis_stored_total", Counter, "Results kept in Redis.", stats.stored.get()),
        one("turnpike_cache_redis_sent_bytes_total", Counter, "Bytes of those, sealed.", stats.bytes.get()),
        one(
            "turnpike_cache_redis_dropped_total",
            Counter,
            "Results that were not kept in Redis, since too much waited to be.",
            stats.dropped.get(),
        ),
    ]
}

/// Databases whose processes tell each other of writes.
fn strict(cache: &Cache) -> Vec<Family> {
    use Kind::{Counter, Gauge};
    let all = cache.boards.all();
    if all.is_empty() {
        return Vec::new();
    }
    let family = |name, kind, help, value: &dyn Fn(&Board) -> u64| {
        all.iter().fold(Family::new(name, kind, help), |family, ((place, dbname), board)| {
            family.with(&[("place", &**place), ("dbname", &**dbname)], value(board) as f64)
        })
    };
    vec![
        family(
            "turnpike_cache_strict_known",
            Gauge,
            "1 where it is known who else writes, and all of them tell what.",
            &|board| u64::from(board.trouble().is_none()),
        ),
        family(
            "turnpike_cache_strict_members",
            Gauge,
            "Processes that tell each other of writes.",
            &|board| board.members() as u64,
        ),
        family("turnpike_cache_strict_told_total", Counter, "Writes that others were told of.", &|board| {
            board.stats.told.get()
        }),
        family(
            "turnpike_cache_strict_untold_total",
            Counter,
            "Writes that others were not told of, since Redis was not there: nothing was given then.",
            &|board| board.stats.untold.get(),
        ),
        family(
            "turnpike_cache_strict_looks_total",
            Counter,
            "Times that it was looked in Redis whether somebody was about to write.",
            &|board| board.stats.looks.get(),
        ),
    ]
}

/// Writers elsewhere, by database.
fn elsewhere(cache: &Cache) -> Vec<Family> {
    use Kind::{Counter, Gauge};
    let (all, now) = (cache.outsides.all(), Instant::now());
    if all.is_empty() {
        return Vec::new();
    }
    let family = |name, kind, help, value: &dyn Fn(&Outside, &Health) -> f64| {
        all.iter().fold(Family::new(name, kind, help), |family, ((place, dbname), outside)| {
            let labels = [("place", &**place), ("dbname", &**dbname)];
            family.with(&labels, value(outside, &outside.health()))
        })
    };
    vec![
        family(
            "turnpike_cache_elsewhere_known",
            Gauge,
            "1 where all is known that was written elsewhere longer ago than invalidation_bound.",
            &|outside, _| f64::from(u8::from(outside.is_shown(now))),
        ),
        family(
            "turnpike_cache_elsewhere_commits_total",
            Counter,
            "Commits that wrote something that is watched.",
            &|_, health| health.commits as f64,
        ),
        family(
            "turnpike_cache_elsewhere_losses_total",
            Counter,
            "Times that whoever tells of writes elsewhere was lost.",
            &|_, health| health.losses as f64,
        ),
        family("turnpike_cache_slot_lag_bytes", Gauge, "WAL that is not followed yet.", &|_, health| {
            health.behind as f64
        }),
        family("turnpike_cache_slot_retained_bytes", Gauge, "WAL that the server keeps.", &|_, health| {
            health.retained as f64
        }),
    ]
}
