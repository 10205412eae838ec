//! Which way statements go by what rules, sessions and comments say of them, with real servers.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::harness::{pg, rows, try_pg, value};
use crate::split::{Bed, WHERE, bed, explained, port};

impl Bed {
    /// The port of a server, by its name in the configuration.
    fn of(&self, name: &str) -> u16 {
        match name.strip_prefix("replica") {
            Some(n) => self.replicas()[n.parse::<usize>().expect("a number") - 1],
            None => self.servers.primary().port,
        }
    }

    async fn with(&self, parameters: &str) -> Client {
        pg(&format!("{}?{parameters}", self.proxy.url(&self.db))).await
    }

    async fn admin(&self, sql: &str) -> Vec<Vec<String>> {
        rows(&pg(&self.proxy.admin_url(&self.db)).await, sql).await
    }

    /// Replicas have all that was written, and it is known.
    async fn caught_up(&self, client: &Client) {
        self.servers.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
        self.until_split(client).await;
    }

    fn on_primary(&self, sql: &str) {
        let primary = self.servers.primary();
        primary.psql(&self.db.name, sql).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Where a text is answered, several times: by chance it would be elsewhere, too. While it is not known yet what a session
/// has set, the primary answers.
async fn always(client: &Client, bed: &Bed, sql: &str, want: u16) {
    settled(client, bed, sql, want).await;
    for _ in 0..8 {
        let found = value(client, sql).await;
        assert_eq!(found, want.to_string(), "{sql}\n{}", explained(client, sql).await);
    }
}

async fn settled(client: &Client, bed: &Bed, sql: &str, want: u16) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let primary = bed.of("primary");
    while want != primary && value(client, sql).await == primary.to_string() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const RULES: &str = "
[[route]]
application_name = \"batch*\"
table = \"u\"
route = \"replica2\"
[[route]]
application_name = [\"batch*\", \"nightly\"]
route = \"replica1\"
[[route]]
table = [\"public.u\", \"nothing.*\"]
class = \"read\"
route = \"primary\"
";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rule_that_matches_counts() {
    let bed = bed(RULES).await;
    let from_u = "SELECT inet_server_port() FROM u";
    let (plain, batch) = (bed.client().await, bed.with("application_name=batch7").await);
    bed.until_split(&batch).await;
    always(&batch, &bed, WHERE, bed.of("replica1")).await;
    always(&batch, &bed, from_u, bed.of("replica2")).await;
    always(&plain, &bed, from_u, bed.of("primary")).await;
    assert!(bed.replicas().contains(&port(&plain).await));
    // Tables that a view stands for are tables that are read.
    plain.batch_execute("CREATE VIEW v AS SELECT inet_server_port() AS port FROM u").await.expect("made");
    bed.caught_up(&plain).await;
    always(&plain, &bed, "SELECT port FROM v", bed.of("primary")).await;
    // By the name that the session has now, also for what it has prepared.
    let prepared = batch.prepare(WHERE).await.expect("prepared");
    for (name, there) in [("nightly", Some("replica1")), ("else", None), ("batch", Some("replica1"))] {
        batch.batch_execute(&format!("SET application_name = '{name}'")).await.expect("set");
        let mut ports = Vec::new();
        for _ in 0..16 {
            ports.push(batch.query_one(&prepared, &[]).await.expect("a row").get::<_, i32>(0) as u16);
        }
        match there {
            Some(there) => assert!(ports.iter().all(|port| *port == bed.of(there)), "{name}: {ports:?}"),
            None => assert!(ports.iter().all(|port| bed.replicas().contains(port)), "{name}: {ports:?}"),
        }
    }
    let said = explained(&batch, from_u).await;
    assert!(said.contains("Rule: [[route]] 1 (line "), "{said}");
    assert!(said.contains("route=replica2 ([[route]] 1"), "{said}");
    assert!(said.contains("another one is asked for by name"), "{said}");
    let shown = bed.admin("SHOW ROUTES").await;
    let reads: Vec<u32> = shown.iter().map(|row| row[4].parse().expect("a number")).collect();
    assert!(shown.len() == 3 && reads.iter().all(|n| *n >= 8), "{shown:?}");

    // Other rules count at once, for sessions and statements of before, too.
    let fingerprint = explained(&plain, WHERE).await;
    let fingerprint = fingerprint.split("Fingerprint: ").nth(1).expect("one")[..32].to_string();
    bed.reload(&format!("\n[[route]]\nfingerprint = \"{fingerprint}\"\nroute = \"primary\"\n")).await;
    always(&plain, &bed, WHERE, bed.of("primary")).await;
    assert_eq!(
        batch.query_one(&prepared, &[]).await.expect("a row").get::<_, i32>(0) as u16,
        bed.of("primary")
    );
    assert!(bed.replicas().contains(&value(&plain, from_u).await.parse().expect("a port")));
    bed.reload("").await;
    assert!(bed.replicas().contains(&port(&plain).await));
    assert!(
        bed.replicas()
            .contains(&(batch.query_one(&prepared, &[]).await.expect("a row").get::<_, i32>(0) as u16))
    );
}

/// What a session has set, however it was set.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_say_where_they_go() {
    let bed = bed("[[route]]\nuser = \"*\"\nroute = \"replica2\"").await;
    let client = bed.client().await;
    let (primary, rule) = (bed.of("primary"), bed.of("replica2"));
    always(&client, &bed, WHERE, rule).await;
    for set in [
        "SET turnpike.route = 'replica1'",
        "SET turnpike.route TO REPLICA1",
        "SELECT set_config('turnpike.route', 'replica1', false)",
        "BEGIN; SET turnpike.route = replica1; COMMIT",
    ] {
        client.batch_execute(set).await.expect(set);
        always(&client, &bed, WHERE, bed.of("replica1")).await;
        assert_eq!(value(&client, "SHOW turnpike.route").await.to_lowercase(), "replica1", "{set}");
        client.batch_execute("RESET turnpike.route").await.expect("reset");
        always(&client, &bed, WHERE, rule).await;
        assert_eq!(value(&client, "SHOW turnpike.route").await, "auto");
    }
    // A word that SQL keeps for itself, by both protocols.
    client.batch_execute("SET turnpike.route = primary").await.expect("set");
    always(&client, &bed, WHERE, primary).await;
    assert_eq!(
        client.query_one("SHOW turnpike.route", &[]).await.expect("a row").get::<_, &str>(0),
        "primary"
    );
    client.execute("SET turnpike.route = replica1", &[]).await.expect("set");
    always(&client, &bed, WHERE, bed.of("replica1")).await;
    let named = client.prepare("SET SESSION turnpike.route TO primary").await.expect("prepared");
    client.execute(&named, &[]).await.expect("set");
    always(&client, &bed, WHERE, primary).await;
    // What is undone, or meant for a transaction alone, is over with that.
    client.batch_execute("BEGIN; SET turnpike.route = replica1; ROLLBACK").await.expect("undone");
    always(&client, &bed, WHERE, primary).await;
    client.batch_execute("BEGIN; SET LOCAL turnpike.route = replica1; SELECT 1; COMMIT").await.expect("over");
    always(&client, &bed, WHERE, primary).await;
    client
        .batch_execute("BEGIN; SAVEPOINT s; SET turnpike.route = auto; ROLLBACK TO s; COMMIT")
        .await
        .expect("undone");
    always(&client, &bed, WHERE, primary).await;
    client.batch_execute("SET turnpike.route = auto").await.expect("set");
    bed.until_split(&client).await;
    client.batch_execute("DISCARD ALL").await.expect("discarded");
    always(&client, &bed, WHERE, rule).await;
    // From the start, and by who it is.
    let began = bed.with("options=-c%20turnpike.route%3Dprimary").await;
    always(&began, &bed, WHERE, primary).await;
    began.batch_execute("SET turnpike.route = replica1").await.expect("set");
    always(&began, &bed, WHERE, bed.of("replica1")).await;
    began.batch_execute("RESET turnpike.route").await.expect("reset");
    always(&began, &bed, WHERE, primary).await;
    bed.on_primary(&format!("ALTER ROLE \"{}\" SET turnpike.route = 'replica1'", bed.db.user));
    bed.admin_refreshes().await;
    bed.caught_up(&client).await;
    always(&bed.client().await, &bed, WHERE, bed.of("replica1")).await;
}

impl Bed {
    async fn admin_refreshes(&self) {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        admin.batch_execute("REFRESH CATALOG").await.expect("read again");
    }
}

/// A comment comes before what is set, that before rules, those before the database.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_last_word() {
    let bed = bed("consistency = \"global\"\n[[route]]\ntable = \"u\"\nroute = \"replica2\"\nconsistency = \"eventual\"").await;
    let client = bed.client().await;
    let from_u = |hint: &str| format!("SELECT {hint} inet_server_port() FROM u");
    always(&client, &bed, &from_u(""), bed.of("replica2")).await;
    client.batch_execute("SET turnpike.route = replica1").await.expect("set");
    always(&client, &bed, &from_u(""), bed.of("replica1")).await;
    always(&client, &bed, &from_u("/* turnpike: route=primary */"), bed.of("primary")).await;
    always(&client, &bed, &from_u("/* turnpike: route=replica2 */"), bed.of("replica2")).await;
    // What nobody knows changes nothing.
    always(&client, &bed, &from_u("/* turnpike: route=nowhere consistency=strong */"), bed.of("replica1"))
        .await;
    client.batch_execute("SELECT set_config('turnpike.route', 'nowhere', false)").await.expect("set");
    always(&client, &bed, &from_u(""), bed.of("replica2")).await;
    let said = explained(&client, &from_u("/* turnpike: replica_wait=1s */")).await;
    let want = "Directions: route=replica2 ([[route]] 1 (line ";
    assert!(said.contains(want) && said.contains("replica_wait=1s (a comment)"), "{said}");
    client.batch_execute("RESET turnpike.route").await.expect("reset");

    // What must be seen, by table and by session: u by the rule, t as the database has it.
    bed.replay(false);
    let writer = bed.client().await;
    writer.batch_execute("UPDATE t SET n = 7; UPDATE u SET n = 7").await.expect("written");
    assert_eq!(value(&client, "SELECT n FROM u").await, "0", "eventual");
    assert_eq!(value(&client, "SELECT n FROM t WHERE id = 1").await, "7", "global");
    assert_eq!(value(&client, "SELECT /* turnpike: consistency=session */ n FROM t WHERE id = 1").await, "0");
    assert_eq!(value(&client, "SELECT /* turnpike: consistency=global */ n FROM u").await, "7");
    // Of tables that are read together, the rule of any counts.
    assert_eq!(value(&client, "SELECT max(u.n + t.n) FROM t, u").await, "0");
    client.batch_execute("SET turnpike.consistency = session").await.expect("set");
    let deadline = Instant::now() + Duration::from_secs(10);
    while value(&client, "SELECT n FROM t WHERE id = 1").await != "0" {
        assert!(Instant::now() < deadline, "{}", explained(&client, "SELECT n FROM t").await);
    }
    client.batch_execute("RESET turnpike.consistency").await.expect("reset");
    assert_eq!(value(&client, "SELECT n FROM t WHERE id = 1").await, "7");
    let said = explained(&client, "SELECT n FROM t").await;
    assert!(said.contains("behind a write") && said.contains("written: public.t"), "{said}");
    let shown = bed.admin("SHOW FENCES").await;
    let fence = |table: &str| shown.iter().find(|row| row[2] == table).cloned().unwrap_or_default();
    for table in ["public.t", "public.u"] {
        assert_eq!(fence(table).get(6).map(String::as_str), Some("replica1, replica2"), "{shown:?}");
    }
    bed.replay(true);
}

/// What cannot be meant is refused as PostgreSQL refuses it, and undoes the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_said() {
    let bed = bed("").await;
    let client = bed.client().await;
    for (set, parameter, hint) in [
        (
            "SET turnpike.route = nowhere",
            "route",
            "Available values: auto, primary, replica, replica1, replica2.",
        ),
        (
            "SET LOCAL turnpike.consistency TO 'strong'",
            "consistency",
            "Available values: eventual, bounded, session, global.",
        ),
        (
            "SET turnpike.max_lag = soon",
            "max_lag",
            "Valid units for this parameter are \"ms\", \"s\", \"min\", \"h\", and \"d\".",
        ),
    ] {
        for extended in [false, true] {
            let refused = if extended {
                client.execute(set, &[]).await.err()
            } else {
                client.batch_execute(set).await.err()
            };
            let refused =
                refused.and_then(|e| e.as_db_error().cloned()).expect("an error of the server's kind");
            assert_eq!(refused.code().code(), "22023", "{set}");
            assert!(
                refused
                    .message()
                    .starts_with(&format!("invalid value for parameter \"turnpike.{parameter}\": \"")),
                "{refused}"
            );
            assert_eq!(refused.hint(), Some(hint), "{set}");
        }
    }
    client.batch_execute("BEGIN; UPDATE u SET n = 9").await.expect("begun");
    client.batch_execute("SET turnpike.route = nowhere").await.expect_err("refused");
    // The driver returns with the error, before the status that follows it has come.
    client.batch_execute("SELECT 1").await.expect_err("it has failed");
    let failed = client.batch_execute("SET turnpike.route = nowhere").await.expect_err("it has failed");
    assert_eq!(failed.code().map(|c| c.code()), Some("25P02"));
    client.batch_execute("COMMIT").await.expect("rolled back");
    assert_eq!(value(&client, "SELECT n FROM u").await, "0");
    // Settings of others that look like ours are theirs.
    client.batch_execute("SET turnpike.colour = 'red'").await.expect("set");
    assert_eq!(value(&client, "SHOW turnpike.colour").await, "red");
    bed.until_split(&client).await;
    assert!(try_pg(bed.proxy.url(&bed.db)).await.is_ok());
}

