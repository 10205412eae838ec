//! What servers are asked, and what their answers say. Sessions of ours have nothing but `pg_catalog` in their search
//! path.

use std::collections::{HashMap, HashSet};

use super::answer::{Row, field, read};
use super::install::{DDL, DROP, PUBLICATION, TELL, TELLS};
use super::trouble;
use crate::cache::rows::{KeyColumn, Kind};
use crate::cache::watched::Watched;
use crate::core::error::Error;
use crate::fence::{Geometry, Lsn, Snapshot};

/// What our sessions begin with: nobody's defaults are to keep them from anything, and a commit of ours is to be on the
/// server's disk before it is answered.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("search_path", "pg_catalog"),
    ("default_transaction_read_only", "off"),
    ("synchronous_commit", "local"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
];

/// A text as SQL has it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL has it.
pub(super) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Whether the WAL of a server can be followed by this slot.
pub(super) fn introduction(slot: &str) -> String {
    format!(
        "SELECT current_setting('server_version_num'), current_setting('wal_level'), pg_is_in_recovery(), \
         pg_size_bytes(current_setting('wal_segment_size')), current_setting('wal_block_size'), \
         (SELECT s.plugin FROM pg_replication_slots s WHERE s.slot_name = {} AND s.database = current_database()), \
         (SELECT s.wal_status = 'lost' FROM pg_replication_slots s WHERE s.slot_name = {}), \
         (SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND NOT p.pubviaroot \
            FROM pg_publication p WHERE p.pubname = '{PUBLICATION}'), {}, \
         (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) || '/' || \
         extract(epoch FROM pg_postmaster_start_time())::text, ({})",
        literal(slot),
        literal(slot),
        event_triggers(),
        confirmed(slot),
    )
}

/// From where on a slot streams.
pub(super) fn confirmed(slot: &str) -> String {
    format!("SELECT s.confirmed_flush_lsn FROM pg_replication_slots s WHERE s.slot_name = {}", literal(slot))
}

/// Those of our event triggers that fire whatever a session sets, as others than those that were there before, or were
/// not enabled meanwhile.
pub(super) fn event_triggers() -> String {
    format!(
        "(SELECT string_agg(e.oid::text || '.' || e.xmin::text, ',' ORDER BY e.oid) FROM pg_event_trigger e \
          WHERE e.evtname IN ('{DDL}', '{DROP}') AND e.evtenabled = 'A')"
    )
}

/// What is known of a server before it is followed.
#[derive(Debug)]
pub(super) struct Introduced {
    /// How its WAL is cut.
    pub(super) geometry: Geometry,
    pub(super) event_triggers: String,
    /// Which database it is, and since when the server runs.
    pub(super) server: String,
    /// From where on the slot streams.
    pub(super) confirmed: Option<Lsn>,
}

/// Reads that.
///
/// # Errors
/// What keeps it from being followed.
pub(super) fn introduced(rows: &[Row], slot: &str) -> Result<Introduced, Error> {
    let row = rows.first().ok_or_else(|| trouble("the server does not say what it is", ""))?;
    let again = "run turnpike cache enable-wal";
    if read::<u32>(row, 0).is_none_or(|version| version < 140_000) {
        return Err(trouble(
            "PostgreSQL before 14 does not tell of DDL",
            "use turnpike cache enable-triggers",
        ));
    }
    if field(row, 2) != Some("f") {
        return Err(trouble("the server is in recovery", "name the primary"));
    }
    if field(row, 1) != Some("logical") {
        let hint = "set wal_level = logical and restart the server, or use turnpike cache enable-triggers";
        return Err(trouble("the server's wal_level is not logical", hint));
    }
    if field(row, 5) != Some("pgoutput") {
        return Err(trouble(format!("there is no replication slot \"{slot}\" of this database"), again));
    }
    if field(row, 6) == Some("t") {
        let hint = "run turnpike cache disable-wal, then enable-wal; max_slot_wal_keep_size may be too small";
        return Err(trouble(format!("the WAL that slot \"{slot}\" needs is gone"), hint));
    }
    if field(row, 7) != Some("t") {
        return Err(trouble(
            format!("there is no publication \"{PUBLICATION}\" of all kinds of writes"),
            again,
        ));
    }
    let event_triggers = field(row, 8).unwrap_or_default();
    if event_triggers.split(',').count() != 2 {
        return Err(trouble(
            "the event triggers that tell of DDL are not there, or not enabled always",
            again,
        ));
    }
    let segment = read(row, 3).unwrap_or(0);
    let page = read(row, 4).unwrap_or(Geometry::default().page);
    let (geometry, event_triggers) = (Geometry { segment, page }, event_triggers.to_string());
    let server = field(row, 9).ok_or_else(|| trouble("the server does not say which it is", ""))?.to_string();
    Ok(Introduced { geometry, event_triggers, server, confirmed: read(row, 10) })
}

