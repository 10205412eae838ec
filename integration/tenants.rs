//! Tenants: who is which, and what each may have, against real servers.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::harness::raw::{bind, execute, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions, TRUST, pg, replicated, rows, try_pg, value};
use crate::tls::Certificates;

/// A proxy with these sections; `more` roles are known to it, too.
fn bed(more: &[&str], pool: &str, sections: &str) -> (Db, Proxy, ProxyOptions) {
    let db = Db::new();
    let mut extra = sections.replace("DB", &db.name).replace("USER", &db.user);
    for suffix in more {
        let role = db.role(suffix);
        extra += &format!("[[user]]\nname = \"{role}\"\npassword = \"{}\"\n", db.password);
    }
    let options = ProxyOptions { extra, pool: pool.into(), ..Default::default() };
    let proxy = Proxy::start(&db, options.clone());
    (db, proxy, options)
}

fn as_role(db: &Db, proxy: &Proxy, suffix: &str) -> String {
    proxy.url_as(&format!("{}_{suffix}", db.user), &db.password, &db.name)
}

/// Which tenant a session is, and what has named it.
async fn tenant(client: &Client) -> String {
    let lines = rows(client, "EXPLAIN (ROUTE) SELECT 1").await;
    let line = lines.iter().find_map(|row| row[0].trim().strip_prefix("Tenant: "));
    line.map_or("-".into(), |line| line.split("),").next().unwrap_or_default().replace(" (by ", " by "))
}

fn code(e: &tokio_postgres::Error) -> &str {
    e.code().map_or("", |c| c.code())
}

#[tokio::test]
async fn sessions_are_who_they_may_be() {
    let sections = "[tenants]\nby = [\"set\", \"startup\", \"application_name\", \"user\"]\nclaimed_by = \"USER_gate\"\n\
        [[tenant]]\nname = \"acme\"\nuser = \"USER_acme*\"\n\
        [[tenant]]\nname = \"vault\"\nclaimed_by = \"USER_nobody\"\n";
    let (db, proxy, _) = bed(&["gate", "acme1"], "", sections);
    let own = pg(&proxy.url(&db)).await;
    assert_eq!(tenant(&own).await, format!("{} by its user", db.user));
    let acme = pg(&as_role(&db, &proxy, "acme1")).await;
    assert_eq!(tenant(&acme).await, "acme by its [[tenant]]");

    let gate = pg(&as_role(&db, &proxy, "gate")).await;
    gate.batch_execute("SET turnpike.tenant = acme").await.expect("its word counts");
    assert_eq!(tenant(&gate).await, "acme by SET turnpike.tenant");
    assert_eq!(value(&gate, "SHOW turnpike.tenant").await, "acme");
    // Within a transaction it holds from the next one on; what is undone is undone.
    gate.batch_execute("BEGIN; SET turnpike.tenant = 'globex'; ROLLBACK").await.expect("undone");
    assert_eq!(tenant(&gate).await, "acme by SET turnpike.tenant");
    gate.batch_execute("RESET turnpike.tenant; SET application_name = 'initech'").await.expect("set");
    assert_eq!(tenant(&gate).await, "initech by its application_name");
    let error = gate.batch_execute("SET turnpike.tenant = vault").await.expect_err("not that one");
    assert_eq!(code(&error), "42501");

    // Nobody else's word counts, in whatever form it comes.
    let error = own.batch_execute("SET turnpike.tenant = 'acme'").await.expect_err("not trusted");
    assert_eq!(code(&error), "42501");
    let detail = error.as_db_error().and_then(|e| e.detail()).unwrap_or_default();
    assert!(detail.contains("claimed_by"), "{detail}");
    for sql in [
        "SELECT set_config('turnpike.tenant', 'acme', false)",
        "DO $$ BEGIN PERFORM set_config('turnpike.tenant', 'acme', false); END $$",
        "SET application_name = 'acme'",
    ] {
        own.simple_query(sql).await.expect(sql);
        assert_eq!(tenant(&own).await, format!("{} by its user", db.user), "{sql}");
    }
    let error = own.query("SET turnpike.tenant = 'acme'", &[]).await.expect_err("nor when it is prepared");
    assert_eq!(code(&error), "42501");

    let options = |url: String, name: &str| format!("{url}?options=-c%20turnpike.tenant%3D{name}");
    let started = pg(&options(as_role(&db, &proxy, "gate"), "hooli")).await;
    assert_eq!(tenant(&started).await, "hooli by its startup options");
    let error = try_pg(options(proxy.url(&db), "acme")).await.map(drop).expect_err("not trusted");
    assert_eq!(code(&error), "42501");
}

#[tokio::test]
async fn priorities_are_set_and_bounded() {
    let sections = "[tenants]\nby = \"user\"\n[[tenant]]\nname = \"USER_low\"\npriority = \"batch\"\n";
    let (db, proxy, _) = bed(&["low"], "", sections);
    let client = pg(&proxy.url(&db)).await;
    assert_eq!(value(&client, "SHOW turnpike.priority").await, "interactive");
    client.batch_execute("SET turnpike.priority = batch").await.expect("lower");
    assert_eq!(value(&client, "SHOW turnpike.priority").await, "batch");
    let error = client.batch_execute("SET turnpike.priority = urgent").await.expect_err("no such word");
    assert_eq!(code(&error), "22023");
    let low = pg(&as_role(&db, &proxy, "low")).await;
    assert_eq!(value(&low, "SHOW turnpike.priority").await, "batch");
    let error = low.batch_execute("SET turnpike.priority = interactive").await.expect_err("not for it");
    assert_eq!(code(&error), "42501");
    let started = pg(&format!("{}?options=-c%20turnpike.priority%3Dbatch", proxy.url(&db))).await;
    assert_eq!(value(&started, "SHOW turnpike.priority").await, "batch");
}

