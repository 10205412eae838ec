//! Who may come in: every `[[hba]]` method, where passwords may be kept, and what a client is told when it may not.

use std::time::{Duration, Instant};

use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, try_pg, value};

fn hba(method: &str) -> String {
    format!("[[hba]]\ntype = \"host\"\ndatabase = \"all\"\nuser = \"all\"\nmethod = \"{method}\"\n")
}

/// What a failed connection was told: SQLSTATE and message.
async fn refusal(url: &str) -> (String, String) {
    let error = try_pg(url).await.map(drop).expect_err("the connection is refused");
    let db = error.as_db_error().unwrap_or_else(|| panic!("not an ErrorResponse: {error}"));
    (db.code().code().to_string(), db.message().to_string())
}

#[tokio::test]
async fn md5_and_trust_and_reject() {
    let db = Db::new();
    let user = format!("password = \"{}\"", db.password);
    for method in ["md5", "trust", "scram-sha-256"] {
        let options = ProxyOptions { user: user.clone(), hba: hba(method), ..Default::default() };
        let proxy = Proxy::start(&db, options);
        assert_eq!(value(&pg(&proxy.url(&db)).await, "SELECT 1").await, "1", "{method}");
    }
    let proxy = Proxy::start(&db, ProxyOptions { user, hba: hba("reject"), ..Default::default() });
    let (code, message) = refusal(&proxy.url(&db)).await;
    assert_eq!(code, "28000");
    assert!(message.starts_with("no [[hba]] rule admits host"), "{message}");
}

#[tokio::test]
async fn the_first_rule_that_matches_decides() {
    let db = Db::new();
    let other = db.role("other");
    let rules = format!(
        "[[hba]]\ntype = \"host\"\ndatabase = \"all\"\nuser = \"{other}\"\nmethod = \"reject\"\n{}",
        hba("trust")
    );
    let proxy = Proxy::start(&db, ProxyOptions { hba: rules, ..Default::default() });
    assert_eq!(refusal(&proxy.url_as(&other, "x", &db.name)).await.0, "28000");
    assert_eq!(value(&pg(&proxy.url(&db)).await, "SELECT 1").await, "1");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_the_same() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let mut took = Vec::new();
    for user in [db.user.as_str(), "nobody_at_all"] {
        let began = Instant::now();
        let (code, message) = refusal(&proxy.url_as(user, "wrong", &db.name)).await;
        took.push(began.elapsed());
        assert_eq!(
            (code.as_str(), message),
            ("28P01", format!("password authentication failed for user \"{user}\""))
        );
    }
    let apart = took[0].abs_diff(took[1]);
    assert!(apart.as_millis() < 1000, "{took:?}");
}

#[tokio::test]
async fn guessing_is_slowed_down_and_then_stopped() {
    let db = Db::new();
    let extra = "[auth]\nfailure_delay = \"10ms\"\nmax_failures_per_minute = 3\n".to_string();
    let proxy = Proxy::start(&db, ProxyOptions { extra, ..Default::default() });
    for _ in 0..3 {
        assert_eq!(refusal(&proxy.url_as(&db.user, "wrong", &db.name)).await.0, "28P01");
    }
    let (code, message) = refusal(&proxy.url(&db)).await;
    assert_eq!((code.as_str(), message.as_str()), ("28000", "too many failed logins from this address"));
}

#[tokio::test]
async fn a_verifier_alone_serves_both_sides() {
    let db = Db::new();
    let user = format!("verifier = \"{}\"", db.verifier());
    let proxy = Proxy::start(&db, ProxyOptions { user, ..Default::default() });
    assert_eq!(value(&pg(&proxy.url(&db)).await, "SELECT current_user").await, db.user);
    assert_eq!(refusal(&proxy.url_as(&db.user, "wrong", &db.name)).await.0, "28P01");
}

/// A proxy that knows no user but the one that looks the others up, and serves every database.
fn by_lookup(db: &Db) -> Proxy {
    db.psql(&format!(
        "CREATE OR REPLACE FUNCTION public.turnpike_lookup(text) RETURNS TABLE (name text, verifier text) \
         LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS \
         $$ SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin $$; \
         GRANT EXECUTE ON FUNCTION public.turnpike_lookup(text) TO {}",
        db.user
    ));
    let extra = format!(
        "[auth]\nquery = \"SELECT * FROM public.turnpike_lookup($1)\"\nuser = \"{}\"\ndatabase = \"{}\"\n\
         failure_delay = \"10ms\"\n[[database]]\nname = \"*\"\nbackend = \"primary\"\n",
        db.user, db.name
    );
    Proxy::start(db, ProxyOptions { extra, ..Default::default() })
}

#[tokio::test]
async fn users_and_databases_made_a_second_ago_work() {
    let db = Db::new();
    let proxy = by_lookup(&db);
    let fresh = format!("{}_fresh", db.user);
    assert_eq!(refusal(&proxy.url_as(&fresh, &db.password, &db.name)).await.0, "28P01");
    let role = db.role("fresh");
    assert_eq!(role, fresh);
    let client = pg(&proxy.url_as(&role, &db.password, &db.name)).await;
    assert_eq!(value(&client, "SELECT current_user").await, role);
    db.psql(&format!("CREATE DATABASE {role}_db"));
    let client = pg(&proxy.url_as(&role, &db.password, &format!("{role}_db"))).await;
    assert_eq!(value(&client, "SELECT current_database()").await, format!("{role}_db"));
    drop(client);
    drop(proxy);
    db.psql(&format!("DROP DATABASE {role}_db WITH (FORCE)"));
}

