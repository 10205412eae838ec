//! What has to be in a database for writes elsewhere to be told, made and removed by commands. Each says in lines for
//! people what it has done, and what to look at.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::question::{literal, told};
use crate::catalog::{TELLERS, TELLERS_SCHEMA};

/// The publication, the schema of functions, the channel, and the prefix of messages.
pub(super) const PUBLICATION: &str = TELLERS_SCHEMA;
/// The message of a transaction that changed definitions.
pub(super) const DEFINED: &str = "ddl";
/// The event trigger of what is made or changed, and that of what is dropped.
pub(super) const DDL: &str = "turnpike_ddl";
pub(super) const DROP: &str = "turnpike_drop";

/// The function that triggers call, and what they are called themselves.
pub(super) const TELL: &str = TELLERS[0];
pub(super) const TELLS: &str = "turnpike_tells";

/// Longest that a slot may wait for transactions that run while it is made.
const PATIENCE: &str = "SET statement_timeout = '5min'";

/// Tables that have what an UPDATE is published by: of a partitioned table that is its primary key, which new partitions
/// have as well.
const PUBLISHABLE: &str = "
    WITH leaf AS (
        SELECT c.oid, n.nspname, c.relname, c.relpersistence = 'p' AND CASE c.relreplident
                WHEN 'f' THEN true
                WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary
                                      AND i.indisvalid AND i.indimmediate)
                WHEN 'i' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident
                                      AND i.indisvalid)
                ELSE false END AS fits, c.relpersistence
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    ), root AS (
        SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'p' AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
        AND NOT EXISTS (SELECT FROM pg_partition_tree(c.oid) t LEFT JOIN leaf l ON l.oid = t.relid
                        WHERE t.isleaf AND l.fits IS NOT TRUE)
    )
    SELECT quote_ident(nspname) || '.' || quote_ident(relname), fits::text,
           CASE WHEN relpersistence = 'p' THEN 'no primary key and no replica identity' ELSE 'unlogged' END
    FROM leaf WHERE relpersistence <> 't'
    UNION ALL
    SELECT quote_ident(nspname) || '.' || quote_ident(relname), 'true', 'root' FROM root ORDER BY 1";

/// A function that has DDL told, but for that of temporary objects, and the two event triggers that call it. Those fire
/// whatever a session sets. They are replaced in one transaction: there is no moment without.
fn event_triggers(told: &str) -> String {
    format!(
        "CREATE SCHEMA IF NOT EXISTS {PUBLICATION};
         CREATE OR REPLACE FUNCTION {PUBLICATION}.tell_ddl() RETURNS event_trigger LANGUAGE plpgsql
         SET search_path = pg_catalog AS $$
         BEGIN
             IF TG_EVENT = 'sql_drop' THEN
                 IF NOT EXISTS (SELECT FROM pg_event_trigger_dropped_objects() o WHERE NOT o.is_temporary) THEN
                     RETURN;
                 END IF;
             ELSIF EXISTS (SELECT FROM pg_event_trigger_ddl_commands()) THEN
                 IF NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() c
                                WHERE c.schema_name IS DISTINCT FROM 'pg_temp') THEN
                     RETURN;
                 END IF;
             ELSIF TG_TAG LIKE 'DROP %' AND TG_TAG <> 'DROP OWNED' THEN
                 RETURN;
             END IF;
             {told}
         END $$;
         DROP EVENT TRIGGER IF EXISTS {DDL};
         DROP EVENT TRIGGER IF EXISTS {DROP};
         CREATE EVENT TRIGGER {DDL} ON ddl_command_end EXECUTE FUNCTION {PUBLICATION}.tell_ddl();
         CREATE EVENT TRIGGER {DROP} ON sql_drop EXECUTE FUNCTION {PUBLICATION}.tell_ddl();
         ALTER EVENT TRIGGER {DDL} ENABLE ALWAYS;
         ALTER EVENT TRIGGER {DROP} ENABLE ALWAYS;"
    )
}

const NO_EVENT_TRIGGERS: &str = "DROP EVENT TRIGGER IF EXISTS turnpike_ddl; \
    DROP EVENT TRIGGER IF EXISTS turnpike_drop; DROP FUNCTION IF EXISTS turnpike.tell_ddl();";