/// Roles and their settings: all databases share them, and no event trigger tells.
pub(super) const ROLES: &str = "(SELECT md5(string_agg(r::text, ',' ORDER BY r.oid)) FROM pg_roles r) || \
    coalesce((SELECT md5(string_agg(m::text, ',' ORDER BY m::text)) FROM pg_auth_members m), '')";

/// How far a server's WAL goes, what is visible, and who follows. Commits may be visible before they are on disk
/// (`synchronous_commit`), and only then are they streamed: where anything is not, a commit of ours takes it there.
pub(super) fn sample(slot: &str, last: Lsn) -> String {
    format!(
        "SELECT CASE WHEN w.f < w.i THEN pg_logical_emit_message(true, '{PUBLICATION}', ''::text) ELSE w.i END, \
         pg_current_snapshot(), a.application_name, w.i - s.restart_lsn, s.wal_status, \
         CASE WHEN w.i <> '{last}'::pg_lsn THEN {ROLES} END, w.i, {} \
         FROM (SELECT pg_current_wal_insert_lsn() AS i, pg_current_wal_flush_lsn() AS f) w \
         LEFT JOIN pg_replication_slots s ON s.slot_name = {} \
         LEFT JOIN LATERAL pg_stat_get_activity(coalesce(s.active_pid, 0)) a ON true",
        event_triggers(),
        literal(slot)
    )
}

/// What such an answer says.
pub(super) struct Sample {
    /// What was visible ends before this.
    pub(super) end: Lsn,
    pub(super) snapshot: Snapshot,
    /// What whoever uses the slot calls itself.
    pub(super) follower: Option<String>,
    /// Bytes that are kept for the slot.
    pub(super) retained: u64,
    /// What is said of them.
    pub(super) status: String,
    /// Changes when roles do. `None` where nothing was written.
    pub(super) roles: Option<String>,
    /// Where the WAL ended.
    pub(super) insert: Lsn,
    pub(super) event_triggers: String,
}

impl Sample {
    /// Reads it.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn read(rows: &[Row]) -> Result<Sample, Error> {
        let sample = || {
            let row = rows.first()?;
            Some(Sample {
                end: read(row, 0)?,
                snapshot: read(row, 1)?,
                follower: field(row, 2).map(str::to_string),
                retained: read(row, 3).unwrap_or(0),
                status: field(row, 4).unwrap_or_default().to_string(),
                roles: field(row, 5).map(str::to_string),
                insert: read(row, 6)?,
                event_triggers: field(row, 7).unwrap_or_default().to_string(),
            })
        };
        sample().ok_or_else(|| trouble("the server does not say how far its WAL goes", ""))
    }
}

/// A number above those of all transactions that have one.
pub(super) const RUNNING: &str = "SELECT pg_current_xact_id()";

