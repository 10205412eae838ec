//! What statements are understood as, as clients and admins are told: EXPLAIN (ROUTE), SHOW PLANS, SHOW FALLBACKS.

use tokio_postgres::SimpleQueryMessage;

use crate::harness::raw::{bind, describe, execute, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions, pg, rows, value};

fn bed() -> (Db, Proxy) {
    let db = Db::new();
    db.psql("CREATE TABLE orders (id int PRIMARY KEY, region text, total numeric); INSERT INTO orders VALUES (1, 'n', 5)");
    db.psql(&format!("GRANT ALL ON orders TO {}", db.user));
    let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 2".into(), ..Default::default() });
    (db, proxy)
}

async fn explain(client: &tokio_postgres::Client, sql: &str) -> String {
    rows(client, sql).await.into_iter().map(|row| row.join("|")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn explain_route_says_what_was_understood() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    let said =
        explain(&client, "EXPLAIN (ROUTE) SELECT o.total FROM orders o WHERE o.region = 'n' ORDER BY o.id")
            .await;
    for part in [
        "Route: backend \"",
        "Class: ",
        "Fingerprint: ",
        "Shape: select o . total from orders o where o . region = ? order by o . id",
        "Table: orders, read; ",
        "region (equal, read)",
        "id (sort)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said =
        explain(&client, "EXPLAIN (ROUTE) WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x").await;
    assert!(
        said.contains("Class: primary") && said.contains("Because: SELECT writes")
            || said.contains("WITH writes"),
        "{said}"
    );
    assert_eq!(value(&client, "SELECT count(*) FROM orders").await, "1", "nothing is run");
    // A plain EXPLAIN is the server's.
    assert!(explain(&client, "EXPLAIN SELECT 1").await.contains("Result"));
    // And so is what Turnpike has no such option for.
    let error =
        client.simple_query("EXPLAIN (ROUTE, BUFFERS) SELECT 1").await.map(drop).expect_err("no such option");
    assert_eq!(error.code().map(|c| c.code()), Some("42601"));
}

#[tokio::test]
async fn explain_route_in_every_form() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    let prepared = client.prepare("EXPLAIN (ROUTE) SELECT 1").await.expect("prepared");
    assert_eq!(prepared.columns()[0].name(), "QUERY PLAN");
    for _ in 0..3 {
        let rows = client.query(&prepared, &[]).await.expect("rows");
        assert!(rows[0].get::<_, &str>(0).starts_with("Route: "));
    }
    let json = value(&client, "EXPLAIN (ROUTE, FORMAT JSON) SELECT 1 FROM orders").await;
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json[0]["Statements"][0]["Tables"][0]["Name"], "orders");
    let mut raw = proxy.raw(&db);
    raw.send(
        [
            parse("", "EXPLAIN (ROUTE) SELECT 1"),
            bind("", "", &[]),
            describe('P', ""),
            execute("", 2),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    let kinds: String = raw.until_ready(1).iter().map(|f| f.kind as char).collect();
    assert!(kinds.starts_with("12TDDsD") && kinds.ends_with("CZ"), "{kinds}");
    // In a failed transaction it fails like any other statement.
    raw.send(
        [query("BEGIN"), query("SELECT 1/0"), query("EXPLAIN (ROUTE) SELECT 1"), query("ROLLBACK")].concat(),
    );
    let codes: Vec<String> =
        raw.until_ready(4).iter().filter(|f| f.kind == b'E').map(|f| f.field(b'C')).collect();
    assert_eq!(codes, ["22012", "25P02"]);
}

#[tokio::test]
async fn explain_route_analyze_runs_it_and_says_where_the_time_went() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    let said =
        explain(&client, "EXPLAIN (ROUTE, ANALYZE) INSERT INTO orders SELECT 2, 's', 7 FROM pg_sleep(0.05)")
            .await;
    for part in ["Queue: ", "Connect: ", "Backend: ", "Transfer: "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let backend = said.lines().find_map(|l| l.trim().strip_prefix("Backend: ")).expect("a line");
    assert!(backend.trim_end_matches(" ms").parse::<f64>().expect("a number") >= 50.0, "{said}");
    assert_eq!(value(&client, "SELECT count(*) FROM orders").await, "2");
    let said =
        explain(&client, "EXPLAIN (ROUTE, ANALYZE) SELECT * FROM orders, generate_series(1, 5000)").await;
    assert!(said.contains("10000 rows"), "{said}");
    let error =
        client.simple_query("EXPLAIN (ROUTE, ANALYZE) SELECT 1/0").await.map(drop).expect_err("it fails");
    assert_eq!(error.code().map(|c| c.code()), Some("22012"));
    // What it sets is set, and what is no query is not run.
    explain(&client, "EXPLAIN (ROUTE, ANALYZE) SELECT set_config('TimeZone', 'Asia/Tokyo', false), set_config('a.b', 'c', false)").await;
    let other = pg(&proxy.url(&db)).await;
    for _ in 0..3 {
        assert_eq!(
            value(&client, "SELECT current_setting('TimeZone') || current_setting('a.b')").await,
            "Asia/Tokyoc"
        );
        assert_ne!(value(&other, "SHOW TimeZone").await, "Asia/Tokyo");
    }
    let said = explain(&client, "EXPLAIN (ROUTE, ANALYZE) COPY orders FROM STDIN").await;
    assert!(said.contains("COPY (copy in)") && !said.contains("Backend: "), "{said}");
    // Nothing overtakes it.
    let mut raw = proxy.raw(&db);
    raw.send([query("EXPLAIN (ROUTE, ANALYZE) SELECT pg_sleep(0.1)"), query("SELECT 'next'")].concat());
    let frames = raw.until_ready(2);
    let first = frames.iter().find(|f| f.kind == b'D').expect("a row").column();
    assert!(first.starts_with("Route: "), "{first}");
    assert_eq!(frames.iter().rev().find(|f| f.kind == b'D').expect("a row").column(), "next");
}

#[tokio::test]
async fn plans_and_fallbacks_are_shown() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    for n in 0..10 {
        client
            .batch_execute(&format!("SELECT * FROM orders WHERE id = {n} /* {n} */"))
            .await
            .expect("a query");
        client.query("SELECT region FROM orders WHERE total > $1::int4", &[&n]).await.expect("a query");
    }
    client.batch_execute("SELECT * FROM nowhere").await.expect_err("no such table");
    let deep = format!("SELECT {}1{}", "(".repeat(80), ")".repeat(80));
    client.batch_execute(&deep).await.expect("deep");
    let admin = pg(&proxy.admin_url(&db)).await;
    let messages = admin.simple_query("SHOW PLANS").await.expect("plans");
    // Of one shape there are two where the catalog has been read again meanwhile.
    let plan = |shape: &str| {
        let rows = messages.iter().filter_map(|m| match m {
            SimpleQueryMessage::Row(row) if row.get("shape").is_some_and(|s| s.contains(shape)) => Some(row),
            _ => None,
        });
        let number = |text: Option<&str>| text.and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
        let counts = rows.map(|row| ["calls", "errors", "rows"].map(|name| number(row.get(name))));
        let sum = counts.reduce(|a, b| std::array::from_fn(|i| a[i] + b[i]));
        sum.unwrap_or_else(|| panic!("no plan of {shape}: {messages:?}")).map(|n| n.to_string())
    };
    assert_eq!(plan("from orders where id = ?"), ["10", "0", "1"]);
    assert_eq!(plan("select region from orders")[0], "10");
    assert_eq!(plan("from nowhere")[..2], ["1", "1"]);
    let fallbacks = rows(&admin, "SHOW FALLBACKS").await;
    assert!(fallbacks.iter().any(|row| row[0] == "nested too deep"), "{fallbacks:?}");
}

/// The same text is another statement under another search path, and anew when objects have changed.
#[tokio::test]
async fn plans_belong_to_what_names_mean() {
    let (db, proxy) = bed();
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    a.batch_execute(
        "CREATE SCHEMA other; CREATE VIEW other.things AS SELECT 1 AS x; CREATE TABLE things (x int)",
    )
    .await
    .expect("made");
    b.batch_execute("SET search_path = other").await.expect("set");
    let admin = pg(&proxy.admin_url(&db)).await;
    let count = async || {
        rows(&admin, "SHOW PLANS")
            .await
            .iter()
            .filter(|row| row.iter().any(|c| c == "select x from things"))
            .count()
    };
    for client in [&a, &b, &a, &b] {
        client.batch_execute("SELECT x FROM things").await.expect("a query");
    }
    assert_eq!(count().await, 2);
    a.batch_execute("ALTER TABLE things ADD y int").await.expect("altered");
    b.batch_execute("SELECT x FROM things").await.expect("a query");
    assert_eq!(count().await, 3);
}

/// The class of a statement, and why, by EXPLAIN (ROUTE).
async fn class(client: &tokio_postgres::Client, sql: &str) -> (String, String) {
    let said = explain(client, &format!("EXPLAIN (ROUTE) {sql}")).await;
    let line =
        said.lines().find_map(|l| l.trim().strip_prefix("Class: ")).unwrap_or_else(|| panic!("{said}"));
    (line.split(' ').next().unwrap_or_default().to_string(), said)
}

#[tokio::test]
async fn a_read_is_one_only_when_certain() {
    let (db, proxy) = bed();
    db.psql(
        "CREATE SEQUENCE s; CREATE VIEW plain AS SELECT region, count(*) FROM orders GROUP BY region;
         CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO orders VALUES (9); RETURN 1; END';
         CREATE FUNCTION writes(orders) RETURNS int LANGUAGE sql AS 'SELECT writes()';
         CREATE FUNCTION region(orders) RETURNS int LANGUAGE sql AS 'SELECT writes()';
         CREATE FUNCTION all_orders() RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM orders';
         CREATE FUNCTION within(o orders) RETURNS int LANGUAGE sql STABLE AS 'SELECT o.writes';
         CREATE FUNCTION reads(r text) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM orders WHERE region = r';
         CREATE FUNCTION sneaks() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT nextval(''s'')';
         CREATE VIEW hides AS SELECT writes() AS x; CREATE VIEW deeper AS SELECT * FROM hides;
         CREATE TABLE secret (a int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON secret USING (writes() = 1); CREATE UNLOGGED TABLE unlogged (a int);
         GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT ALL ON s TO PUBLIC",
    );
    let client = pg(&proxy.url(&db)).await;
    for sql in [
        "SELECT * FROM orders WHERE id = 1",
        "SELECT region, sum(total), random(), now(), gen_random_uuid() FROM orders GROUP BY region",
        "SELECT * FROM plain",
        "SELECT reads('n')",
        "WITH x AS (SELECT * FROM orders) SELECT upper(region), current_user FROM x",
        "SELECT relname::text FROM pg_class WHERE relname LIKE 'o%'",
        "SELECT extract(epoch FROM now()), trim(' x '), position('a' IN 'b'), 1 BETWEEN 0 AND 2",
        "SELECT o.* FROM orders o JOIN LATERAL generate_series(1, 3) g ON true ORDER BY 1",
        "EXPLAIN SELECT * FROM orders",
        "SELECT o.region FROM orders o JOIN plain p ON true WHERE o.region > 'a' ORDER BY lower(o.region), o.region",
        "SELECT x.count, x.reads FROM (SELECT count(*), 1 AS reads FROM orders) x ORDER BY x.count + 1",
    ] {
        let (class, said) = class(&client, sql).await;
        assert_eq!(class, "read", "{sql}: {said}");
    }
    for (sql, because) in [
        ("SELECT writes()", "writes is volatile"),
        ("SELECT nextval('s')", "nextval is volatile"),
        ("SELECT * FROM hides", "hides: public.writes is volatile"),
        ("SELECT * FROM deeper", "hides: public.writes is volatile"),
        ("SELECT sneaks()", "function sneaks: nextval is volatile"),
        ("SELECT * FROM secret", "policy p of secret: "),
        ("SELECT * FROM unlogged", "temporary or unlogged"),
        ("SELECT txid_current()", "belongs to the primary"),
        ("SELECT * FROM pg_stat_activity", "speaks of the server"),
        ("SELECT * FROM nowhere", "what nowhere is is not known"),
        ("SELECT nothing(1)", "what nothing is is not known"),
        ("SELECT * FROM orders FOR UPDATE", "locks rows"),
        ("INSERT INTO orders VALUES (5)", "INSERT writes"),
        ("SELECT pg_advisory_lock(1)", "advisory lock"),
        ("SELECT o.writes FROM orders o", "it may be a function"),
        ("SELECT (o).writes FROM orders o JOIN plain p ON true", "writes after a dot may be a function"),
        ("SELECT (array_agg(o))[1].writes FROM orders o JOIN plain p ON true", "writes after a dot may be"),
        ("SELECT x.writes FROM all_orders() x", "writes after a dot may be a function"),
        ("SELECT (x.o).region FROM (SELECT o FROM orders o) x", "region after a dot may be a function"),
        ("SELECT 1 FROM orders o, all_orders() x ORDER BY x.writes + 1", "writes after a dot may be"),
        ("SELECT within(o) FROM orders o", "function within: writes after a dot may be a function"),
        ("BEGIN", "BEGIN is no query"),
    ] {
        let (class, said) = class(&client, sql).await;
        assert!(class == "primary" && said.contains(because), "{sql}: {said}");
    }
}

/// What was decided goes when objects change; what someone else has not committed yet is nobody's business but theirs.
#[tokio::test]
async fn classes_follow_the_catalog() {
    let (db, proxy) = bed();
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    a.batch_execute("CREATE VIEW v AS SELECT 1 AS x").await.expect("made");
    assert_eq!(class(&a, "SELECT * FROM v").await.0, "read");
    a.batch_execute("BEGIN; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE OR REPLACE VIEW v AS SELECT f() AS x")
        .await
        .expect("changed");
    assert_eq!(class(&a, "SELECT * FROM v").await.0, "primary", "its own changes are not in the catalog yet");
    // What is being altered is not known to others either, but nobody waits for it.
    assert!(!class(&b, "SELECT * FROM v").await.1.contains("f is volatile"));
    assert_eq!(class(&b, "SELECT * FROM orders").await.0, "read");
    a.batch_execute("COMMIT").await.expect("committed");
    for client in [&a, &b] {
        let (class, said) = class(client, "SELECT * FROM v").await;
        assert!(class == "primary" && said.contains("f is volatile"), "{said}");
    }
    db.psql(&format!("ALTER FUNCTION f() OWNER TO {}", db.user));
    a.batch_execute("ALTER FUNCTION f() STABLE").await.expect("altered");
    assert_eq!(class(&b, "SELECT * FROM v").await.0, "read");
}

#[tokio::test]
async fn two_roles_and_two_paths_are_two_meanings() {
    let (db, proxy) = bed();
    db.psql("CREATE SCHEMA x; CREATE SCHEMA y; CREATE VIEW x.v AS SELECT 1 AS a; CREATE SEQUENCE public.q; CREATE VIEW y.v AS SELECT nextval('public.q') AS a");
    db.psql("GRANT USAGE ON SCHEMA x, y TO PUBLIC; GRANT SELECT ON x.v, y.v TO PUBLIC");
    let client = pg(&proxy.url(&db)).await;
    for (path, want) in [("x", "read"), ("y", "primary"), ("x, y", "read"), ("y, x", "primary")] {
        client.batch_execute(&format!("SET search_path = {path}")).await.expect("set");
        assert_eq!(class(&client, "SELECT a FROM v").await.0, want, "{path}");
    }
    client.batch_execute("RESET search_path").await.expect("reset");
    assert!(class(&client, "SELECT a FROM v").await.1.contains("what v is is not known"));
    assert_eq!(class(&client, "SELECT a FROM x.v").await.0, "read");
}

/// A SELECT of about as many kilobytes that takes long to understand: every `n` has a shape of its own.
fn large(n: usize, kilobytes: usize) -> String {
    let columns = (0..kilobytes * 1024 / 40).map(|i| format!("(lower(upper(region)) = 'x') AS c{n}_{i}"));
    format!("SELECT {} FROM orders", columns.collect::<Vec<_>>().join(", "))
}

#[tokio::test]
async fn large_texts_are_planned_aside() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    let texts: Vec<String> = (0..4).map(|n| large(n, 20)).collect();
    assert!(texts[0].len() > 8 * 1024 && texts[0].len() < 30 * 1024, "{}", texts[0].len());
    // In every form, again, and after what it means has changed.
    client.batch_execute(&texts[0]).await.expect("simple");
    let prepared = client.prepare(&texts[1]).await.expect("prepared");
    let mut raw = proxy.raw(&db);
    for round in 0..3 {
        assert_eq!(client.simple_query(&texts[0]).await.expect("simple").len(), 3);
        assert_eq!(client.query(&prepared, &[]).await.expect("named").len(), 1);
        raw.send([parse("", &texts[2]), bind("", "", &[]), execute("", 0), sync()].concat());
        let kinds: String = raw.until_ready(1).iter().map(|f| f.kind as char).collect();
        assert_eq!(kinds, "12DCZ");
        raw.send([bind("", "", &[]), execute("", 0), sync()].concat());
        raw.until_ready(1);
        let said = explain(&client, &format!("EXPLAIN (ROUTE) {}", texts[3])).await;
        assert!(said.contains("Table: orders, read"), "{said}");
        client.batch_execute(&format!("CREATE TABLE another{round} (x int)")).await.expect("made");
        // Bound only after that.
        raw.send([bind("", "", &[]), execute("", 0), sync()].concat());
        let kinds: String = raw.until_ready(1).iter().map(|f| f.kind as char).collect();
        assert_eq!(kinds, "2DCZ");
    }
    // An error is an error, and what comes behind one that waits keeps its place.
    raw.send(
        [query(&large(9, 20).replace("FROM orders", "FROM nowhere")), query(&texts[0]), query("SELECT 1")]
            .concat(),
    );
    let kinds: String = raw.until_ready(3).iter().map(|f| f.kind as char).collect();
    assert_eq!(kinds, "EZTDCZTDCZ");
}

#[tokio::test]
async fn nobody_waits_for_the_plan_of_a_large_text() {
    let db = Db::new();
    db.psql("CREATE TABLE orders (id int, region text)");
    db.psql(&format!("GRANT ALL ON orders TO {}", db.user));
    let options = ProxyOptions { general: "workers = 1".into(), ..Default::default() };
    let proxy = Proxy::start(&db, options);
    // Were plans made on the one worker, small statements would be answered before and after each, and none between:
    // four or so. A busy machine may do the same now and then.
    let mut most = 0;
    for attempt in 0..3 {
        let (client, other) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
        other.batch_execute("SELECT 1").await.expect("warm");
        let busy = tokio::spawn(async move {
            for n in 0..4 {
                client.batch_execute(&large(4 * attempt + n, 20)).await.expect("a large one");
            }
        });
        let mut answered = 0;
        while !busy.is_finished() {
            other.batch_execute("SELECT 1").await.expect("a small one");
            answered += 1;
        }
        busy.await.expect("no panic");
        most = most.max(answered);
        if most > 6 {
            break;
        }
    }
    assert!(most > 6, "{most} while four plans were made");
}

/// A role of its own reads the catalog, whatever the application's role may read.
#[tokio::test]
async fn a_catalog_user_knows_what_others_may_not_read() {
    let db = Db::new();
    db.psql("CREATE TABLE orders (id int); REVOKE SELECT ON pg_catalog.pg_proc FROM PUBLIC");
    db.psql(&format!("GRANT ALL ON orders TO {}", db.user));
    let reader = db.role("catalog");
    db.psql(&format!("GRANT SELECT ON pg_catalog.pg_proc TO {reader}"));
    let sql = "SELECT abs(id) FROM orders";
    let proxy = Proxy::to(&db);
    let client = pg(&proxy.url(&db)).await;
    assert_eq!(class(&client, sql).await.0, "primary");
    let user = format!("[[user]]\nname = \"{reader}\"\npassword = \"{}\"\n", db.password);
    for (database, plan) in [
        ("", format!("catalog_user = \"{reader}\"")),
        (&*format!("catalog_user = \"{reader}\""), String::new()),
    ] {
        let extra = format!("{user}[plan]\n{plan}\n");
        let options = ProxyOptions { database: database.into(), extra, ..Default::default() };
        let proxy = Proxy::start(&db, options);
        let client = pg(&proxy.url(&db)).await;
        let (class, said) = class(&client, sql).await;
        assert_eq!(class, "read", "{said}");
        let admin = pg(&proxy.admin_url(&db)).await;
        let config = rows(&admin, "SHOW CONFIG").await;
        assert!(
            config.iter().any(|r| r[0].ends_with(".catalog_user") && r[1] == reader && r[3] == "yes"),
            "{config:?}"
        );
    }
}

#[tokio::test]
async fn a_catalog_user_that_is_not_let_in_is_said_once() {
    let (db, _) = bed();
    let reader = db.role("catalog");
    let extra =
        format!("[[user]]\nname = \"{reader}\"\npassword = \"wrong\"\n[plan]\ncatalog_user = \"{reader}\"\n");
    let proxy = Proxy::start(&db, ProxyOptions { extra, ..Default::default() });
    let client = pg(&proxy.url(&db)).await;
    for n in 0..20 {
        client.batch_execute(&format!("SELECT id AS a{n} FROM orders")).await.expect("it is served");
    }
    let (class, said) = class(&client, "SELECT * FROM orders").await;
    assert!(class == "primary" && said.contains("the catalog is not known"), "{said}");
    let log = proxy.log();
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("catalog not read")).collect();
    assert!(lines.len() == 1 && lines[0].contains(&reader), "{log}");
    assert!(!log.contains("wrong"), "{log}");
}