/// Makes what streams the WAL: event triggers, a publication of all tables that can be in one, and the slot.
///
/// # Errors
/// What the server refuses, or lacks.
pub async fn enable_wal(client: &Client, slot: &str) -> Result<Vec<String>, String> {
    ask(client, "SET search_path = pg_catalog").await?;
    let about = "SELECT current_setting('server_version_num'), current_setting('wal_level'), \
                 current_setting('max_slot_wal_keep_size'), \
                 (SELECT count(*) FROM pg_replication_slots) < current_setting('max_replication_slots')::int";
    let about = ask(client, about).await?.into_iter().next().unwrap_or_default();
    let value = |at: usize| about.get(at).cloned().unwrap_or_default();
    if value(0).parse::<u32>().is_ok_and(|version| version < 140_000) {
        return Err("PostgreSQL before 14 does not stream messages of DDL: use enable-triggers".into());
    }
    if value(1) != "logical" {
        let level = value(1);
        return Err(format!(
            "wal_level is {level}: set wal_level = logical and restart the server, or use enable-triggers"
        ));
    }
    if is_there(client, &told()).await? {
        return Err("triggers tell of writes already: disable-triggers first".into());
    }
    let tables = ask(client, PUBLISHABLE).await?;
    let is = |row: &&Vec<String>, fits: &str| row.get(1).is_some_and(|text| text == fits);
    let fit: Vec<&str> = tables.iter().filter(|row| is(row, "true")).filter_map(|row| text(row, 0)).collect();
    let told = format!("PERFORM pg_logical_emit_message(true, '{PUBLICATION}', '{DEFINED}');");
    let publication = publish(client, &fit).await?;
    ask(client, &format!("BEGIN; {} {publication} COMMIT", event_triggers(&told))).await?;
    let known = format!(
        "SELECT s.plugin = 'pgoutput' AND s.database = current_database() FROM pg_replication_slots s \
         WHERE s.slot_name = {}",
        literal(slot)
    );
    match ask(client, &known).await?.first().and_then(|row| text(row, 0)) {
        Some("t") => {}
        Some(_) => return Err(format!("slot \"{slot}\" is there already, and is not ours")),
        None if value(3) != "t" => return Err("all slots are taken: raise max_replication_slots".into()),
        None => {
            let make = format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput')", literal(slot));
            ask(client, PATIENCE).await?;
            ask(client, &make).await.map_err(|e| {
                format!("{e}\n  (a slot is ready when every transaction has ended that ran when it was made)")
            })?;
        }
    }
    let mut lines = vec![format!("{} tables are watched, by slot \"{slot}\"", count(&tables))];
    for row in tables.iter().filter(|row| is(row, "false")) {
        lines.push(format!(
            "  not watched: {} ({})",
            text(row, 0).unwrap_or_default(),
            text(row, 2).unwrap_or_default()
        ));
    }
    lines.push("run this again after tables or primary keys were made: others are not watched".into());
    lines.push(match value(2).as_str() {
        "-1" => "max_slot_wal_keep_size is -1: while nobody follows, the server keeps all of its WAL; set a bound \
                 that its disk can take, such as 10GB"
            .into(),
        bound => format!("the server keeps {bound} of WAL at most while nobody follows (max_slot_wal_keep_size)"),
    });
    Ok(lines)
}

fn count(tables: &[Vec<String>]) -> usize {
    tables.iter().filter(|row| text(row, 1) == Some("true") && text(row, 2) != Some("root")).count()
}

/// What makes the publication one of these tables; nothing where it is.
async fn publish(client: &Client, tables: &[&str]) -> Result<String, String> {
    let known = "SELECT (SELECT count(*) FROM pg_publication WHERE pubname = 'turnpike'), coalesce((SELECT \
                 string_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname), ' ' ORDER BY 1) \
                 FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = 'turnpike'), '')";
    let known = ask(client, known).await?.into_iter().next().unwrap_or_default();
    let mut before: Vec<&str> =
        text(&known, 1).unwrap_or_default().split(' ').filter(|t| !t.is_empty()).collect();
    before.sort_unstable();
    let mut wanted = tables.to_vec();
    wanted.sort_unstable();
    let list = tables.join(", ");
    Ok(match (text(&known, 0), tables.is_empty()) {
        (Some("0"), true) => format!("CREATE PUBLICATION {PUBLICATION};"),
        (Some("0"), false) => format!("CREATE PUBLICATION {PUBLICATION} FOR TABLE {list};"),
        (_, false) if before != wanted => format!("ALTER PUBLICATION {PUBLICATION} SET TABLE {list};"),
        _ => String::new(),
    })
}

/// Removes all of that; where other proxies have slots here, nothing but the slot.
///
/// # Errors
/// What the server refuses.
pub async fn disable_wal(client: &Client, slot: &str) -> Result<Vec<String>, String> {
    ask(client, "SET search_path = pg_catalog").await?;
    let others = format!(
        "SELECT count(*) FROM pg_replication_slots s WHERE s.database = current_database() \
         AND s.plugin = 'pgoutput' AND s.slot_name LIKE 'turnpike%' AND s.slot_name <> {}",
        literal(slot)
    );
    let alone = ask(client, &others).await?.first().and_then(|row| text(row, 0)) == Some("0");
    let mut lines = Vec::new();
    if alone {
        // Without it nobody follows the slot again.
        ask(client, &format!("DROP PUBLICATION IF EXISTS {PUBLICATION}; BEGIN; {NO_EVENT_TRIGGERS} COMMIT"))
            .await?;
        ask(client, NO_SCHEMA).await?;
        lines.push(format!("publication {PUBLICATION} and its event triggers are gone"));
    } else {
        lines.push(format!("publication {PUBLICATION} stays: there are slots of others"));
    }
    let known = format!("FROM pg_replication_slots s WHERE s.slot_name = {}", literal(slot));
    for attempt in 0.. {
        let end = format!("SELECT count(pg_terminate_backend(s.active_pid)) {known} AND s.active");
        ask(client, &end).await?;
        match ask(client, &format!("SELECT pg_drop_replication_slot(s.slot_name) {known}")).await {
            Ok(_) => break,
            Err(e) if attempt >= 50 => return Err(e),
            // Who followed it is about to go.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
    lines.push(format!("slot \"{slot}\" is gone"));
    Ok(lines)
}

/// Tables that have rows of their own, or partitions, and whether the trigger is on them.
const TRIGGERABLE: &str = "
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname),
           EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'turnpike_tells'
                   AND t.tgenabled = 'A')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname <> 'information_schema'
    AND n.nspname !~ '^pg_' ORDER BY 1";