/// Begins a transaction that holds a connection.
async fn hold(url: &str) -> Client {
    let client = pg(url).await;
    client.batch_execute("BEGIN; SELECT 1").await.expect("a transaction");
    client
}

/// A table in which those who are served say so, in order.
fn ledger(db: &Db) {
    db.psql("CREATE TABLE told (n serial, who text); GRANT ALL ON told TO PUBLIC; GRANT ALL ON told_n_seq TO PUBLIC");
}

/// A client that says in the ledger that it has been served.
fn tell(
    url: String,
    who: &'static str,
    before: &'static str,
) -> JoinHandle<Result<(), tokio_postgres::Error>> {
    tokio::spawn(async move {
        let client = pg(&url).await;
        // Nothing is asked before where nothing is to be: that would wait for a turn of its own.
        if !before.is_empty() {
            client.batch_execute(before).await?;
        }
        // Turns are of time: all take about as long, however busy the machine is.
        client.batch_execute(&format!("INSERT INTO told (who) SELECT '{who}' FROM pg_sleep(0.03)")).await
    })
}

/// Those who were served, in order.
fn told(db: &Db) -> String {
    db.psql("SELECT string_agg(who, ' ' ORDER BY n) FROM told")
}

/// How many clients wait for a connection.
async fn waiting(db: &Db, proxy: &Proxy) -> usize {
    let pools = rows(&pg(&proxy.admin_url(db)).await, "SHOW POOLS").await;
    pools.iter().filter(|row| row[0] == db.name).map(|row| row[3].parse::<usize>().expect("a number")).sum()
}

async fn until_waiting(db: &Db, proxy: &Proxy, n: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while waiting(db, proxy).await != n {
        assert!(Instant::now() < deadline, "{n} do not wait, but {}", waiting(db, proxy).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What SHOW TENANTS has of one, by column.
async fn shown(db: &Db, proxy: &Proxy, tenant: &str, column: &str) -> u64 {
    let admin = pg(&proxy.admin_url(db)).await;
    let all = admin.simple_query("SHOW TENANTS").await.expect("shown");
    let row = all.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) if row.get(0) == Some(tenant) => Some(row),
        _ => None,
    });
    row.and_then(|row| row.get(column)?.parse().ok()).unwrap_or_else(|| panic!("no {column} of {tenant}"))
}