/// Tables of which all writes are in the stream, and who inherits from whom. Rows of a partitioned table are in its
/// partitions, those of a view elsewhere, and those of a materialized view change by DDL alone. And primary keys, as far
/// as the stream has them of every row that it tells of, and nothing but the same bytes is equal.
pub(super) fn list() -> String {
    format!(
        "SELECT c.oid, NULL::oid, NULL::int, NULL::int, NULL::oid, NULL FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename AND c.relkind = 'r' \
         WHERE t.pubname = '{PUBLICATION}' \
         UNION ALL SELECT c.oid, NULL, NULL, NULL, NULL, NULL FROM pg_class c WHERE c.relkind IN ('m', 'p', 'v') \
         UNION ALL SELECT i.inhrelid, i.inhparent, NULL, NULL, NULL, NULL FROM pg_inherits i \
         JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind IN ('r', 'p', 'f') \
         UNION ALL SELECT c.oid, NULL, k.n, a.attnum, a.atttypid, a.attname FROM pg_class c \
         JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate \
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k (number, n) \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number \
         LEFT JOIN pg_collation l ON l.oid = a.attcollation \
         WHERE c.relkind = 'r' AND c.relreplident IN ('d', 'f') AND k.n <= i.indnkeyatts \
         AND coalesce(l.collisdeterministic, true)"
    )
}

/// The function that triggers call; looked up so that nobody needs a privilege for it.
pub(super) fn told() -> String {
    format!(
        "(SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
          WHERE n.nspname = '{PUBLICATION}' AND p.proname = '{TELL}')"
    )
}

/// Whether triggers tell of writes.
pub(super) fn triggers_introduction() -> String {
    format!("SELECT pg_is_in_recovery(), {}, {}", told(), event_triggers())
}

/// The event triggers of such a database.
///
/// # Errors
/// What keeps it from being listened to.
pub(super) fn triggers_introduced(rows: &[Row]) -> Result<String, Error> {
    let row = rows.first().ok_or_else(|| trouble("the server does not say what it is", ""))?;
    let again = "run turnpike cache enable-triggers";
    if field(row, 0) != Some("f") {
        return Err(trouble("the server is in recovery", "name the primary"));
    }
    if field(row, 1).is_none() {
        return Err(trouble("there are no triggers that tell of writes", again));
    }
    let event_triggers = field(row, 2).unwrap_or_default();
    if event_triggers.split(',').count() != 2 {
        return Err(trouble(
            "the event triggers that tell of DDL are not there, or not enabled always",
            again,
        ));
    }
    Ok(event_triggers.to_string())
}

/// Notifies ourselves, and tells what is visible.
pub(super) fn beat(payload: &str) -> String {
    format!(
        "SELECT pg_notify('{PUBLICATION}', {}), pg_current_snapshot(), {}, {ROLES}",
        literal(payload),
        event_triggers()
    )
}

/// Tables with a trigger that tells of every statement, whatever a session sets, and who inherits from whom. What a
/// subscription applies to a table fires none; a view's rows are elsewhere.
pub(super) fn triggers_list() -> String {
    format!(
        "SELECT t.tgrelid, NULL::oid FROM pg_trigger t WHERE t.tgname = '{TELLS}' AND t.tgenabled = 'A' \
         AND t.tgtype = 60 AND t.tgfoid = {} \
         AND NOT EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = t.tgrelid) \
         UNION ALL SELECT c.oid, NULL::oid FROM pg_class c WHERE c.relkind IN ('m', 'v') \
         UNION ALL SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE c.relkind IN ('r', 'p', 'f')",
        told()
    )
}

/// What such an answer says; `whole` as in [`Watched::new`].
///
/// # Errors
/// It is none.
pub(super) fn listed(rows: &[Row], whole: bool) -> Result<Watched, Error> {
    let (mut told, mut families) = (HashSet::new(), Vec::new());
    let mut keys: HashMap<u32, Vec<(usize, Option<_>)>> = HashMap::new();
    for row in rows {
        let table: u32 = read(row, 0).ok_or_else(|| trouble("a list of tables is none", ""))?;
        match (read(row, 1), read(row, 2)) {
            (Some(parent), _) => families.push((table, parent)),
            (None, Some(place)) => keys.entry(table).or_default().push((place, key_column(row))),
            (None, None) => drop(told.insert(table)),
        }
    }
    let whole_keys = keys.into_iter().filter_map(|(table, mut columns)| {
        columns.sort_by_key(|(place, _)| *place);
        // One that is left out for what it is leaves a gap.
        let is_whole = columns.iter().enumerate().all(|(i, (place, _))| i + 1 == *place);
        let columns: Option<_> = columns.into_iter().map(|(_, column)| column).collect();
        columns.filter(|_| is_whole).map(|columns| (table, columns))
    });
    Ok(Watched::new(told, &families, whole_keys.collect(), whole))
}