/// Writes go to the primary whatever is said; reads that no replica may serve go there if they may.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_and_no_one_else() {
    let bed = bed("").await;
    let rule = "[[route]]\nclass = [\"read\", \"write\"]\nroute = \"replica\"\nfallback_to_primary = false";
    bed.reload(rule).await;
    let client = bed.client().await;
    client.batch_execute("SET turnpike.route = replica1").await.expect("set");
    client.batch_execute("UPDATE u SET n = 1").await.expect("written");
    client.batch_execute("RESET turnpike.route").await.expect("reset");
    client.execute("/* turnpike: route=replica2 */ UPDATE u SET n = n + 1", &[]).await.expect("written");
    assert_eq!(value(&client, "SELECT n FROM u FOR UPDATE").await, "2");
    bed.replay(false);
    client.batch_execute("UPDATE u SET n = 3").await.expect("written");
    for extended in [false, true] {
        let refused = match extended {
            false => client.simple_query("SELECT n FROM u").await.err(),
            true => client.query("SELECT n FROM u", &[]).await.err(),
        };
        let refused = refused.and_then(|e| e.as_db_error().cloned()).expect("refused");
        assert_eq!((refused.code().code(), refused.message()), ("57P03", "no replica may serve this read"));
        assert!(refused.hint().is_some_and(|hint| hint.contains("fallback_to_primary")), "{refused:?}");
        assert!(
            refused.detail().is_some_and(|detail| detail.contains("replica1: behind a write")),
            "{refused:?}"
        );
    }
    let said = explained(&client, "SELECT n FROM u").await;
    assert!(said.contains("Route: none: no replica may serve it"), "{said}");
    // The session may have it otherwise, and so may a statement.
    assert_eq!(value(&client, "SELECT /* turnpike: fallback_to_primary=on */ n FROM u").await, "3");
    client.batch_execute("SET turnpike.fallback_to_primary = on").await.expect("set");
    assert_eq!(value(&client, "SELECT n FROM u").await, "3");
    // A replica by name is asked for nothing that it has not seen, and nor is another in its place.
    bed.servers.replicas()[1]
        .psql("postgres", "SELECT pg_wal_replay_resume()")
        .unwrap_or_else(|e| panic!("{e}"));
    client.batch_execute("SET turnpike.route = replica1").await.expect("set");
    always(&client, &bed, "SELECT inet_server_port() FROM u", bed.of("primary")).await;
    client
        .batch_execute("SET turnpike.route = replica2; SET turnpike.replica_wait = '10s'")
        .await
        .expect("set");
    let begun = Instant::now();
    assert_eq!(value(&client, "SELECT inet_server_port() FROM u").await, bed.of("replica2").to_string());
    assert!(begun.elapsed() < Duration::from_secs(10));
    bed.replay(true);
}
