//! What is known of the system's own functions beyond what the catalog says: those that do more than their volatility
//! tells, and those that do less.

use crate::sql::lex::{Kind, Lexer};

/// Volatile functions that any server may run: what they return differs from call to call anyway.
const READS: &[&str] = &[
    "clock_timestamp",
    "gen_random_uuid",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "random",
    "random_normal",
    "timeofday",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
];

/// Functions that are not volatile and yet belong to the primary: they assign a transaction id, or speak of the server
/// that runs them.
const PRIMARY: &[&str] = &[
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "pg_backend_pid",
    "pg_blocking_pids",
    "pg_conf_load_time",
    "pg_current_snapshot",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_get_replication_slots",
    "pg_is_other_temp_schema",
    "pg_listening_channels",
    "pg_lock_status",
    "pg_my_temp_schema",
    "pg_postmaster_start_time",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_snapshot_xmax",
    "pg_snapshot_xmin",
    "txid_current",
    "txid_current_if_assigned",
    "txid_current_snapshot",
    "pg_cursor",
    "pg_show_all_settings",
    "pg_trigger_depth",
];

/// Whether a function, or a key word that is called without parentheses, tells when its transaction began
/// (documentation, "Current Date/Time"); `age` of one argument counts from then.
pub fn tells_time(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "age",
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
        "now",
        "transaction_timestamp",
    ];
    NAMES.contains(&name)
}

/// Whether what a function, or a key word, returns differs from run to run on the same data: by chance, by time, or by
/// who asks where.
pub fn varies(name: &str) -> bool {
    const OF_SESSION: &[&str] =
        &["current_catalog", "current_database", "current_role", "current_user", "session_user", "user"];
    let sleeps = name.starts_with("pg_sleep");
    tells_time(name) || READS.contains(&name) && !sleeps || OF_SESSION.contains(&name)
}

/// Whether code mentions one of those.
pub fn mentions_what_varies(code: &str) -> bool {
    mentions(code, varies)
}

/// Whether code asks for settings by their names.
pub fn asks_settings(code: &str) -> bool {
    mentions(code, |word| word == "current_setting")
}

fn mentions(code: &str, what: impl Fn(&str) -> bool) -> bool {
    let mut words = Lexer::new(code.as_bytes(), true).filter(|token| token.kind == Kind::Word);
    words.any(|token| code.get(token.start..token.end).is_some_and(|word| what(&word.to_ascii_lowercase())))
}

/// Stable functions whose results depend on nothing but their arguments and on settings, who the session is, and what
/// there is in the database: a result that was read with them may be kept under those. Functions that may turn any text
/// into a time are not among them.
const STEADY: &[&str] = &[
    "array_agg",
    "array_cat",
    "array_to_json",
    "array_to_string",
    "concat",
    "concat_ws",
    "current_database",
    "current_schema",
    "current_setting",
    "current_user",
    "date_part",
    "date_trunc",
    "date_bin",
    "extract",
    "format",
    "format_type",
    "generate_series",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "make_timestamptz",
    "phraseto_tsquery",
    "pg_typeof",
    "plainto_tsquery",
    "quote_literal",
    "quote_nullable",
    "row_to_json",
    "session_user",
    "string_agg",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "to_tsquery",
    "to_tsvector",
    "ts_headline",
    "websearch_to_tsquery",
];

/// Whether results that a stable built-in function was used for may be kept.
pub fn is_steady(name: &str) -> bool {
    STEADY.contains(&name)
}

/// What functions begin with that are not volatile and speak of the server that runs them: its statistics, its WAL.
const OF_SERVER: &[&str] = &["pg_stat_get_", "pg_walfile_name"];

/// Whether a function reads tables that its call does not name: those that turn them into XML do.
pub fn reads_anything(name: &str) -> bool {
    ["table_to_", "query_to_", "cursor_to_", "schema_to_", "database_to_"].iter().any(|p| name.starts_with(p))
}

/// Whether a built-in volatile function may write to tables: those that work on large objects or run a query that they
/// are given. The others (sequences, locks, notifications) leave tables alone.
pub fn writes_anything(name: &str) -> bool {
    reads_anything(name) || name.starts_with("lo") || name.starts_with("ts_") || name.starts_with("pg_import")
}

/// Relations of the system that speak of the server that is asked. A replica's sequences are ahead of the primary's.
pub fn is_of_server(relation: &str) -> bool {
    const NAMES: &[&str] = &[
        "pg_backend_memory_contexts",
        "pg_cursors",
        "pg_locks",
        "pg_prepared_statements",
        "pg_prepared_xacts",
        "pg_replication_origin_status",
        "pg_replication_slots",
        "pg_sequences",
        "pg_settings",
        "pg_shmem_allocations",
        "pg_wait_events",
        "pg_file_settings",
        "pg_hba_file_rules",
        "pg_ident_file_mappings",
        "pg_aios",
    ];
    relation.starts_with("pg_stat_") || relation.starts_with("pg_statio_") || NAMES.contains(&relation)
}

/// What is known of a built-in function by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Any server may run it, whatever the catalog says.
    Read,
    /// Only the primary may.
    Primary,
}

/// Looks a built-in function up.
pub fn known(name: &str) -> Option<Known> {
    if READS.contains(&name) {
        Some(Known::Read)
    } else if PRIMARY.contains(&name) || OF_SERVER.iter().any(|prefix| name.starts_with(prefix)) {
        Some(Known::Primary)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_of_a_server() {
        for name in ["pg_stat_get_live_tuples", "pg_walfile_name_offset", "txid_current", "inet_server_port"]
        {
            assert_eq!(known(name), Some(Known::Primary), "{name}");
        }
        assert_eq!(known("random"), Some(Known::Read));
        assert_eq!(known("pg_get_viewdef"), None);
        for name in
            ["pg_stat_activity", "pg_statio_user_tables", "pg_locks", "pg_sequences", "pg_prepared_xacts"]
        {
            assert!(is_of_server(name), "{name}");
        }
        assert!(!is_of_server("pg_statistic_ext") && !is_of_server("pg_class"));
    }
}
