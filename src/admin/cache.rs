//! SHOW CACHE.

use super::table::{Cell, Table};
use crate::cache::Cache;
use crate::cache::l1::Flush;
use crate::core::clock::Instant;
use crate::fence::versions::Cause;
use crate::plan::Plan;
use crate::session::shared::Shared;

/// Shapes that are shown, those first that were looked for most.
const MOST: usize = 200;
/// Characters of a shape that are shown.
const SHAPE: usize = 200;

/// What is kept and how it goes: totals, rules, then every shape that a rule matches, with why its results are not kept
/// if they must not be.
pub fn cache(shared: &Shared) -> Table {
    let mut table = Table::new("about what count:n bytes:n hits:n misses:n fingerprint detail");
    let Some(cache) = &shared.cache else {
        let none = "results are not kept: general.cache_memory is 0";
        row(&mut table, ["total", "off"], [0, 0, 0, 0], "", none);
        return table;
    };
    totals(shared, cache, &mut table);
    let warmth = &shared.warmth;
    let spent = format!("{} ms of servers' time were spent on both", warmth.spent_us.get() / 1000);
    let (again, ahead) = (warmth.warmed.get(), warmth.renewed.get());
    row(
        &mut table,
        ["warmed", "again"],
        [again, 0, 0, 0],
        "",
        "results read again: at the start, or by WARM",
    );
    row(&mut table, ["warmed", "ahead"], [ahead, 0, 0, 0], "", &format!("before they were too old; {spent}"));
    for (i, rule) in shared.planner.rules().cache.rules().iter().enumerate() {
        let said = rule.said().into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        let name = format!("[[cache]] {}", i + 1);
        row(&mut table, ["rule", &name], [rule.line as u64, 0, 0, 0], "", &said.join(" "));
    }
    elsewhere(cache, &mut table);
    strict(cache, &mut table);
    past(cache, &mut table);
    let by_shape = cache.by_shape();
    let choosing = shared.planner.rules().cache.choosing();
    let found = |plan: &Plan| plan.cache.account().map_or([0, 0], |a| [a.hits.get(), a.misses.get()]);
    let asked = |plan: &Plan| found(plan).iter().sum::<u64>() + plan.parts.total().calls;
    let mut plans = shared.planner.store.all();
    plans.retain(|plan| plan.cache.rules != 0 && asked(plan) > 0);
    plans.sort_by_cached_key(|plan| std::cmp::Reverse(asked(plan)));
    plans.truncate(MOST);
    for plan in plans {
        let (entries, bytes) = by_shape.get(&plan.fingerprint).copied().unwrap_or_default();
        let [hits, misses] = found(&plan);
        let counts = [entries, bytes, hits, misses];
        // A rule that leaves it to be found out may be one of several.
        let choice = (plan.cache.rules & choosing != 0)
            .then(|| shared.choices.reason(&plan.home.database, plan.fingerprint))
            .flatten();
        let (what, why) = match (&plan.cache.refused, choice) {
            (Some(why), _) => ("refused", format!("{why}: ")),
            (None, Some(why)) if plan.cache.is_chosen() => ("kept", format!("{why}: ")),
            (None, Some(why)) => ("not chosen", format!("{why}: ")),
            (None, None) => ("kept", String::new()),
        };
        let detail = format!("{why}{}", plan.shown(SHAPE));
        row(&mut table, ["shape", what], counts, &format!("{:032x}", plan.fingerprint), &detail);
    }
    table
}