/// ALTER ROLE gives roles search paths of their own: the catalog says which, whoever has read it.
#[tokio::test]
async fn a_role_begins_with_its_own_search_path() {
    let (db, _) = bed();
    let other = db.role("other");
    db.psql(
        "CREATE SCHEMA x; CREATE SCHEMA y; CREATE VIEW x.v AS SELECT 1 AS a; CREATE SEQUENCE public.q;
         CREATE VIEW y.v AS SELECT nextval('public.q') AS a; GRANT USAGE ON SCHEMA x, y TO PUBLIC;
         GRANT SELECT ON x.v, y.v TO PUBLIC",
    );
    db.psql(&format!(
        "ALTER ROLE {} SET search_path = x; ALTER ROLE {other} IN DATABASE {} SET search_path = y",
        db.user, db.name
    ));
    let extra = format!("[[user]]\nname = \"{other}\"\npassword = \"{}\"\n", db.password);
    let proxy = Proxy::start(&db, ProxyOptions { extra, ..Default::default() });
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url_as(&other, &db.password, &db.name)).await);
    for _ in 0..2 {
        assert_eq!(class(&a, "SELECT a FROM v").await.0, "read");
        assert_eq!(class(&b, "SELECT a FROM v").await.0, "primary");
    }
}

/// What others have changed, past the proxy, is known when an admin says so.
#[tokio::test]
async fn a_catalog_is_refreshed_by_command() {
    let (db, proxy) = bed();
    db.psql("CREATE VIEW v AS SELECT 1 AS x; CREATE SEQUENCE s; GRANT SELECT ON v TO PUBLIC");
    let client = pg(&proxy.url(&db)).await;
    assert_eq!(class(&client, "SELECT * FROM v").await.0, "read");
    db.psql("CREATE OR REPLACE VIEW v AS SELECT nextval('s')::int AS x");
    assert_eq!(class(&client, "SELECT * FROM v").await.0, "read", "nobody has said so");
    let admin = pg(&proxy.admin_url(&db)).await;
    admin.batch_execute(&format!("REFRESH CATALOG {}", db.name)).await.expect("refreshed");
    assert_eq!(class(&client, "SELECT * FROM v").await.0, "primary");
    db.psql("CREATE OR REPLACE VIEW v AS SELECT 1 AS x");
    admin.execute("refresh catalog", &[]).await.expect("refreshed");
    assert_eq!(class(&client, "SELECT * FROM v").await.0, "read");
    let code = async |sql: &str| {
        let error = admin.batch_execute(sql).await.expect_err("no such thing");
        error.code().map(|c| c.code().to_string()).unwrap_or_default()
    };
    assert_eq!(code("REFRESH CATALOG nowhere").await, "3D000");
    assert_eq!(code("REFRESH").await, "42601");
    assert_eq!(code("REFRESH MATERIALIZED VIEW v").await, "42601");
    assert!(rows(&admin, "SHOW HELP").await.iter().any(|row| row[0] == "REFRESH CATALOG [db]"));
    // One who may only look may not.
    let extra = format!("[[user]]\nname = \"looker\"\npassword = \"{}\"\n", db.password);
    let options = ProxyOptions { extra, ..Default::default() };
    let proxy =
        Proxy::edited(&db, &options, |config| config.replace("[admin]", "[admin]\nreaders = [\"looker\"]"));
    let looker = pg(&proxy.url_as("looker", &db.password, "turnpike")).await;
    let error = looker.batch_execute("REFRESH CATALOG").await.expect_err("not an admin");
    assert_eq!(error.code().map(|c| c.code()), Some("42501"));
}