/// What was looked up is kept for half a minute, but not for those whose password no longer fits it.
#[tokio::test]
async fn a_changed_password_works_at_the_second_try() {
    let db = Db::new();
    let proxy = by_lookup(&db);
    let role = db.role("changing");
    let new = proxy.url_as(&role, "another", &db.name);
    pg(&proxy.url_as(&role, &db.password, &db.name)).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    db.psql(&format!("ALTER ROLE {role} PASSWORD 'another'"));
    assert_eq!(refusal(&new).await.0, "28P01", "what was looked up before");
    assert_eq!(value(&pg(&new).await, "SELECT current_user").await, role);
    assert_eq!(refusal(&proxy.url_as(&role, &db.password, &db.name)).await.0, "28P01");
}

#[tokio::test]
async fn startup_options_do_not_reach_the_lookup() {
    let db = Db::new();
    let proxy = by_lookup(&db);
    let role = db.role("sly");
    db.psql(
        "CREATE SCHEMA sly; CREATE FUNCTION sly.turnpike_lookup(text) RETURNS TABLE (name text, verifier text) \
         LANGUAGE sql AS $$ SELECT $1, 'md5' || md5('open' || $1) $$; GRANT USAGE ON SCHEMA sly TO PUBLIC",
    );
    let url = format!("{}?options=-c%20search_path%3Dsly", proxy.url_as(&role, "open", &db.name));
    assert_eq!(refusal(&url).await.0, "28P01");
}

#[tokio::test]
async fn unknown_databases_are_told_as_postgres_tells_them() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let (code, message) = refusal(&proxy.url_as(&db.user, &db.password, "no_such")).await;
    assert_eq!((code.as_str(), message.as_str()), ("3D000", "database \"no_such\" does not exist"));
    let wild = by_lookup(&db);
    let (code, message) = refusal(&wild.url_as(&db.user, &db.password, "no_such")).await;
    assert_eq!((code.as_str(), message.as_str()), ("3D000", "database \"no_such\" does not exist"));
}

#[tokio::test]
async fn startup_settings_arrive_and_bad_ones_are_refused() {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 1".into(), ..Default::default() });
    let with = |options: &str| format!("{}?application_name=app%20one&options={options}", proxy.url(&db));
    let one = pg(&with("-c%20statement_timeout%3D1234%20-c%20TimeZone%3DAsia/Tokyo")).await;
    let two = pg(&proxy.url(&db)).await;
    for _ in 0..3 {
        assert_eq!(value(&one, "SHOW statement_timeout").await, "1234ms");
        assert_eq!(value(&one, "SHOW timezone").await, "Asia/Tokyo");
        assert_eq!(value(&one, "SHOW application_name").await, "app one");
        assert_eq!(value(&two, "SHOW statement_timeout").await, "0");
        assert_ne!(value(&two, "SHOW timezone").await, "Asia/Tokyo");
        assert_eq!(value(&two, "SHOW application_name").await, "");
    }
    assert_eq!(refusal(&with("-c%20TimeZone%3DNowhere")).await.0, "22023");
    assert_eq!(refusal(&with("-c%20no_such_setting%3D1")).await.0, "42704");
    assert_eq!(refusal(&with("-F")).await.0, "0A000");
}

#[tokio::test]
async fn replication_connections_get_a_backend_of_their_own() {
    let db = Db::new();
    db.psql(&format!("ALTER ROLE {} REPLICATION", db.user));
    let proxy = Proxy::to(&db);
    let logical = format!("{}?replication=database", proxy.url(&db));
    let psql = |url: &str, command: &str| {
        let output = std::process::Command::new("psql").args(["-XAtc", command, url]).output().expect("psql");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    assert!(psql(&logical, "IDENTIFY_SYSTEM").contains(&db.name));
    assert_eq!(psql(&logical, "SELECT 1").trim(), "1");
    // Physical replication needs a rule that says so.
    let physical = format!("{}?replication=true", proxy.url(&db));
    assert!(psql(&physical, "IDENTIFY_SYSTEM").contains("no [[hba]] rule admits"));
    let hba = format!(
        "[[hba]]\ntype = \"host\"\ndatabase = \"replication\"\nuser = \"all\"\nmethod = \"scram-sha-256\"\n{}",
        hba("scram-sha-256")
    );
    let proxy = Proxy::start(&db, ProxyOptions { hba, ..Default::default() });
    let physical = format!("{}?replication=true", proxy.url(&db));
    assert!(psql(&physical, "IDENTIFY_SYSTEM").contains('|'));
}

#[tokio::test]
async fn who_connects_is_logged_with_its_address() {
    let db = Db::new();
    let extra = "[log]\nformat = \"json\"\nconnections = true\n".to_string();
    let proxy = Proxy::start(&db, ProxyOptions { extra, ..Default::default() });
    drop(pg(&proxy.url(&db)).await);
    eventually("it is logged", || proxy.log().contains("\"connected\""));
    assert!(proxy.log().contains("\"addr\":\"127.0.0.1:"), "{}", proxy.log());
}
