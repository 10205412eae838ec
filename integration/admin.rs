//! The admin database, through psql and a driver: everything it shows, and everything that psql asks by itself.

use std::process::Command;

use tokio_postgres::SimpleQueryMessage;

use crate::harness::{Db, Proxy, ProxyOptions, pg, try_pg, value};

/// What psql prints for these commands, standard error included.
pub fn psql(url: &str, commands: &[&str]) -> (bool, String) {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", url]);
    for command in commands {
        psql.args(["-c", command]);
    }
    let output = psql.output().expect("psql is installed");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

const SHOWS: &[(&str, &str)] = &[
    ("SHOW CLIENTS", "application_name"),
    ("show servers;", "remote_pid"),
    ("SHOW POOLS", "cl_waiting"),
    ("SHOW DATABASES", "reserve_pool_size"),
    ("SHOW BACKENDS", "lost_latency"),
    ("SHOW FENCES", "least_passed"),
    ("SHOW ROUTES", "reads"),
    ("SHOW CACHE", "hits"),
    ("SHOW USERS", "max_user_connections"),
    ("SHOW STATS", "total_xact_count"),
    ("SHOW STATS_TOTALS", "total_wait_time"),
    ("SHOW STATS_AVERAGES", "avg_recv"),
    ("SHOW LISTS", "used_clients"),
    ("SHOW CONFIG", "general.max_clients"),
    ("SHOW MEMORY", "relay_buffers"),
    ("SHOW VERSION", "Turnpike"),
    ("SHOW HELP", "SHOW POOLS"),
];

#[tokio::test]
async fn everything_can_be_shown() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let client = pg(&format!("{}?application_name=shown", proxy.url(&db))).await;
    client.batch_execute("BEGIN; SELECT 'secret literal'").await.expect("a transaction to look at");
    for (command, want) in SHOWS {
        let (ok, text) = psql(&proxy.admin_url(&db), &[command]);
        assert!(ok && text.contains(want), "{command}: {text}");
        assert!(!text.contains(&db.password) && !text.contains("secret literal"), "{command}: {text}");
    }
    let (_, text) = psql(&proxy.admin_url(&db), &["SHOW SERVERS"]);
    assert!(text.contains("shown"), "whose client it is: {text}");
    let (_, text) = psql(&proxy.admin_url(&db), &["\\x", "SHOW CLIENTS", "SHOW POOLS"]);
    assert!(text.contains("shown") && text.contains("active") && text.contains(&db.name), "{text}");
}

#[tokio::test]
async fn psql_and_drivers_do_not_trip_over_it() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let tabs = "SELECT pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_class c WHERE c.relkind IN ('r') LIMIT 1000";
    let (ok, text) = psql(
        &proxy.admin_url(&db),
        &[
            "\\d",
            "\\dt",
            "\\l",
            "\\du",
            "\\dn",
            "\\df",
            "\\conninfo",
            tabs,
            "SELECT 1",
            ";",
            "BEGIN",
            "COMMIT",
            "SELECT version()",
            "SELECT current_database(), current_user",
            "SET client_min_messages = warning",
            "-- nothing",
        ],
    );
    assert!(ok, "{text}");
    assert!(text.contains("turnpike") && text.contains("Turnpike"), "{text}");
}

#[tokio::test]
async fn a_driver_reads_it_both_ways() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let admin = pg(&proxy.admin_url(&db)).await;
    assert!(value(&admin, "SHOW VERSION").await.starts_with("Turnpike"));
    let rows = admin.query("SHOW LISTS", &[]).await.expect("the extended protocol too");
    let clients = rows.iter().find(|r| r.get::<_, &str>(0) == "used_clients").expect("a row of its own");
    assert_eq!(clients.get::<_, i64>(1), 0, "admins are not clients");
    let error = admin.query("NONSENSE", &[]).await.expect_err("there is no such command");
    assert_eq!(error.code().map(|c| c.code()), Some("42601"));
    assert_eq!(admin.query("SHOW POOLS", &[]).await.expect("the session goes on").len(), 0);
    let error = admin.query("SELECT 1 + 1", &[]).await.expect_err("better than a wrong answer");
    assert_eq!(error.code().map(|c| c.code()), Some("0A000"));
    assert_eq!(value(&admin, "SELECT -1").await, "-1");
    let error = admin.simple_query("SHOW NONSENSE").await.expect_err("nor this");
    assert!(error.as_db_error().and_then(|e| e.hint()).is_some_and(|h| h.contains("SHOW HELP")));
}

#[tokio::test]
async fn only_who_is_listed_comes_in() {
    let db = Db::new();
    let other = db.role("other");
    let extra = format!("[[user]]\nname = \"{other}\"\npassword = \"{}\"\n", db.password);
    let proxy = Proxy::start(&db, ProxyOptions { extra, ..Default::default() });
    let error =
        try_pg(&proxy.url_as(&other, &db.password, "turnpike")).await.map(drop).expect_err("not an admin");
    assert_eq!(error.code().map(|c| c.code()), Some("42501"), "{error}");
    let error =
        try_pg(&proxy.url_as(&db.user, "wrong", "turnpike")).await.map(drop).expect_err("wrong password");
    assert_eq!(error.code().map(|c| c.code()), Some("28P01"), "{error}");
}

/// However a statement is called, each Bind of it counts.
#[tokio::test]
async fn binds_are_counted() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let client = pg(&proxy.url(&db)).await;
    let named = client.prepare("SELECT $1::int").await.expect("prepared");
    for n in 0..5 {
        client.query_one(&named, &[&n]).await.expect("a row");
    }
    client.query_typed("SELECT 1", &[]).await.expect("a row");
    let admin = pg(&proxy.admin_url(&db)).await;
    let stats = admin.simple_query("SHOW STATS").await.expect("shown");
    let count = stats.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) if row.get("database") == Some(&*db.name) => row.get("total_bind_count"),
        _ => None,
    });
    assert_eq!(count, Some("6"));
}