fn key_column(row: &Row) -> Option<(KeyColumn, Box<str>)> {
    let (number, kind) = (read(row, 3)?, Kind::of(read(row, 4)?)?);
    Some((KeyColumn { number, kind }, field(row, 5)?.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(values: &[&str]) -> Row {
        values.iter().map(|value| Some(value.to_string()).filter(|v| v != "-")).collect()
    }

    #[test]
    fn what_keeps_a_stream_from_being_followed() {
        let good = [
            "150004",
            "logical",
            "f",
            "16777216",
            "8192",
            "pgoutput",
            "f",
            "t",
            "16500.7,16501.7",
            "5/1",
            "0/10",
        ];
        let says = |at: usize, value: &'static str| {
            let mut values = good;
            values[at] = value;
            introduced(&[row(&values)], "s").map_err(|e| e.message.to_string())
        };
        let said = says(0, "150004").unwrap();
        assert_eq!(said.geometry, Geometry { page: 8192, segment: 16 << 20 });
        assert_eq!((&*said.event_triggers, &*said.server), ("16500.7,16501.7", "5/1"));
        assert_eq!(said.confirmed, Some(Lsn(0x10)));
        for (at, value, want) in [
            (0, "130010", "before 14"),
            (1, "replica", "wal_level"),
            (2, "t", "recovery"),
            (5, "-", "slot \"s\""),
            (5, "wal2json", "slot \"s\""),
            (6, "t", "is gone"),
            (7, "-", "publication"),
            (7, "f", "publication"),
            (8, "1", "event triggers"),
            (8, "-", "event triggers"),
        ] {
            let said = says(at, value).unwrap_err();
            assert!(said.contains(want), "{said}");
        }
        assert!(introduced(&[], "s").is_err());
    }

    #[test]
    fn what_keeps_triggers_from_being_listened_to() {
        let says = |values: &[&str]| triggers_introduced(&[row(values)]).map_err(|e| e.message.to_string());
        assert_eq!(says(&["f", "16384", "1,2"]), Ok("1,2".into()));
        assert!(says(&["t", "16384", "1,2"]).is_err_and(|e| e.contains("recovery")));
        assert!(says(&["f", "-", "1,2"]).is_err_and(|e| e.contains("no triggers")));
        assert!(says(&["f", "16384", "1"]).is_err_and(|e| e.contains("event triggers")));
        assert_eq!(beat("a'b").matches("'a''b'").count(), 1);
    }

    #[test]
    fn samples() {
        let sample = Sample::read(&[row(&["0/20", "5:9:6", "me", "100", "reserved", "-", "0/18"])]).unwrap();
        assert_eq!((sample.end, sample.insert, sample.retained), (Lsn(0x20), Lsn(0x18), 100));
        assert_eq!((sample.follower.as_deref(), sample.roles), (Some("me"), None));
        assert!(sample.snapshot.shows(7) && !sample.snapshot.shows(6));
        assert!(Sample::read(&[row(&["-", "5:9:6", "me", "-", "-", "-", "0/18"])]).is_err());
        assert!(Sample::read(&[]).is_err());
        let watched = listed(&[row(&["5", "-"]), row(&["6", "5"]), row(&["6", "-"])], false).unwrap();
        assert!(watched.covers(5) && watched.beside(6) == [5]);
        assert_eq!((literal("a'b"), name("a\"b")), ("'a''b'".to_string(), "\"a\"\"b\"".to_string()));
    }
}