#[tokio::test]
async fn a_catalog_that_cannot_be_refreshed_says_why() {
    let (db, _) = bed();
    let admin_of = async |plan: &str| {
        let extra = format!("[[user]]\nname = \"nobody\"\npassword = \"wrong\"\n[plan]\n{plan}\n");
        let proxy = Proxy::start(&db, ProxyOptions { extra, ..Default::default() });
        pg(&proxy.url(&db)).await.batch_execute("SELECT 1").await.expect("a query");
        let admin = pg(&proxy.admin_url(&db)).await;
        let error = admin.batch_execute("REFRESH CATALOG").await.expect_err("it cannot");
        let error = error.as_db_error().expect("an answer").clone();
        (error.code().code().to_string(), error.detail().unwrap_or_default().to_string())
    };
    let (code, detail) = admin_of("catalog_user = \"nobody\"").await;
    assert!(code == "08001" && detail.contains(&db.name) && detail.contains("nobody"), "{code}: {detail}");
    assert_eq!(admin_of("catalog = false").await.0, "55000");
}

/// Reading the catalog pauses for ten times as long as it takes, which is long on a busy machine.
async fn known_to_read(client: &tokio_postgres::Client, sql: &str, made_by: &str) {
    for _ in 0..6 {
        let (class, said) = class(client, sql).await;
        if class == "read" {
            return;
        }
        assert!(said.contains("the catalog is not known"), "{made_by}: {said}");
    }
    panic!("{made_by}: the catalog is not read");
}