#[tokio::test]
async fn tenants_are_shown_by_their_names() {
    let (db, proxy, _) = bed(&[], "", BY_STARTUP);
    for name in ["acme1", "acme2", "globex"] {
        value(&pg(&of_tenant(&proxy, &db, name)).await, "SELECT 1").await;
    }
    let admin = pg(&proxy.admin_url(&db)).await;
    for (command, want) in [
        ("SHOW TENANTS", "acme1 acme2 globex"),
        ("SHOW TENANTS;", "acme1 acme2 globex"),
        ("SHOW TENANTS 'acme*'", "acme1 acme2"),
        ("show tenants acme*;", "acme1 acme2"),
        ("SHOW TENANTS globex", "globex"),
        ("SHOW TENANTS 'initech'", ""),
    ] {
        let mut names: Vec<_> = rows(&admin, command).await.into_iter().map(|row| row[0].clone()).collect();
        names.sort();
        assert_eq!(names.join(" "), want, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_time_waits_for_those_who_have_not() {
    let (db, proxy, _) = bed(&[], "size = 1", "[tenants]\nby = \"user\"\n");
    ledger(&db);
    let holder = hold(&proxy.url(&db)).await;
    let batch = format!("{}?options=-c%20turnpike.priority%3Dbatch", proxy.url(&db));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(tell(batch.clone(), "batch", ""));
    }
    until_waiting(&db, &proxy, 4).await;
    for _ in 0..4 {
        tasks.push(tell(proxy.url(&db), "interactive", ""));
    }
    until_waiting(&db, &proxy, 8).await;
    holder.batch_execute("COMMIT").await.expect("it ends");
    for task in tasks {
        task.await.expect("no panic").expect("told");
    }
    assert!(told(&db).starts_with("interactive interactive interactive interactive batch"), "{}", told(&db));
}

/// Tenants by what the startup packet says, all of one user and so in one pool.
const BY_STARTUP: &str = "[tenants]\nby = \"startup\"\nclaimed_by = \"*\"\n";

fn of_tenant(proxy: &Proxy, db: &Db, name: &str) -> String {
    format!("{}?options=-c%20turnpike.tenant%3D{name}", proxy.url(db))
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_take_turns_however_many_clients_they_have() {
    let (db, proxy, _) = bed(&[], "size = 1", BY_STARTUP);
    ledger(&db);
    let holder = hold(&of_tenant(&proxy, &db, "other")).await;
    let mut tasks = Vec::new();
    for _ in 0..12 {
        tasks.push(tell(of_tenant(&proxy, &db, "many"), "many", ""));
    }
    until_waiting(&db, &proxy, 12).await;
    for _ in 0..2 {
        tasks.push(tell(of_tenant(&proxy, &db, "few"), "few", ""));
    }
    until_waiting(&db, &proxy, 14).await;
    holder.batch_execute("COMMIT").await.expect("it ends");
    for task in tasks {
        task.await.expect("no panic").expect("told");
    }
    let order = told(&db);
    let first = order.split(' ').take(6).filter(|who| *who == "few").count();
    assert_eq!(first, 2, "those of few are among the first: {order}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_guaranteed_is_there() {
    let sections = format!("{BY_STARTUP}[[tenant]]\nname = \"vip\"\nguaranteed = 2\n");
    let (db, proxy, _) = bed(&[], "size = 2", &sections);
    ledger(&db);
    // Lent out while it is not wanted.
    let greedy =
        [hold(&of_tenant(&proxy, &db, "greedy")).await, hold(&of_tenant(&proxy, &db, "greedy")).await];
    let more: Vec<_> = (0..3).map(|_| tell(of_tenant(&proxy, &db, "greedy"), "greedy", "")).collect();
    until_waiting(&db, &proxy, 3).await;
    // None of them ends, and still both are there.
    let vip = [hold(&of_tenant(&proxy, &db, "vip")).await, hold(&of_tenant(&proxy, &db, "vip")).await];
    assert_eq!(shown(&db, &proxy, "vip", "connections").await, 2);
    assert_eq!(told(&db), "", "and for nobody else");
    for client in vip.iter().chain(&greedy) {
        client.batch_execute("COMMIT").await.expect("it ends");
    }
    for task in more {
        task.await.expect("no panic").expect("told");
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND application_name <> 'turnpike catalog'",
        db.user
    );
    while db.psql(&count) != "2" {
        assert!(Instant::now() < deadline, "the pool is larger than its size");
        let client = pg(&of_tenant(&proxy, &db, "greedy")).await;
        value(&client, "SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_guaranteed_comes_before_others_in_other_pools() {
    let sections = "[tenants]\nby = \"user\"\n[[tenant]]\nname = \"USER_vip\"\nguaranteed = 1\n";
    let db = Db::new();
    let vip = db.role("vip");
    let user = format!("[[user]]\nname = \"{vip}\"\npassword = \"{}\"\n", db.password);
    let extra = sections.replace("USER", &db.user) + &user;
    let options = ProxyOptions { extra, database: "max_connections = 2".into(), ..Default::default() };
    let proxy = Proxy::start(&db, options);
    ledger(&db);
    let holders = [hold(&proxy.url(&db)).await, hold(&proxy.url(&db)).await];
    let mut tasks: Vec<_> = (0..8).map(|_| tell(proxy.url(&db), "greedy", "")).collect();
    until_waiting(&db, &proxy, 8).await;
    tasks.push(tell(as_role(&db, &proxy, "vip"), "vip", ""));
    until_waiting(&db, &proxy, 9).await;
    // Its pool has had its say that it is owed one.
    tokio::time::sleep(Duration::from_millis(300)).await;
    holders[0].batch_execute("COMMIT").await.expect("it ends");
    for task in tasks {
        task.await.expect("no panic").expect("told");
    }
    assert!(told(&db).starts_with("vip "), "{}", told(&db));
}

/// Runs a statement so often; the values that it gave.
fn again(url: String, sql: &'static str, times: usize) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let (client, mut values) = (pg(&url).await, Vec::new());
        while values.len() < times {
            values.push(value(&client, sql).await);
        }
        values
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_guaranteed_stays_where_it_is_used() {
    let db = Db::new();
    let roles = ["vip", "many", "more", "most"].map(|suffix| db.role(suffix));
    let user = |role| format!("[[user]]\nname = \"{role}\"\npassword = \"{}\"\n", db.password);
    let users: String = roles.iter().map(user).collect();
    let tenants = format!("[tenants]\nby = \"user\"\n[[tenant]]\nname = \"{}\"\nguaranteed = 2\n", roles[0]);
    let options = ProxyOptions {
        extra: users + &tenants,
        database: "max_connections = 4".into(),
        hba: TRUST.into(),
        ..Default::default()
    };
    let proxy = Proxy::start(&db, options);
    let url = |role: &str| as_role(&db, &proxy, role);
    let busy = "SELECT pg_backend_pid() FROM pg_sleep(0.01)";
    let others: Vec<_> =
        (0..18).map(|i| again(url(["many", "more", "most"][i % 3]), busy, usize::MAX)).collect();
    until_waiting(&db, &proxy, 14).await;
    let mut connections = std::collections::BTreeSet::new();
    for task in [again(url("vip"), busy, 150), again(url("vip"), busy, 150)] {
        connections.extend(task.await.expect("no panic"));
    }
    others.iter().for_each(JoinHandle::abort);
    assert!(connections.len() <= 30, "{} connections for 300 statements", connections.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_more_than_its_most() {
    let sections = "[tenants]\nby = \"user\"\n[[tenant]]\nname = \"USER\"\nmax = 1\n";
    let (db, proxy, _) = bed(&["other"], "size = 4", sections);
    let (holder, waiter) = (hold(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    let token = waiter.cancel_token();
    let task = tokio::spawn(async move { waiter.simple_query("SELECT 1").await.map(drop) });
    until_waiting(&db, &proxy, 1).await;
    assert_eq!(shown(&db, &proxy, &db.user, "connections").await, 1);
    assert_eq!(shown(&db, &proxy, &db.user, "waiting").await, 1);
    // Others have theirs.
    assert_eq!(value(&pg(&as_role(&db, &proxy, "other")).await, "SELECT 2").await, "2");
    // Who waits can be cancelled, and whoever goes away waits no longer.
    token.cancel_query(NoTls).await.expect("delivered");
    assert_eq!(code(&task.await.expect("no panic").expect_err("cancelled")), "57014");
    until_waiting(&db, &proxy, 0).await;
    let mut goes = proxy.raw(&db);
    goes.send(query("SELECT 1"));
    until_waiting(&db, &proxy, 1).await;
    drop(goes);
    until_waiting(&db, &proxy, 0).await;
    // Also one who has sent more than is read ahead.
    let mut goes = proxy.raw(&db);
    goes.send([query("SELECT 1"), query(&format!("SELECT '{}'", "x".repeat(90_000)))].concat());
    until_waiting(&db, &proxy, 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(goes);
    until_waiting(&db, &proxy, 0).await;
    assert_eq!(shown(&db, &proxy, &db.user, "waiting").await, 0);
    let mut next = proxy.raw(&db);
    next.send(query("SELECT 3"));
    until_waiting(&db, &proxy, 1).await;
    holder.batch_execute("COMMIT").await.expect("it ends");
    assert!(next.until_ready(1).iter().any(|frame| frame.kind == b'D'), "served");
    drop(next);
    until_waiting(&db, &proxy, 0).await;
    assert_eq!(shown(&db, &proxy, &db.user, "connections").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn own_pools_of_names_that_clients_make_up_go_when_nobody_uses_them() {
    let sections = format!(
        "{BY_STARTUP}[[tenant]]\nname = \"t*\"\npool = \"own\"\n[[tenant]]\nname = \"tt\"\npool = \"own\"\n"
    );
    let (db, proxy, _) = bed(&[], "min = 1\nidle_timeout = \"300ms\"", &sections);
    for name in ["t1", "t2", "t3", "tt"] {
        let client = pg(&of_tenant(&proxy, &db, name)).await;
        assert_eq!(value(&client, "SELECT 1 /* turnpike: route=primary */").await, "1");
    }
    let total = || {
        let metrics = crate::metrics::get(&proxy, "/metrics").1;
        let of = format!("turnpike_transactions_total{{database=\"{}\"", db.name);
        let lines = metrics.lines().filter(|line| line.starts_with(&of));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    let before = total();
    assert!(before >= 4.0, "{before}");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let pools = rows(&pg(&proxy.admin_url(&db)).await, "SHOW POOLS").await;
        let mut own: Vec<_> =
            pools.iter().filter_map(|row| row.last()).filter(|t| t.starts_with('t')).collect();
        own.dedup();
        if own == ["tt"] {
            break;
        }
        assert!(Instant::now() < deadline, "there still are those of {own:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(total() >= before, "{} is less than {before}", total());
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_over_the_rate_wait_then_fail() {
    let sections = format!(
        "{BY_STARTUP}rate_wait = \"0s\"\n[[tenant]]\nname = \"slow\"\nstatements_per_second = 1\nstatements_burst = 5\n"
    );
    let (db, proxy, options) = bed(&[], "", &sections);
    let slow = pg(&of_tenant(&proxy, &db, "slow")).await;
    // The burst, and perhaps one more for each second that this takes.
    let mut done = 0;
    let error = loop {
        match slow.simple_query("SELECT 1").await {
            Ok(_) if done < 50 => done += 1,
            Ok(_) => panic!("nothing is over the rate"),
            Err(e) => break e,
        }
    };
    assert!(done >= 5, "{done}");
    assert_eq!(code(&error), "53400");
    let error = error.as_db_error().expect("ours");
    assert!(error.message().contains("statements per second for tenant \"slow\""), "{error:?}");
    assert!(error.detail().unwrap_or_default().contains("statements_per_second"), "{error:?}");
    assert!(error.hint().unwrap_or_default().contains("Try again"), "{error:?}");
    assert!(shown(&db, &proxy, "slow", "over_rate").await >= 1);
    // Others are not held up, nor is what is open, which later statements pay for.
    let other = pg(&of_tenant(&proxy, &db, "other")).await;
    for _ in 0..20 {
        value(&other, "SELECT 1").await;
    }
    // With time to wait, all go through.
    let extra = options.extra.replace("rate_wait = \"0s\"", "rate_wait = \"1min\"");
    let extra = extra.replace("statements_per_second = 1\n", "statements_per_second = 50\n");
    proxy.reload(&db, &ProxyOptions { extra, ..options });
    let deadline = Instant::now() + Duration::from_secs(20);
    while slow.simple_query("SELECT 1").await.is_err() {
        assert!(Instant::now() < deadline, "the configuration is not in use");
    }
    for _ in 0..30 {
        slow.batch_execute("BEGIN; SELECT 1; SELECT 2; COMMIT").await.expect("in its turn");
    }
    assert!(shown(&db, &proxy, "slow", "throttled").await > 0);
    assert!(shown(&db, &proxy, "slow", "throttled_us").await > 0);
}

#[test]
fn rows_over_the_rate_are_paid_for_by_the_next() {
    let sections = "[tenants]\nby = \"user\"\nrate_wait = \"0s\"\nrows_per_second = 1000\n";
    let (db, proxy, _) = bed(&[], "", sections);
    let mut raw = proxy.raw(&db);
    // What is open is not held up.
    raw.query("BEGIN");
    raw.query("SELECT generate_series(1, 50000)");
    assert_eq!(raw.value("SELECT 1"), "1");
    raw.query("COMMIT");
    let refused = |frames: &[crate::harness::raw::Frame]| {
        let error = frames.iter().find(|f| f.kind == b'E').unwrap_or_else(|| panic!("{frames:?}"));
        assert_eq!(error.field(b'C'), "53400");
        assert!(error.field(b'D').contains("rows_per_second"), "{}", error.field(b'D'));
    };
    raw.send(query("SELECT 2"));
    refused(&raw.until_ready(1));
    raw.send([parse("", "SELECT 3"), bind("", "", &[]), execute("", 0), sync()].concat());
    refused(&raw.until_ready(1));
    // Nor does the next client of the same tenant get around it.
    let mut next = proxy.raw(&db);
    next.send(query("SELECT 4"));
    refused(&next.until_ready(1));
}

/// Whether a new session of the tenant is told that its rows are over the rate.
fn is_over_rows(db: &Db, proxy: &Proxy) -> bool {
    let mut next = proxy.raw(db);
    next.send(query("SELECT 4"));
    let frames = next.until_ready(1);
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.is_some_and(|e| e.field(b'C') == "53400" && e.field(b'D').contains("rows_per_second"))
}

#[test]
fn rows_of_what_fails_half_way_are_paid_for() {
    let sections =
        "[tenants]\nby = \"user\"\nrate_wait = \"0s\"\nrows_per_second = 1000\nrows_burst = 20000\n";
    let rows = "SELECT repeat('x', 100), 1 / (50000 - n) FROM generate_series(1, 60000) AS n";
    let fails = |ask: &dyn Fn(&mut crate::harness::raw::Raw)| {
        let (db, proxy, _) = bed(&[], "", sections);
        assert!(!is_over_rows(&db, &proxy));
        ask(&mut proxy.raw(&db));
        assert!(is_over_rows(&db, &proxy), "the rows that were sent cost nothing");
    };
    fails(&|raw| {
        raw.send(query(rows));
        assert!(raw.until_ready(1).iter().any(|frame| frame.kind == b'E'));
    });
    fails(&|raw| {
        raw.send([parse("", rows), bind("", "", &[]), execute("", 0), sync()].concat());
        assert!(raw.until_ready(1).iter().any(|frame| frame.kind == b'E'));
    });
    fails(&|raw| {
        raw.send(query(&format!("COPY ({rows}) TO STDOUT")));
        assert!(raw.until_ready(1).iter().any(|frame| frame.kind == b'E'));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_what_is_cancelled_or_left_are_paid_for() {
    let sections =
        "[tenants]\nby = \"user\"\nrate_wait = \"0s\"\nrows_per_second = 1000\nrows_burst = 20000\n";
    let (db, proxy, _) = bed(&[], "", sections);
    let slow = "SELECT n FROM generate_series(1, 50000) AS n UNION ALL SELECT 1 FROM pg_sleep(60)";
    let client = pg(&proxy.url(&db)).await;
    let token = client.cancel_token();
    let task = tokio::spawn(async move { client.batch_execute(slow).await });
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'",
        db.user
    );
    crate::harness::eventually("it sleeps", || db.psql(&waits) == "1");
    token.cancel_query(NoTls).await.expect("delivered");
    assert_eq!(code(&task.await.expect("no panic").expect_err("cancelled")), "57014");
    assert!(is_over_rows(&db, &proxy), "the rows that were sent cost nothing");

    // Whoever goes away in the middle has had them, too.
    let (db, proxy, _) = bed(&[], "", sections);
    let mut goes = proxy.raw(&db);
    goes.send(query("SELECT n FROM generate_series(1, 50000) AS n UNION ALL SELECT 1 FROM pg_sleep(5)"));
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'",
        db.user
    );
    goes.until(b'D');
    crate::harness::eventually("it sleeps", || db.psql(&waits) == "1");
    drop(goes);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_over_rows(&db, &proxy) {
        assert!(Instant::now() < deadline, "the rows that were sent cost nothing");
    }
}

#[test]
fn sessions_that_keep_a_connection_have_rates_too() {
    let sections = "[tenants]\nby = \"user\"\nrate_wait = \"0s\"\nrows_per_second = 1000\n";
    let (db, proxy, _) = bed(&[], "", sections);
    let mut raw = proxy.raw(&db);
    raw.query("CREATE TEMPORARY TABLE mine (n int)");
    raw.query("SELECT generate_series(1, 5000)");
    for _ in 0..2 {
        raw.send([parse("", "SELECT 3"), bind("", "", &[]), execute("", 0), sync()].concat());
        let frames = raw.until_ready(1);
        assert_eq!(frames.iter().find(|f| f.kind == b'E').expect("an error").field(b'C'), "53400");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        raw.send(query("SELECT count(*) FROM mine"));
        let frames = raw.until_ready(1);
        if let Some(row) = frames.iter().find(|f| f.kind == b'D') {
            assert_eq!(row.column(), "0");
            break;
        }
        assert!(Instant::now() < deadline, "it is never paid for: {frames:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    raw.send([parse("", "SELECT 3"), bind("", "", &[]), execute("", 0), sync()].concat());
    assert!(raw.until_ready(1).iter().any(|f| f.kind == b'D'));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_queues_are_shed_who_has_time_first() {
    let (db, proxy, _) = bed(&[], "size = 1\nmax_waiting = 2", BY_STARTUP);
    ledger(&db);
    let holder = hold(&of_tenant(&proxy, &db, "a")).await;
    let batch = |name: &str| format!("{}%20-c%20turnpike.priority%3Dbatch", of_tenant(&proxy, &db, name));
    let first = tell(batch("a"), "first", "");
    until_waiting(&db, &proxy, 1).await;
    let second = tell(batch("a"), "second", "");
    until_waiting(&db, &proxy, 2).await;
    // Somebody waits for this one: the youngest who has time goes.
    let third = tell(of_tenant(&proxy, &db, "a"), "third", "");
    let error = second.await.expect("no panic").expect_err("sent away");
    assert_eq!(code(&error), "53300");
    let detail = error.as_db_error().and_then(|e| e.detail()).unwrap_or_default();
    assert!(detail.contains("2 (pool.max_waiting)") && detail.contains("priority batch"), "{detail}");
    // Nobody who has time comes before those who wait.
    let error = tell(batch("a"), "fourth", "").await.expect("no panic").expect_err("refused");
    assert_eq!(code(&error), "53300");
    let fifth = tell(of_tenant(&proxy, &db, "a"), "fifth", "");
    assert_eq!(code(&first.await.expect("no panic").expect_err("sent away")), "53300");
    until_waiting(&db, &proxy, 2).await;
    // Of two tenants, whose has more: its youngest goes.
    let sixth = tell(of_tenant(&proxy, &db, "b"), "sixth", "");
    assert_eq!(code(&fifth.await.expect("no panic").expect_err("sent away")), "53300");
    let error =
        tell(of_tenant(&proxy, &db, "b"), "seventh", "").await.expect("no panic").expect_err("refused");
    assert_eq!(code(&error), "53300");
    holder.batch_execute("COMMIT").await.expect("it ends");
    for task in [third, sixth] {
        task.await.expect("no panic").expect("told");
    }
    assert_eq!(shown(&db, &proxy, "a", "shed").await, 4);
    assert_eq!(shown(&db, &proxy, "b", "shed").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_queues_are_shed_who_has_time_first() {
    let (db, proxy, _) = bed(&[], "size = 1\nmax_waiting_age = \"1s\"", BY_STARTUP);
    ledger(&db);
    let holder = hold(&of_tenant(&proxy, &db, "a")).await;
    let urgent = tell(of_tenant(&proxy, &db, "a"), "urgent", "");
    let batch = format!("{}%20-c%20turnpike.priority%3Dbatch", of_tenant(&proxy, &db, "b"));
    let error = tell(batch, "batch", "").await.expect("no panic").expect_err("sent away");
    assert_eq!(code(&error), "53300");
    let detail = error.as_db_error().and_then(|e| e.detail()).unwrap_or_default();
    assert!(detail.contains("1s (pool.max_waiting_age)"), "{detail}");
    let error = urgent.await.expect("no panic").expect_err("sent away, too");
    assert_eq!(code(&error), "53300");
    holder.batch_execute("COMMIT").await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_may_have_so_many_waiting() {
    let sections = format!("{BY_STARTUP}max_waiting = 1\n");
    let (db, proxy, _) = bed(&[], "size = 1", &sections);
    ledger(&db);
    let holder = hold(&of_tenant(&proxy, &db, "a")).await;
    let one = tell(of_tenant(&proxy, &db, "a"), "one", "");
    until_waiting(&db, &proxy, 1).await;
    let error = tell(of_tenant(&proxy, &db, "a"), "two", "").await.expect("no panic").expect_err("refused");
    let detail = error.as_db_error().and_then(|e| e.detail()).unwrap_or_default();
    assert!(
        code(&error) == "53300" && detail.contains("1 (tenant.max_waiting) for tenant \"a\""),
        "{detail}"
    );
    let other = tell(of_tenant(&proxy, &db, "b"), "other", "");
    until_waiting(&db, &proxy, 2).await;
    holder.batch_execute("COMMIT").await.expect("it ends");
    for task in [one, other] {
        task.await.expect("no panic").expect("told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_moved_by_the_configuration() {
    let elsewhere = replicated().primary();
    let sections = format!(
        "{BY_STARTUP}[[tenant]]\nname = \"acme\"\npool = \"own\"\n\
         [[backend]]\nname = \"elsewhere\"\nhost = \"{}\"\nport = {}\nsslmode = \"disable\"\n",
        elsewhere.host, elsewhere.port
    );
    let (db, proxy, options) = bed(&[], "", &sections);
    let place = "CREATE TABLE place (name text); GRANT ALL ON place TO PUBLIC; INSERT INTO place VALUES";
    db.psql(&format!("{place} ('here')"));
    let run =
        |database: &str, sql: &str| elsewhere.psql(database, sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    run("postgres", &format!("CREATE ROLE {} LOGIN PASSWORD '{}'", db.user, db.password));
    run("postgres", &format!("CREATE DATABASE {}", db.name));
    run(&db.name, &format!("{place} ('there')"));

    let find = "SELECT name FROM place";
    let url = of_tenant(&proxy, &db, "acme");
    let (idle, open, other) = (pg(&url).await, pg(&url).await, pg(&of_tenant(&proxy, &db, "globex")).await);
    let (temporary, listener) = (pg(&url).await, pg(&url).await);
    let prepared = idle.prepare(find).await.expect("prepared");
    assert_eq!(value(&idle, find).await, "here");
    temporary.batch_execute("CREATE TEMPORARY TABLE mine (n int)").await.expect("made");
    listener.batch_execute("LISTEN acme").await.expect("listens");
    open.batch_execute("BEGIN").await.expect("begins");
    assert_eq!(value(&open, find).await, "here");

    let extra = options.extra.replace("pool = \"own\"", "backend = \"elsewhere\"");
    proxy.reload(&db, &ProxyOptions { extra, ..options });
    let deadline = Instant::now() + Duration::from_secs(20);
    while value(&idle, find).await != "there" {
        assert!(Instant::now() < deadline, "it does not move");
    }
    let row = idle.query_one(&prepared, &[]).await.expect("what is prepared moves along");
    assert_eq!(row.get::<_, String>(0), "there");
    assert_eq!(value(&open, find).await, "here", "a transaction ends where it began");
    open.batch_execute("COMMIT").await.expect("it ends");
    assert_eq!(value(&open, find).await, "there");
    assert_eq!(value(&other, find).await, "here");
    assert_eq!(value(&pg(&url).await, find).await, "there");
    // What cannot move is told.
    let error = temporary.simple_query("SELECT * FROM mine").await.expect_err("its table is not there");
    assert!(error.is_closed() || code(&error) == "57P01", "{error:?}");
    let error = listener.simple_query("SELECT 1").await.expect_err("it would listen to nobody");
    assert!(error.is_closed() || code(&error) == "57P01", "{error:?}");
    run("postgres", &format!("DROP DATABASE {} WITH (FORCE)", db.name));
}

#[test]
fn the_host_name_of_tls_names_a_tenant() {
    let sections = "[tenants]\nby = [\"sni\", \"user\"]\nclaimed_by = \"USER\"\n\
                    [[tenant]]\nname = \"special\"\nsni = \"special.db.*\"\n";
    let db = Db::new();
    let certificates = Certificates::new(&db.user);
    let extra = sections.replace("USER", &db.user) + &certificates.section();
    let proxy = Proxy::start(&db, ProxyOptions { extra, ..Default::default() });
    let named = |host: &str| {
        let conninfo = format!(
            "host={host} hostaddr=127.0.0.1 port={} user={} password={} dbname={} sslmode=require",
            proxy.port, db.user, db.password, db.name
        );
        let explain = "EXPLAIN (ROUTE) SELECT 1";
        let output =
            Command::new("psql").args(["-XAtc", explain, &conninfo]).output().expect("psql is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("Tenant: ").map(str::to_string));
        line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    };
    assert!(named("acme.db.example").starts_with("acme (by the host name of its TLS)"));
    assert!(named("special.db.example").starts_with("special (by its [[tenant]])"));
    assert!(named("127.0.0.1").starts_with(&db.user), "an address is no name");
}

/// Latencies of statements one after the other, sorted.
async fn latencies(url: String, sql: &str, time: Duration) -> Vec<Duration> {
    let client = pg(&url).await;
    value(&client, "SELECT 1").await;
    let (began, mut all) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let at = Instant::now();
        client.simple_query(sql).await.expect(sql);
        all.push(at.elapsed());
    }
    all.sort();
    all
}

fn quantile(sorted: &[Duration], of_100: usize) -> Duration {
    sorted[(sorted.len() * of_100 / 100).min(sorted.len() - 1)]
}

/// How long a small tenant's statements take alone and beside 500 clients of another that never pause.
async fn beside_a_flood(what: &str, sections: &str, sql: &'static str) {
    let db = Db::new();
    // Logins are not what is measured.
    let options = ProxyOptions {
        extra: sections.into(),
        pool: "size = 10".into(),
        hba: TRUST.into(),
        ..Default::default()
    };
    let proxy = Proxy::start(&db, options);
    let name = |name: &str| if sections.is_empty() { proxy.url(&db) } else { of_tenant(&proxy, &db, name) };
    let solo = latencies(name("small"), sql, Duration::from_secs(4)).await;
    let flood: Vec<_> = (0..500)
        .map(|_| {
            let url = name("flood");
            tokio::spawn(async move {
                let client = pg(&url).await;
                while client.simple_query(sql).await.is_ok() {}
            })
        })
        .collect();
    // All of them are there, and most of them wait.
    let deadline = Instant::now() + Duration::from_secs(60);
    while waiting(&db, &proxy).await < 450 {
        assert!(Instant::now() < deadline, "they do not wait: {}", waiting(&db, &proxy).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let flooded = latencies(name("small"), sql, Duration::from_secs(8)).await;
    flood.iter().for_each(JoinHandle::abort);
    let (p50, p99) = (|all: &[Duration]| quantile(all, 50), |all: &[Duration]| quantile(all, 99));
    let ratio = p99(&flooded).as_secs_f64() / p99(&solo).as_secs_f64();
    #[allow(clippy::print_stderr, reason = "it is run for its figures")]
    {
        eprintln!(
            "{what}: alone p50 {:?}, p99 {:?}; beside 500 clients p50 {:?}, p99 {:?}: {ratio:.2} times",
            p50(&solo),
            p99(&solo),
            p50(&flooded),
            p99(&flooded)
        );
    }
}

/// Figures for README: `cargo test --test integration -- --ignored --nocapture a_flood_of_one_tenant`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn a_flood_of_one_tenant_is_measured() {
    let sleep = "SELECT pg_sleep(0.005)";
    beside_a_flood("5 ms, no tenants", "", sleep).await;
    beside_a_flood("5 ms, by weight", BY_STARTUP, sleep).await;
    let guaranteed = format!("{BY_STARTUP}[[tenant]]\nname = \"small\"\nguaranteed = 1\n");
    beside_a_flood("5 ms, one guaranteed", &guaranteed, sleep).await;
    let bounded = format!("{BY_STARTUP}[[tenant]]\nname = \"flood\"\nmax = 1\n");
    beside_a_flood(
        "2 ms of CPU, the others at most one",
        &bounded,
        "SELECT count(*) FROM generate_series(1, 12000)",
    )
    .await;
}

/// Logs in as each of these tenants, eight at a time, has a statement answered, and leaves.
async fn come_and_go(proxy: &Proxy, db: &Db, names: impl Iterator<Item = String>) {
    let names = std::sync::Arc::new(std::sync::Mutex::new(names.collect::<Vec<_>>()));
    let worker = |url: String| {
        let names = names.clone();
        tokio::spawn(async move {
            loop {
                let Some(name) = names.lock().expect("no panic").pop() else { break };
                let client = pg(&format!("{url}?options=-c%20turnpike.tenant%3D{name}")).await;
                value(&client, "SELECT 1").await;
            }
        })
    };
    let workers: Vec<_> = (0..8).map(|_| worker(proxy.url(db))).collect();
    for worker in workers {
        worker.await.expect("no panic");
    }
}

/// Mean time of a statement of one session, which is a tenant by each of these names in turn before each.
async fn mean(client: &Client, names: &[String], statements: usize) -> Duration {
    let mut took = Duration::ZERO;
    for n in 0..statements {
        if names.len() > 1 {
            let set = format!("SET turnpike.tenant = '{}'", names[n * 7919 % names.len()]);
            client.batch_execute(&set).await.expect("its word counts");
        }
        let began = Instant::now();
        client.simple_query("SELECT 1").await.expect("a row");
        took += began.elapsed();
    }
    took / u32::try_from(statements).expect("some")
}

/// Figures for README: `cargo test --test integration -- --ignored --nocapture ten_thousand_tenants`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn ten_thousand_tenants_are_measured() {
    const TENANTS: usize = 10_000;
    const STATEMENTS: usize = 5_000;
    let db = Db::new();
    let sections =
        "[tenants]\nby = [\"set\", \"startup\"]\nclaimed_by = \"*\"\nstatements_per_second = 1000000\n";
    // Logins are not what is measured.
    let options = ProxyOptions {
        extra: sections.into(),
        pool: "size = 10".into(),
        hba: TRUST.into(),
        ..Default::default()
    };
    let proxy = Proxy::start(&db, options);
    let names: Vec<String> = (0..TENANTS).map(|n| format!("tenant{n:05}")).collect();
    let client = pg(&of_tenant(&proxy, &db, "one")).await;
    // What logins leave behind that are no tenants is there before.
    come_and_go(&proxy, &db, std::iter::repeat_n("one".to_string(), 2000)).await;
    mean(&client, &[], STATEMENTS).await;
    let (alone, few) = (mean(&client, &[], STATEMENTS).await, mean(&client, &names[..10], STATEMENTS).await);
    let before = proxy.rss();
    come_and_go(&proxy, &db, names.iter().cloned()).await;
    let after = proxy.rss();
    let began = Instant::now();
    let (_, metrics) = crate::metrics::get(&proxy, "/metrics");
    let scrape = began.elapsed();
    let (beside, many) = (mean(&client, &[], STATEMENTS).await, mean(&client, &names, STATEMENTS).await);
    let series = metrics.lines().filter(|line| line.starts_with("turnpike_tenant_connections{")).count();
    #[allow(clippy::print_stderr, reason = "it is run for its figures")]
    {
        eprintln!(
            "{TENANTS} tenants: {} bytes each; a statement {alone:?} with one of them known, {beside:?} with all; \
             of ten in turn {few:?}, of all in turn {many:?}; /metrics in {scrape:?}, {series} of them in it",
            after.saturating_sub(before) / TENANTS as u64
        );
    }
}