fn totals(shared: &Shared, cache: &Cache, table: &mut Table) {
    let stats = &cache.stats;
    let (entries, bytes, collected) = cache.size();
    let most = format!("of {} bytes at most", shared.config.load().general.cache_memory);
    let (hits, fetched) = (stats.hits.get(), stats.fetched.get());
    row(table, ["total", "l1"], [entries, bytes, hits - fetched.min(hits), stats.misses.get()], "", &most);
    if let Some(remote) = cache.remote() {
        let stats = &remote.stats;
        let state =
            if remote.is_there() { "Redis is there" } else { "Redis is not there: nobody waits for it" };
        let counts = [stats.stored.get(), stats.bytes.get(), fetched, stats.misses.get()];
        row(table, ["total", "l2"], counts, "", state);
        for (what, count, detail) in [
            ("l2 found", stats.hits.get(), "results found there, also those that were outdated"),
            ("l2 late", stats.late.get(), "answers of Redis that came after the deadline"),
            ("l2 errors", stats.errors.get(), "errors of Redis"),
            ("l2 away", stats.away.get(), "times that Redis was not there to be asked"),
            ("l2 lost", stats.lost.get(), "times that the connection to Redis was lost, or given up"),
            ("l2 broken", stats.broken.get(), "results that were not what had been kept"),
            (
                "l2 outdated",
                stats.outdated.get(),
                "results of other processes that were older than what is known",
            ),
            ("l2 waited", stats.waited.get(), "misses that waited for another process to read the same"),
            ("l2 dropped", stats.dropped.get(), "results that were not kept in Redis: too much waited to be"),
        ] {
            row(table, ["total", what], [count, 0, 0, 0], "", detail);
        }
    }
    for (what, count, detail) in [
        ("stored", stats.stored.get(), "answers that were kept"),
        ("late", stats.stale.get(), "hits past their time, while somebody read the result again"),
        ("waited", stats.waited.get(), "misses that waited for somebody else to read the same"),
    ] {
        row(table, ["total", what], [count, 0, 0, 0], "", detail);
    }
    row(table, ["total", "collecting"], [0, collected, 0, 0], "", "answers that are not complete yet");
    for (what, count) in stats.flushes() {
        let detail = match what {
            Flush::All => "times that all was forgotten: FLUSH CACHE, RELOAD",
            Flush::Table => "times that a table's results were: FLUSH CACHE TABLE",
            Flush::Shape => "times that a shape's results were: FLUSH CACHE SHAPE",
        };
        row(table, ["flushed", what.label()], [count, 0, 0, 0], "", detail);
    }
    for (by, count) in stats.outdated() {
        row(table, ["invalidated", by.label()], [count, 0, 0, 0], "", by.explained());
    }
    let detail = "memory had no room: others were asked for more often";
    row(table, ["invalidated", "evicted"], [stats.evicted.get(), 0, 0, 0], "", detail);
    for (cause, count) in Cause::ALL.into_iter().zip(cache.versions.moved()) {
        row(table, ["outdated", cause.label()], [count, 0, 0, 0], "", cause.explained());
    }
    let detail = "something was written elsewhere, or may have been";
    row(table, ["outdated", "elsewhere"], [elsewhere_moves(cache), 0, 0, 0], "", detail);
    for (why, count) in stats.bypassed() {
        row(table, ["not kept", why.label()], [count, 0, 0, 0], "", why.explained());
    }
}

/// How often something that is watched has been outdated by writers elsewhere.
fn elsewhere_moves(cache: &Cache) -> u64 {
    cache.outsides.all().iter().map(|(_, outside)| outside.moves()).sum()
}

/// Writers elsewhere, database by database: commits that were told, bytes of WAL that the stream is behind; why it is not
/// followed, or how much the server keeps for it.
fn elsewhere(cache: &Cache, table: &mut Table) {
    let now = Instant::now();
    for ((place, dbname), outside) in cache.outsides.all() {
        let health = outside.health();
        let what = if outside.is_shown(now) { "known" } else { "unknown" };
        let detail = match health.trouble {
            Some(trouble) => format!("{dbname} on {place}: {trouble}"),
            None => format!(
                "{dbname} on {place}: {} tables are watched, {} bytes of WAL are kept for it{}{}",
                outside.watched(),
                health.retained,
                if health.status.is_empty() { "" } else { ", " },
                health.status
            ),
        };
        row(table, ["elsewhere", what], [health.commits, health.behind, 0, 0], "", &detail);
    }
}

/// Databases whose processes tell each other of writes: of how many others were told, of how many not, times that they were
/// looked at with nobody about to write, and with somebody; how many processes there are, or why nothing is given.
fn strict(cache: &Cache, table: &mut Table) {
    for ((place, dbname), board) in cache.boards.all() {
        let (stats, trouble) = (&board.stats, board.trouble());
        let what = if trouble.is_none() { "known" } else { "unknown" };
        let detail = match trouble {
            Some(trouble) => format!("{dbname} on {place}: {trouble}"),
            None => format!("{dbname} on {place}: {} processes tell each other of writes", board.members()),
        };
        let (looks, clear) = (stats.looks.get(), stats.clear.get());
        let counts = [stats.told.get(), stats.untold.get(), clear, looks.saturating_sub(clear)];
        row(table, ["strict", what], counts, "", &detail);
    }
}

/// Databases that are written to through this process alone: whether all is done that another may have left.
fn past(cache: &Cache, table: &mut Table) {
    for ((place, dbname), past) in cache.pasts.all() {
        let (what, why) = match past.why() {
            None => ("over", "nobody else writes"),
            Some(why) => ("not over", why),
        };
        row(table, ["past", what], [0, 0, 0, 0], "", &format!("{dbname} on {place}: {why}"));
    }
}

fn row(table: &mut Table, names: [&str; 2], counts: [u64; 4], print: &str, detail: &str) {
    let counts = counts.into_iter().map(Cell::from);
    let row = names.into_iter().map(Cell::from).chain(counts).chain([print.into(), detail.into()]);
    table.rows.push(row.collect());
}