/// A table that a query makes is known like one that CREATE TABLE makes: at once to who made it, to others when that has
/// been committed.
#[tokio::test]
async fn tables_that_queries_make_are_known() {
    let (db, proxy) = bed();
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    for (n, sql) in [
        "SELECT * INTO made# FROM orders",
        "WITH x AS (SELECT 1 AS a) SELECT * INTO TABLE made# FROM x",
        "CREATE TABLE made# AS SELECT 1 AS a",
        "EXPLAIN ANALYZE CREATE TABLE made# AS SELECT 1 AS a",
        "CREATE TABLE made# AS EXECUTE s",
        "DO $$ BEGIN CREATE TABLE made# AS SELECT 1 AS a; END $$",
        "(SELECT 1 AS a INTO made#)",
    ]
    .into_iter()
    .enumerate()
    {
        let make = |suffix: &str| sql.replace('#', &format!("{n}{suffix}"));
        if sql.contains("EXECUTE s") {
            a.batch_execute("PREPARE s AS SELECT 1 AS a").await.expect("prepared");
        } else {
            a.batch_execute("DEALLOCATE ALL").await.expect("nothing is");
        }
        // Both have asked before there is such a table.
        let ask = |suffix: &str| format!("SELECT * FROM made{n}{suffix}");
        for client in [&a, &b] {
            assert_eq!(class(client, &ask("")).await.0, "primary", "{sql}");
        }
        a.batch_execute(&make("")).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        for client in [&a, &b] {
            known_to_read(client, &ask(""), sql).await;
        }
        a.batch_execute(&format!("BEGIN; {}", make("x"))).await.expect("made in a transaction");
        a.batch_execute(&ask("x")).await.expect("it is there");
        assert_eq!(class(&b, &ask("x")).await.0, "primary", "{sql}");
        a.batch_execute("COMMIT").await.expect("committed");
        for client in [&b, &a] {
            known_to_read(client, &ask("x"), sql).await;
        }
    }
}

