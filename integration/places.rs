//! Whole clusters that a tenant's work or rehearsed traffic goes to (`[[tenant]] cluster`, `[[mirror]] cluster`), as the
//! configuration has it from one RELOAD to the next.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use turnpike::app::cluster::{Cluster as Servers, Server};

use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, replicated, rows, value};
use crate::mirrors::{Bed, SHOP, number, prepare_second, second};

/// A database and its role that are on other servers, too, for as long as this lives.
struct Copies(String);

impl Drop for Copies {
    fn drop(&mut self) {
        let script = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.0);
        for servers in [replicated(), second()] {
            let _ = servers.primary().psql("postgres", &script);
        }
    }
}

/// Makes them, each with what its script makes.
fn copies(db: &Db, on_replicated: &str, on_second: &str) -> Copies {
    let Db { name, user, password, .. } = db;
    for (database, script) in [
        ("postgres", &format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'")[..]),
        ("postgres", &format!("CREATE DATABASE {name} OWNER {user}")),
        (name, on_replicated),
    ] {
        replicated().primary().psql(database, script).unwrap_or_else(|e| panic!("{script}: {e}"));
    }
    replicated().wait_replayed().expect("replicas have it");
    prepare_second(db, on_second);
    Copies(name.clone())
}

/// `[[backend]]`s and the `[[cluster]]` of that name that they are.
fn section(name: &str, servers: &Servers) -> String {
    let all: Vec<&Server> = [servers.primary()].into_iter().chain(servers.replicas()).collect();
    let backend = |(i, server): (usize, &&Server)| {
        let Server { host, port, .. } = server;
        format!(
            "[[backend]]\nname = \"{name}{i}\"\nhost = \"{host}\"\nport = {port}\nsslmode = \"disable\"\n"
        )
    };
    let backends: String = all.iter().enumerate().map(backend).collect();
    let names: Vec<String> = (0..all.len()).map(|i| format!("{name}{i}")).collect();
    format!(
        "{backends}[[cluster]]\nname = \"{name}\"\nuser = \"{name}_probe\"\nbackends = {names:?}\n\
         [[user]]\nname = \"{name}_probe\"\npassword = \"{}\"\n",
        servers.password()
    )
}

/// The role that probes ask as.
fn probe(name: &str, servers: &Servers) {
    let role = format!("CREATE ROLE {name}_probe SUPERUSER LOGIN PASSWORD '{}'", servers.password());
    // It may be there from another test.
    let _ = servers.primary().psql("postgres", &role);
}

async fn until(client: &Client, sql: &str, want: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let got = value(client, sql).await;
        if got == want {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {got} and not {want}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a read goes to a backend whose name begins so.
async fn until_read_at(client: &Client, sql: &str, names: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let lines = rows(client, &format!("EXPLAIN (ROUTE) {sql}")).await;
        let route = lines.iter().find_map(|row| row[0].trim().strip_prefix("Route: ").map(str::to_string));
        let route = route.unwrap_or_else(|| panic!("{lines:?}"));
        if names.iter().any(|name| route.contains(&format!("\"{name}\""))) {
            return;
        }
        assert!(Instant::now() < deadline, "{lines:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const FIND: &str = "SELECT name FROM place WHERE n = 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_moved_to_clusters_by_the_configuration() {
    let db = Db::new();
    let place = |name: &str| {
        format!(
            "CREATE TABLE place (n serial PRIMARY KEY, name text); GRANT ALL ON place, place_n_seq TO PUBLIC; \
             INSERT INTO place (name) VALUES ('{name}')"
        )
    };
    db.psql(&place("here"));
    let _copies = copies(&db, &place("there"), &place("far"));
    probe("there", replicated());
    probe("far", second());
    let tenants = "[tenants]\nby = \"startup\"\nclaimed_by = \"*\"\n";
    let with = |lines: &str, sections: &str| ProxyOptions {
        extra: format!("{tenants}[[tenant]]\nname = \"acme\"\n{lines}\n{sections}"),
        ..Default::default()
    };
    let proxy = Proxy::start(&db, with("pool = \"own\"", ""));
    let of = |name: &str| format!("{}?options=-c%20turnpike.tenant%3D{name}", proxy.url(&db));
    let (idle, open, other) = (pg(&of("acme")).await, pg(&of("acme")).await, pg(&of("globex")).await);
    let prepared = idle.prepare(FIND).await.expect("prepared");
    idle.batch_execute("SET DateStyle = 'German'").await.expect("set");
    open.batch_execute("BEGIN").await.expect("begins");
    assert_eq!((value(&idle, FIND).await, value(&open, FIND).await), ("here".into(), "here".into()));

    // Nobody has heard of that cluster before.
    let there = section("there", replicated());
    proxy.reload(&db, &with("cluster = \"there\"", &there));
    until(&idle, FIND, "there").await;
    let row = idle.query_one(&prepared, &[]).await.expect("what is prepared moves along");
    assert_eq!(row.get::<_, String>(0), "there");
    assert_eq!(value(&idle, "SELECT '2026-02-01'::date").await, "01.02.2026", "and what is set");
    assert_eq!(value(&open, FIND).await, "here", "a transaction ends where it began");
    open.batch_execute("COMMIT").await.expect("it ends");
    assert_eq!(value(&open, FIND).await, "there");
    assert_eq!(value(&other, FIND).await, "here");

    // Reads are split there, writes go to its primary, and who has written reads it.
    until_read_at(&idle, FIND, &["there1", "there2"]).await;
    for n in 2..12 {
        idle.batch_execute(&format!("INSERT INTO place (name) VALUES ('w{n}')")).await.expect("written");
        let read = format!("SELECT name FROM place WHERE n = {n}");
        assert_eq!(value(&idle, &read).await, format!("w{n}"));
    }
    let count = "SELECT count(*) FROM place";
    assert_eq!(replicated().primary().psql(&db.name, count).expect("a count").trim(), "11");
    assert_eq!(db.psql(count).trim(), "1");

    // From one cluster to another, and home.
    proxy.reload(&db, &with("cluster = \"far\"", &format!("{there}{}", section("far", second()))));
    until(&idle, FIND, "far").await;
    let row = idle.query_one(&prepared, &[]).await.expect("what is prepared moves along again");
    assert_eq!(row.get::<_, String>(0), "far");
    assert_eq!(value(&pg(&of("acme")).await, FIND).await, "far");
    idle.batch_execute("UPDATE place SET name = 'farther'").await.expect("written");
    assert_eq!(value(&open, FIND).await, "farther");
    proxy.reload(&db, &with("pool = \"own\"", ""));
    until(&idle, FIND, "here").await;
    assert_eq!((value(&open, FIND).await, value(&other, FIND).await), ("here".into(), "here".into()));
}

/// The servers on which mirrored statements have connections.
fn mirrored_on(db: &Db) -> Vec<&'static str> {
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'turnpike mirror' AND datname = '{}'",
        db.name
    );
    let [one, two] = replicated().replicas() else { panic!("there are two") };
    let servers =
        [("primary", replicated().primary()), ("one", one), ("two", two), ("second", second().primary())];
    let has = |server: &Server| server.psql("postgres", &count).expect("a count").trim() != "0";
    servers.into_iter().filter(|(_, server)| has(server)).map(|(name, _)| name).collect()
}

fn mirror(db: &Db, lines: &str, sections: &str) -> ProxyOptions {
    let Db { name, user, .. } = db;
    let extra = format!("[[mirror]]\ndatabase = \"{name}\"\nlogin = \"{user}\"\n{lines}\n{sections}");
    ProxyOptions { extra, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_rehearsed_on_clusters() {
    let db = Db::new();
    db.psql(SHOP);
    let _copies = copies(&db, SHOP, SHOP);
    second().primary().psql(&db.name, "UPDATE item SET name = 'other' WHERE id = 1").expect("another");
    probe("next", replicated());
    probe("last", second());
    let clusters = format!("{}{}", section("next", replicated()), section("last", second()));
    let proxy =
        Proxy::start(&db, mirror(&db, "name = \"next\"\ncluster = \"next\"\nconnections = 2", &clusters));
    let bed = Bed { db, proxy };
    let client = bed.client().await;
    // Before it is known who is a replica, reads go to the primary.
    let deadline = Instant::now() + Duration::from_secs(20);
    while bed.settled("next").await["run"] == "0" {
        assert!(Instant::now() < deadline, "nothing is run there: {:?}", bed.admin("SHOW MIRRORS").await);
        value(&client, "SELECT name FROM item WHERE id = 2").await;
    }
    for id in 1..=20 {
        value(&client, &format!("SELECT name FROM item WHERE id = {id}")).await;
    }
    let row = bed.settled("next").await;
    assert_eq!(row["target"], "cluster next");
    assert!(number(&row, "run") >= 20 && number(&row, "checksum") == 0, "{row:?}");
    assert!(
        mirrored_on(&bed.db).iter().all(|server| ["one", "two"].contains(server)),
        "{:?}",
        mirrored_on(&bed.db)
    );

    // To another cluster, by that line alone.
    bed.proxy.reload(&bed.db, &mirror(&bed.db, "name = \"next\"\ncluster = \"last\"", &clusters));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        value(&client, "SELECT name FROM item WHERE id = 1").await;
        let row = bed.settled("next").await;
        if row["target"] == "cluster last" && number(&row, "checksum") > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "it is not rehearsed there: {row:?}");
    }
    eventually("only the second server is asked", || mirrored_on(&bed.db) == ["second"]);

    // Sessions as a whole go to a cluster's primary.
    let whole = "name = \"whole\"\nmode = \"sessions\"\ncluster = \"next\"";
    bed.proxy.reload(&bed.db, &mirror(&bed.db, whole, &clusters));
    eventually("the second server is left alone", || mirrored_on(&bed.db).is_empty());
    for n in 1..=10 {
        client
            .batch_execute(&format!("INSERT INTO sale (id, item) VALUES ({n}, {n})"))
            .await
            .expect("written");
    }
    let row = bed.settled("whole").await;
    assert_eq!((number(&row, "lost"), number(&row, "failed")), (0, 0), "{row:?}");
    let there = || replicated().primary().psql(&bed.db.name, "SELECT count(*) FROM sale").expect("a count");
    eventually("the sales are on its primary, too", || there().trim() == "10");
    assert_eq!(mirrored_on(&bed.db), ["primary"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_follows_the_members_of_its_cluster() {
    let db = Db::new();
    db.psql(SHOP);
    let _copies = copies(&db, SHOP, SHOP);
    let server = |server: &Server| {
        let Server { host, port, .. } = server;
        format!("[[backend]]\nname = \"b{port}\"\nhost = \"{host}\"\nport = {port}\nsslmode = \"disable\"\n")
    };
    let one = server(replicated().primary()) + &server(second().primary());
    let of = |servers: &Servers| {
        let port = servers.primary().port;
        format!("{one}[[cluster]]\nname = \"next\"\nuser = \"{}\"\nbackends = [\"b{port}\"]\n", db.user)
    };
    let lines = "name = \"next\"\ncluster = \"next\"";
    let (before, after) = (mirror(&db, lines, &of(replicated())), mirror(&db, lines, &of(second())));
    let proxy = Proxy::start(&db, before);
    let bed = Bed { db, proxy };
    let client = bed.client().await;
    let until_on = async |server: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while mirrored_on(&bed.db) != [server] {
            assert!(Instant::now() < deadline, "it is rehearsed on {:?}", mirrored_on(&bed.db));
            for _ in 0..10 {
                value(&client, "SELECT name FROM item WHERE id = 2").await;
            }
        }
    };
    until_on("primary").await;
    bed.proxy.reload(&bed.db, &after);
    until_on("second").await;
}