/// Makes what notifies: event triggers, and a trigger on every table.
///
/// # Errors
/// What the server refuses. Tables that somebody holds a lock on are told of instead.
pub async fn enable_triggers(client: &Client) -> Result<Vec<String>, String> {
    ask(client, "SET search_path = pg_catalog").await?;
    let publication = format!("(SELECT oid FROM pg_publication WHERE pubname = '{PUBLICATION}')");
    if is_there(client, &publication).await? {
        return Err("the WAL tells of writes already: disable-wal first".into());
    }
    let told = format!("PERFORM pg_notify('{PUBLICATION}', '{DEFINED}');");
    let function = format!(
        "CREATE OR REPLACE FUNCTION {PUBLICATION}.{TELL}() RETURNS trigger LANGUAGE plpgsql \
         SET search_path = pg_catalog AS $$ BEGIN PERFORM pg_notify('{PUBLICATION}', TG_RELID::text); \
         RETURN NULL; END $$;"
    );
    ask(client, &format!("BEGIN; {} {function} COMMIT", event_triggers(&told))).await?;
    ask(client, "SET lock_timeout = '10s'").await?;
    let (mut lines, mut watched) = (Vec::new(), 0);
    for row in ask(client, TRIGGERABLE).await? {
        let table = text(&row, 0).unwrap_or_default();
        let make = format!(
            "BEGIN; DROP TRIGGER IF EXISTS {TELLS} ON {table}; \
             CREATE TRIGGER {TELLS} AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} \
             FOR EACH STATEMENT EXECUTE FUNCTION {PUBLICATION}.{TELL}(); \
             ALTER TABLE {table} ENABLE ALWAYS TRIGGER {TELLS}; COMMIT"
        );
        let made = if text(&row, 1) == Some("t") { Ok(Vec::new()) } else { ask(client, &make).await };
        match made {
            Ok(_) => watched += 1,
            Err(e) => {
                ask(client, "ROLLBACK").await?;
                lines.push(format!("  not watched: {table} ({e})"));
            }
        }
    }
    lines.insert(0, format!("{watched} tables are watched, by trigger {TELLS}"));
    lines.push("run this again after tables were made: others are not watched".into());
    lines.push(
        "every write notifies: commits that write take turns, and PREPARE TRANSACTION refuses them".into(),
    );
    Ok(lines)
}

/// Removes all of that.
///
/// # Errors
/// What the server refuses.
pub async fn disable_triggers(client: &Client) -> Result<Vec<String>, String> {
    ask(client, "SET search_path = pg_catalog").await?;
    let publication = format!("(SELECT oid FROM pg_publication WHERE pubname = '{PUBLICATION}')");
    // Those of the WAL have the same names.
    let events = if is_there(client, &publication).await? { "" } else { NO_EVENT_TRIGGERS };
    ask(client, &format!("BEGIN; {events} DROP FUNCTION IF EXISTS {PUBLICATION}.{TELL}() CASCADE; COMMIT"))
        .await?;
    ask(client, NO_SCHEMA).await?;
    Ok(vec![format!("triggers {TELLS} and their event triggers are gone")])
}

/// Whether an expression has a value.
async fn is_there(client: &Client, expression: &str) -> Result<bool, String> {
    let rows = ask(client, &format!("SELECT {expression} IS NOT NULL")).await?;
    Ok(rows.first().and_then(|row| text(row, 0)) == Some("t"))
}

/// The schema goes with the last that was in it.
const NO_SCHEMA: &str = "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n \
    ON n.oid = p.pronamespace WHERE n.nspname = 'turnpike') THEN DROP SCHEMA IF EXISTS turnpike; END IF; END $$";

fn text(row: &[String], at: usize) -> Option<&str> {
    row.get(at).map(String::as_str)
}

/// Asks, and returns the rows as texts, NULL as nothing.
async fn ask(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let messages = client.simple_query(sql).await.map_err(|e| match e.as_db_error() {
        Some(e) => format!("{}: {}", e.code().code(), e.message()),
        None => e.to_string(),
    })?;
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_string()).collect())
        }
        _ => None,
    };
    Ok(messages.iter().filter_map(row).collect())
}