/// EXPLAIN (ROUTE, ANALYZE) with values that the client binds, as drivers do by themselves.
#[tokio::test]
async fn explain_route_analyze_with_parameters() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    let lines = |rows: Vec<tokio_postgres::Row>| {
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
    };
    // Types that the server finds out.
    let sql = "EXPLAIN (ROUTE, ANALYZE) INSERT INTO orders (id, region) SELECT $1, $2 FROM pg_sleep(0.05)";
    let insert = client.prepare(sql).await.expect("prepared");
    assert_eq!(insert.params().iter().map(|t| t.name()).collect::<Vec<_>>(), ["int4", "text"]);
    assert_eq!(insert.columns().iter().map(|c| c.name()).collect::<Vec<_>>(), ["QUERY PLAN"]);
    for id in 2..5 {
        let said = lines(client.query(&insert, &[&id, &"x"]).await.expect("run"));
        let backend = said.lines().find_map(|l| l.trim().strip_prefix("Backend: ")).expect("a line");
        assert!(backend.trim_end_matches(" ms").parse::<f64>().expect("a number") >= 50.0, "{said}");
        assert!(said.contains("Statement: INSERT") && said.contains("Table: orders, written"), "{said}");
    }
    assert_eq!(value(&client, "SELECT count(*) FROM orders WHERE region = 'x'").await, "3");
    // Types that the client declares, and results without a binary form.
    let typed = client
        .query_typed(
            "EXPLAIN (ROUTE, ANALYZE) SELECT id, '{=r/me}'::text, relacl FROM orders, pg_class WHERE id < $1",
            &[(&3i64, tokio_postgres::types::Type::INT8)],
        )
        .await
        .expect("typed");
    let said = lines(typed);
    assert!(said.contains(" rows, ") && said.contains("Table: pg_class, read"), "{said}");
    // An error is the statement's, and where it is stays where it is.
    let error = client.query("EXPLAIN (ROUTE, ANALYZE) SELECT nothing", &[]).await.expect_err("no column");
    let error = error.as_db_error().expect("the server's").clone();
    assert_eq!(
        (error.code().code(), format!("{:?}", error.position())),
        ("42703", "Some(Original(33))".to_string())
    );
    let error =
        client.query("EXPLAIN (ROUTE, ANALYZE) SELECT 1 / $1::int", &[&0]).await.expect_err("division");
    assert_eq!(error.code().map(|c| c.code()), Some("22012"));
    // What is no query is explained, and not run.
    let said = lines(client.query("EXPLAIN (ROUTE, ANALYZE) TRUNCATE orders", &[]).await.expect("explained"));
    assert!(said.contains("TRUNCATE") && !said.contains("Backend: "), "{said}");
    // What it sets is set.
    let set = "EXPLAIN (ROUTE, ANALYZE) SELECT set_config('a.b', $1, false)";
    client.query(set, &[&"c"]).await.expect("set");
    let other = pg(&proxy.url(&db)).await;
    other.batch_execute("SELECT 1").await.expect("a query");
    assert_eq!(value(&client, "SELECT current_setting('a.b')").await, "c");
}

#[tokio::test]
async fn explain_route_analyze_message_by_message() {
    let (db, proxy) = bed();
    let mut raw = proxy.raw(&db);
    let kinds =
        |frames: &[crate::harness::raw::Frame]| frames.iter().map(|f| f.kind as char).collect::<String>();
    let sql = "EXPLAIN (ROUTE, ANALYZE, FORMAT JSON) SELECT * FROM generate_series(1, 10)";
    // In one batch with others, in order.
    raw.send(
        [
            parse("", "SELECT 'before'"),
            bind("", "", &[]),
            execute("", 0),
            parse("e", sql),
            describe('S', "e"),
            bind("p", "e", &[]),
            describe('P', "p"),
            execute("p", 0),
            bind("", "e", &[]),
            execute("", 0),
            parse("", "SELECT 'after'"),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    let frames = raw.until_ready(1);
    assert_eq!(kinds(&frames), "12DC1tT2TDC2DC12DCZ");
    let columns: Vec<String> = frames.iter().filter(|f| f.kind == b'D').map(|f| f.column()).collect();
    assert!(columns[0] == "before" && columns[3] == "after", "{columns:?}");
    assert!(columns[1].contains("\"Rows\": 10") && columns[2].contains("\"Rows\": 10"), "{columns:?}");
    // A portal of a transaction, executed in a later batch; the unnamed one means something else again afterwards.
    raw.send([query("BEGIN"), parse("", sql), bind("p", "", &[]), bind("", "", &[]), sync()].concat());
    raw.until_ready(2);
    raw.send(
        [execute("", 0), parse("", "SELECT 'plain'"), bind("", "", &[]), execute("", 0), sync()].concat(),
    );
    let frames = raw.until_ready(1);
    assert_eq!(kinds(&frames), "DC12DCZ");
    assert_eq!(frames[4].column(), "plain");
    raw.send([execute("p", 0), query("COMMIT")].concat());
    let frames = raw.until_ready(1);
    assert!(frames[0].column().contains("Spent"));
    // Only as a whole.
    raw.send([parse("", sql), bind("", "", &[]), execute("", 1), sync()].concat());
    let frames = raw.until_ready(1);
    assert_eq!(kinds(&frames), "12EZ");
    assert_eq!(frames[2].field(b'C'), "0A000");
    let long = format!("EXPLAIN (ROUTE, ANALYZE) SELECT '{}'", "x".repeat(40_000));
    for text in [long.clone(), long.replace("xxxx", &"x".repeat(12))] {
        raw.send([parse("", &text), bind("", "", &[]), execute("", 0), sync()].concat());
        let frames = raw.until_ready(1);
        assert_eq!((kinds(&frames), frames[0].field(b'C')), ("EZ".into(), "53400".into()));
    }
    // By SQL there is no such statement.
    raw.send(query("EXECUTE e"));
    assert_eq!(raw.until_ready(1)[0].field(b'C'), "26000");
    // On another connection it is prepared again.
    let mut others: Vec<_> = (0..3).map(|_| proxy.raw(&db)).collect();
    for other in &mut others {
        other.send([parse("e", sql), sync()].concat());
        other.until_ready(1);
    }
    for _ in 0..3 {
        for other in &mut others {
            other.send([bind("", "e", &[]), execute("", 0), sync()].concat());
            assert_eq!(kinds(&other.until_ready(1)), "2DCZ");
        }
    }
}

/// What portals run counts, whatever they are called and however their rows are fetched.
#[tokio::test]
async fn portals_count_in_plans() {
    let (db, proxy) = bed();
    let mut raw = proxy.raw(&db);
    raw.send(query("BEGIN"));
    raw.until_ready(1);
    raw.send(
        [
            parse("a", "SELECT 1 AS named FROM generate_series(1, 10)"),
            parse("", "SELECT 1 AS unnamed FROM generate_series(1, 7)"),
            bind("one", "a", &[]),
            bind("", "", &[]),
            bind("two", "a", &[]),
            execute("one", 4),
            execute("", 0),
            execute("two", 0),
            sync(),
        ]
        .concat(),
    );
    raw.until_ready(1);
    raw.send([execute("one", 4), sync()].concat());
    raw.until_ready(1);
    raw.send([execute("one", 0), sync(), query("COMMIT")].concat());
    raw.until_ready(2);
    let admin = pg(&proxy.admin_url(&db)).await;
    let messages = admin.simple_query("SHOW PLANS").await.expect("plans");
    let plan = |shape: &str| {
        let row = messages.iter().find_map(|m| match m {
            SimpleQueryMessage::Row(row) if row.get("shape").is_some_and(|s| s.contains(shape)) => Some(row),
            _ => None,
        });
        let row = row.unwrap_or_else(|| panic!("no plan of {shape}: {messages:?}"));
        ["calls", "rows"].map(|name| row.get(name).unwrap_or_default().to_string())
    };
    assert_eq!(plan("as named"), ["2", "20"]);
    assert_eq!(plan("as unnamed"), ["1", "7"]);
}

/// What is written wrong is an error that says so, in every form, and never something else's answer.
#[tokio::test]
async fn explain_route_written_wrong() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    let ours = "EXPLAIN (ROUTE) cannot be carried out as it is written";
    for (sql, code, message) in [
        ("EXPLAIN (ROUTE", "42601", "syntax error at end of input"),
        ("EXPLAIN (ROUTE)", "42601", "syntax error at end of input"),
        ("EXPLAIN (ROUTE) ;", "42601", "syntax error at or near \";\""),
        ("EXPLAIN (ROUTES) SELECT 1", "42601", "unrecognized EXPLAIN option \"routes\""),
        ("EXPLAIN ROUTE SELECT 1", "42601", "syntax error at or near \"ROUTE\""),
        ("EXPLAIN (ROUTE, FORMAT XML) SELECT 1", "42601", ours),
        ("EXPLAIN (ROUTE, BUFFERS) SELECT 1", "42601", ours),
        ("EXPLAIN (ROUTE maybe) SELECT 1", "42601", ours),
        ("EXPLAIN (ROUTE) EXPLAIN (ROUTE) SELECT 1", "42601", "syntax error at or near \"EXPLAIN\""),
        ("EXPLAIN (ROUTE, ANALYZE) SELEC 1", "", ""),
    ] {
        let simple = client.simple_query(sql).await.map(drop);
        let extended = client.query(sql, &[]).await.map(drop);
        for outcome in [simple, extended] {
            match outcome {
                Err(error) => {
                    let error = error.as_db_error().expect("an answer").clone();
                    let said = (error.code().code(), error.message());
                    assert!(
                        code.is_empty() && said.0 == "42601" || said == (code, message),
                        "{sql}: {said:?}"
                    );
                    assert!(message != ours || error.hint().is_some(), "{sql}");
                }
                Ok(()) => assert!(code.is_empty(), "{sql} is no error"),
            }
        }
    }
    // Of several, and inside a failed transaction.
    for sql in ["EXPLAIN (ROUTE) SELECT 1; SELECT 2", "SELECT 1; EXPLAIN (ROUTE) SELECT 1"] {
        let error = client.batch_execute(sql).await.expect_err("several");
        assert_eq!(error.as_db_error().map(|e| e.message()), Some(ours), "{sql}");
    }
    client.batch_execute("BEGIN").await.expect("begun");
    client.batch_execute("SELECT 1/0").await.expect_err("failed");
    for sql in ["EXPLAIN (ROUTE) SELECT 1", "EXPLAIN (ROUTE, ANALYZE) SELECT 1"] {
        for code in [
            client.batch_execute(sql).await.expect_err("failed").code().map(|c| c.code().to_string()),
            client.query(sql, &[]).await.expect_err("failed").code().map(|c| c.code().to_string()),
        ] {
            assert_eq!(code.as_deref(), Some("25P02"), "{sql}");
        }
    }
    client.batch_execute("ROLLBACK").await.expect("over");
    // A name that nobody has prepared: nothing is run, so nothing is missed.
    let said = explain(&client, "EXPLAIN (ROUTE, ANALYZE) EXECUTE nothing").await;
    assert!(said.contains("EXECUTE") && !said.contains("Backend: "), "{said}");
    // Nonsense is not understood, which is what there is to say; the session goes on.
    let said = explain(&client, "EXPLAIN (ROUTE) SELEC 1 FORM x").await;
    assert!(said.contains("Class: primary"), "{said}");
    // Values that are bound where nothing is run, and rows one by one.
    let rows =
        client.query("EXPLAIN (ROUTE) SELECT * FROM orders WHERE id = $1", &[&1]).await.expect("explained");
    assert!(rows.iter().any(|row| row.get::<_, &str>(0).contains("id (equal, read)")));
    let mut client = client;
    let transaction = client.transaction().await.expect("begun");
    let portal =
        transaction.bind("EXPLAIN (ROUTE) SELECT * FROM orders WHERE id = $1", &[&1]).await.expect("bound");
    let mut fetched = Vec::new();
    while let row = transaction.query_portal(&portal, 1).await.expect("a row")
        && let Some(row) = row.first()
    {
        fetched.push(row.get::<_, String>(0));
    }
    assert_eq!(fetched.len(), rows.len(), "{fetched:?}");
}

#[tokio::test]
async fn very_many_shapes_are_shown_in_bounds() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    for n in 0..30 {
        let sql: Vec<String> = (0..100).map(|m| format!("SELECT 1 AS a{n}_{m}")).collect();
        let pipeline = sql.iter().map(|sql| client.simple_query(sql));
        futures_util::future::try_join_all(pipeline).await.expect("queries");
    }
    let long = format!("SELECT '{}' AS a, {} AS b", "x".repeat(20_000), vec!["1"; 3000].join(" + "));
    client.batch_execute(&long).await.expect("a long one");
    let admin = pg(&proxy.admin_url(&db)).await;
    let began = std::time::Instant::now();
    let plans = rows(&admin, "SHOW PLANS").await;
    assert_eq!(plans.len(), 1000);
    let fallbacks = rows(&admin, "SHOW FALLBACKS").await;
    assert!(fallbacks.len() == 1 && fallbacks[0][5].chars().count() == 501, "{fallbacks:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Invariant 11: what statements mean may depend on literals that their shapes keep, and nobody else is to see them.
#[tokio::test]
async fn literals_are_shown_to_nobody_else() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    let texts = [
        "COMMENT ON TABLE orders IS 'hush-hush'",
        "SET my.secret = 'hush-hush'",
        "SELECT set_config('my.secret', 'hush-hush', false)",
        "CREATE ROLE nobody_yet PASSWORD 'hush-hush' NOSUCHOPTION",
        "SELECT 'hush-hush' ORDER BY (((1",
    ];
    for text in texts {
        // Some are mistakes, and as secret.
        drop(client.batch_execute(text).await);
    }
    let admin = pg(&proxy.admin_url(&db)).await;
    let shown = ["SHOW PLANS", "SHOW FALLBACKS", "SHOW CLIENTS", "SHOW SERVERS"];
    for what in shown {
        let rows = rows(&admin, what).await;
        assert!(!rows.iter().flatten().any(|cell| cell.contains("hush")), "{what}: {rows:?}");
    }
    let metrics = crate::metrics::get(&proxy, "/metrics").1;
    assert!(!metrics.contains("hush") && !proxy.log().contains("hush"));
}

/// `turnpike plan`, as someone meets it who has no configuration, or a wrong one.
#[test]
fn plan_on_the_command_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |args: &[&str]| {
        let mut plan = std::process::Command::new(env!("CARGO_BIN_EXE_turnpike"));
        let output = plan.current_dir(&dir).arg("plan").args(args).output().expect("it starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), said)
    };
    let (ok, said) = run(&["SELECT 1 FROM t"]);
    assert!(ok && said.contains("Table: t, read"), "{said}");
    let (ok, said) = run(&["EXPLAIN (ROUTE) SELECT 1 FROM t"]);
    assert!(ok && said.contains("Table: t, read"), "{said}");
    let (ok, said) = run(&["SELEC 1"]);
    assert!(ok && said.contains("Class: primary"), "{said}");
    let (ok, said) = run(&["SELECT 1", "-c", "nowhere.toml"]);
    assert!(!ok && said.contains("nowhere.toml: cannot read it"), "{said}");
    std::fs::write(dir.path().join("turnpike.toml"), "[plan]\nmax_memry = 1").expect("written");
    let (ok, said) = run(&["SELECT 1"]);
    assert!(!ok && said.contains("turnpike.toml:2:1: plan.max_memry: there is no such key"), "{said}");
}

/// What looks like a call and is part of the language hides nothing.
#[tokio::test(flavor = "multi_thread")]
async fn constructs_are_no_functions() {
    let (db, proxy) = bed();
    let client = pg(&proxy.url(&db)).await;
    let known = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !explain(&client, "EXPLAIN (ROUTE) SELECT id FROM orders").await.contains("Class: read") {
        assert!(std::time::Instant::now() < known, "the catalog is read");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut hidden = Vec::new();
    for expression in [
        "coalesce(region, 'x')",
        "greatest(total, 1)",
        "least(total, 1)",
        "nullif(region, 'x')",
        "extract(year FROM date '2024-01-01')",
        "position('n' IN region)",
        "substring(region FROM 1 FOR 2)",
        "overlay(region PLACING 'a' FROM 1)",
        "trim(BOTH 'n' FROM region)",
        "trim(region)",
        "normalize(region)",
        "cast(total AS int)",
        "row(id, region)",
        "array(SELECT 1)",
        "array[id, 1]",
        "exists(SELECT 1)",
        "total IN (1, 2)",
        "total = any(array[1, 2])",
        "(id, total) IN (SELECT 1, 2)",
        "region COLLATE \"C\"",
        "collation for (region)",
        "upper(region)",
        "count(*) FILTER (WHERE id > 1) OVER (PARTITION BY region)",
        "CASE WHEN (total > 1) THEN 1 ELSE (2) END",
        "interval '1 day'",
        "timestamp '2024-01-01' AT TIME ZONE 'UTC'",
        "xmlelement(name a, region)",
        "xmlforest(region)",
        "xmlconcat('<a/>', '<b/>')",
    ] {
        let said = explain(&client, &format!("EXPLAIN (ROUTE) SELECT {expression} FROM orders")).await;
        if !said.contains("Class: read") {
            hidden.push(format!(
                "{expression}: {}",
                said.lines().find(|l| l.contains("Because")).unwrap_or_default()
            ));
        }
    }
    assert!(hidden.is_empty(), "{hidden:#?}");
}
