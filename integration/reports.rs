//! Reports over HTTP (`[[report]]`): what they say and to whom, how long it may be kept, and that an edge in front of them
//! is told of what is written.

pub mod cdns;
mod checked;
mod edge;
mod elsewhere;
mod secured;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use tempfile::TempDir;
use turnpike::app::cluster::free_port;

use crate::harness::{Db, Proxy, ProxyOptions, cluster, pg, replicated, value};
use edge::Varnish;

/// A proxy with reports.
pub struct Bed {
    pub db: Db,
    pub proxy: Proxy,
    pub port: u16,
    pub dir: TempDir,
    http: Client,
}

/// What was answered.
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client that takes what it gets.
pub fn http() -> Client {
    // Whoever comes first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("a client")
}

const SALES: &str = "CREATE TABLE sale (id int PRIMARY KEY, item text, price numeric, at timestamptz, extra jsonb); \
    INSERT INTO sale VALUES (1, 'a \"b\", <c>', 1.50, '2026-01-01 00:00Z', '{\"x\": [1]}'), (2, NULL, 'NaN', NULL, NULL); \
    CREATE TABLE other (n int); CREATE VIEW sales AS SELECT * FROM sale; \
    CREATE FUNCTION writes() RETURNS int VOLATILE LANGUAGE sql AS 'INSERT INTO other VALUES (1) RETURNING n'; \
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;";

impl Bed {
    /// With these sections; `DIR`, `DB` and `USER` stand for what they are.
    pub fn new(db: Db, sections: &str) -> Bed {
        Bed::edited(db, sections, |config| config)
    }

    pub fn edited(db: Db, sections: &str, edit: impl Fn(String) -> String) -> Bed {
        Bed::prepared(db, sections, |_| {}, edit)
    }

    /// With more in its directory, and another configuration.
    pub fn prepared(
        db: Db,
        sections: &str,
        prepare: impl FnOnce(&TempDir),
        edit: impl Fn(String) -> String,
    ) -> Bed {
        Bed::with(db, sections, "", prepare, edit)
    }

    /// With these lines of its `[[database]]`.
    pub fn with(
        db: Db,
        sections: &str,
        lines: &str,
        prepare: impl FnOnce(&TempDir),
        edit: impl Fn(String) -> String,
    ) -> Bed {
        db.psql(SALES);
        let dir = TempDir::with_prefix("turnpike-reports-").expect("a directory");
        secret(&dir, "key", &"ab".repeat(32));
        let hash = |token: &str| {
            let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
            hash.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        secret(&dir, "tokens", &format!("clinic {}\nlab {}\n", hash("open sesame"), hash("shut")));
        prepare(&dir);
        let port = free_port();
        let extra = format!(
            "[reports]\nlisten = \"127.0.0.1:{port}\"\nkey_file = \"{0}/key\"\ntokens_file = \"{0}/tokens\"\n{sections}",
            dir.path().display()
        );
        let extra = extra
            .replace("DB", &db.name)
            .replace("USER", &db.user)
            .replace("DIR", &dir.path().display().to_string());
        let database = lines.replace("USER", &db.user);
        let options = ProxyOptions { extra, database, ..Default::default() };
        let proxy = Proxy::edited(&db, &options, edit);
        Bed { db, proxy, port, dir, http: http() }
    }

    /// Puts other sections into use.
    pub async fn reload(&self, from: &str, to: &str) {
        self.proxy.revise(|config| config.replace(from, to));
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        admin.simple_query("RELOAD").await.expect("reloaded");
    }

    /// What is answered at a port to a path, with these headers.
    pub async fn at(&self, port: u16, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.http.request(Method::GET, format!("http://127.0.0.1:{port}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap_or_else(|e| panic!("{path}: {e}"));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Reply { status, headers, body: answer.bytes().await.expect("a body").to_vec() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.at(self.port, path, &[]).await
    }

    /// A column of SHOW REPORTS or SHOW CDNS.
    pub async fn shown(&self, command: &str, row: &str, column: &str) -> String {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        let messages = admin.simple_query(command).await.expect("shown");
        let found = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(r) if r.get(0) == Some(row) => Some(r),
            _ => None,
        });
        found.and_then(|r| r.get(column)).unwrap_or_default().to_string()
    }

    /// Gets a path until it is answered by that.
    pub async fn until(&self, port: u16, path: &str, want: &str) -> Duration {
        let began = Instant::now();
        loop {
            let reply = self.at(port, path, &[]).await;
            if reply.status == 200 && reply.text().contains(want) {
                return began.elapsed();
            }
            let took = began.elapsed();
            assert!(took < Duration::from_secs(20), "{}: {}", reply.status, reply.text());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn secret(dir: &TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
}

/// A report with further lines.
pub fn section(name: &str, sql: &str, lines: &str) -> String {
    format!("[[report]]\nname = \"{name}\"\ndatabase = \"DB\"\nuser = \"USER\"\nsql = '''{sql}'''\n{lines}\n")
}

const PUBLIC: &str = "access = \"public\"";

#[tokio::test(flavor = "multi_thread")]
async fn reports_say_what_postgres_says() {
    let all =
        "SELECT id, item, price, at AT TIME ZONE 'UTC' AS at, extra, price > 1 AS dear FROM sale ORDER BY id";
    let by = "SELECT count(*) AS n FROM sale WHERE id >= $1 AND coalesce(item, '') <> $2 AND ($3::timestamptz IS NULL OR at < $3)";
    let params = "params = [\"from int\", \"not text = none\", \"before timestamptz = NULL\"]";
    let sections = [
        section("json", all, PUBLIC),
        section("csv", all, &format!("{PUBLIC}\nformat = \"csv\"")),
        section("html", all, &format!("{PUBLIC}\nformat = \"html\"")),
        section("by", by, &format!("{PUBLIC}\n{params}")),
        section(
            "large",
            "SELECT repeat('x', 100) FROM generate_series(1, 1000)",
            &format!("{PUBLIC}\nmax_bytes = \"64KiB\""),
        ),
        section("rows", "SELECT 1 FROM generate_series(1, 11)", &format!("{PUBLIC}\nmax_rows = 10")),
        section("slow", "SELECT pg_sleep(10)", &format!("{PUBLIC}\ntimeout = \"300ms\"")),
        section("writes", "SELECT writes()", PUBLIC),
        section("wrong", "SELECT secret_column FROM sale", PUBLIC),
    ];
    let bed = Bed::new(Db::in_cluster(cluster()), &sections.concat());
    let json = bed.get("/reports/json").await;
    assert_eq!(json.status, 200, "{}", json.text());
    assert_eq!(
        json.text(),
        "[\n{\"id\":1,\"item\":\"a \\\"b\\\", <c>\",\"price\":1.50,\"at\":\"2026-01-01 00:00:00\",\"extra\":{\"x\": [1]},\"dear\":true},\n\
         {\"id\":2,\"item\":null,\"price\":\"NaN\",\"at\":null,\"extra\":null,\"dear\":true}\n]\n"
    );
    assert_eq!(json.header("content-type"), "application/json");
    assert_eq!(json.header("cache-control"), "public, max-age=0, s-maxage=60");
    let tag = format!("table:{}:public:sale", bed.db.name);
    assert_eq!(json.header("surrogate-key"), format!("report:json {tag}"));
    assert_eq!(json.header("cache-tag"), format!("report:json,{tag}"));
    let csv = bed.get("/reports/csv").await;
    assert_eq!(
        csv.text(),
        "id,item,price,at,extra,dear\r\n1,\"a \"\"b\"\", <c>\",1.50,2026-01-01 00:00:00,\"{\"\"x\"\": [1]}\",t\r\n2,,NaN,,,t\r\n"
    );
    let html = bed.get("/reports/html").await;
    assert!(html.text().contains("<td>a &quot;b&quot;, &lt;c&gt;</td>"), "{}", html.text());

    // Values are Postgres' to read, and its words tell what is wrong with them.
    for (query, status, says) in [
        ("from=1", 200, "\"n\":2"),
        ("from=1&not=a%20%22b%22%2C%20%3Cc%3E", 200, "\"n\":1"),
        ("from=1&before=2026-06-01", 200, "\"n\":1"),
        ("from=%ff", 400, "the parameters are not percent-encoded UTF-8"),
        ("from=%zz", 400, "the parameters are not percent-encoded UTF-8"),
        ("from=1'%20OR%201=1", 400, "invalid input syntax for type integer: \"1' OR 1=1\" (22P02)"),
        ("from=99999999999", 400, "out of range for type integer"),
        ("from=1&before=yesterday-ish", 400, "invalid input syntax for type timestamp with time zone"),
        ("", 400, "parameter \"from\" (int) is missing"),
        ("from=1&from=2", 400, "is given twice"),
        ("from=1&x=2", 400, "there is no parameter \"x\"; this report has from, not, before"),
    ] {
        let reply = bed.get(&format!("/reports/by?{query}")).await;
        assert!(reply.status == status && reply.text().contains(says), "{query}: {}", reply.text());
        assert!(status == 200 || reply.header("cache-control") == "no-store");
    }
    for (path, status, says) in [
        ("/healthz", 200, "ok"),
        ("/reports/nothing", 404, "there is no such report"),
        ("/", 404, "there is no such report"),
        ("/reports/large", 500, "report.max_bytes"),
        ("/reports/rows", 500, "report.max_rows"),
        ("/reports/slow", 504, "takes too long"),
        ("/reports/writes", 500, "cannot be made"),
        ("/reports/wrong", 500, "cannot be made"),
    ] {
        let reply = bed.get(path).await;
        assert!(
            reply.status == status && reply.text().contains(says),
            "{path}: {} {}",
            reply.status,
            reply.text()
        );
        assert!(!reply.text().contains("secret_column"));
    }
    assert!(bed.shown("SHOW REPORTS", "wrong", "error").await.contains("secret_column"));
    assert!(bed.shown("SHOW REPORTS", "writes", "error").await.contains("read-only transaction"));
    let (_, metrics) = crate::metrics::get(&bed.proxy, "/metrics");
    assert!(metrics.contains("turnpike_report_answers_total{report=\"by\",status=\"400\"} 8"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_not_given_again() {
    let lines = format!("{PUBLIC}\nstale_while_revalidate = \"10s\"\nstale_if_error = \"1h\"");
    let text = "SELECT id, repeat('text ', 200) AS text FROM sale ORDER BY id";
    let bed = Bed::new(Db::in_cluster(cluster()), &section("r", text, &lines));
    let first = bed.get("/reports/r").await;
    let stale = "public, max-age=0, s-maxage=60, stale-while-revalidate=10, stale-if-error=3600";
    assert_eq!(first.header("cache-control"), stale);
    let tag = first.header("etag").to_string();
    assert!(tag.starts_with("W/\""), "{tag}");
    for encoding in ["gzip", "br"] {
        let reply = bed.at(bed.port, "/reports/r", &[("accept-encoding", encoding)]).await;
        assert_eq!((reply.header("content-encoding"), reply.header("etag")), (encoding, tag.as_str()));
        assert!(reply.body.len() * 4 < first.body.len() && reply.header("vary").contains("accept-encoding"));
    }
    let same = bed.at(bed.port, "/reports/r", &[("if-none-match", &tag)]).await;
    assert!(same.status == 304 && same.body.is_empty() && same.header("etag") == tag, "{}", same.status);
    assert_eq!(same.header("cache-control"), stale);
    assert_eq!(
        bed.shown("SHOW REPORTS", "r", "runs").await,
        "1",
        "nothing was written, so nothing was asked"
    );

    // A write through the proxy is seen at once; one to another table changes nothing.
    let client = pg(&bed.proxy.url(&bed.db)).await;
    client.batch_execute("INSERT INTO other VALUES (1)").await.expect("written");
    assert_eq!(bed.at(bed.port, "/reports/r", &[("if-none-match", &tag)]).await.status, 304);
    client.batch_execute("INSERT INTO sale VALUES (3)").await.expect("written");
    let changed = bed.at(bed.port, "/reports/r", &[("if-none-match", &tag)]).await;
    assert!(changed.status == 200 && changed.text().contains("\"id\":3"), "{}", changed.text());
    // While something is being written nobody can tell: it is given, and not to be kept.
    client.batch_execute("BEGIN; INSERT INTO sale VALUES (4)").await.expect("written");
    let meanwhile = bed.get("/reports/r").await;
    assert!(!meanwhile.text().contains("\"id\":4"));
    assert_eq!(meanwhile.header("cache-control"), "public, max-age=0, s-maxage=0, must-revalidate");
    client.batch_execute("COMMIT").await.expect("written");
    assert!(bed.get("/reports/r").await.text().contains("\"id\":4"));
    // Many who ask for the same at once have it asked for once.
    client.batch_execute("INSERT INTO sale VALUES (5)").await.expect("written");
    let before: u64 = bed.shown("SHOW REPORTS", "r", "runs").await.parse().expect("a number");
    let all = futures_util::future::join_all((0..20).map(|_| bed.get("/reports/r"))).await;
    assert!(all.iter().all(|reply| reply.text().contains("\"id\":5")));
    assert_eq!(bed.shown("SHOW REPORTS", "r", "runs").await, (before + 1).to_string());
}

/// What a function does nobody knows: any write to its database outdates what it says, and nothing else does.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_from_who_knows_where_is_kept_until_anything_is_written() {
    let db = Db::in_cluster(cluster());
    db.psql(
        "CREATE FUNCTION counted() RETURNS bigint STABLE LANGUAGE plpgsql AS \
         $$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM sa' || 'le' INTO n; RETURN n; END $$",
    );
    let bed = Bed::new(db, &section("r", "SELECT counted() AS n", PUBLIC));
    let (first, again) = (bed.get("/reports/r").await, bed.get("/reports/r").await);
    assert_eq!(first.text(), again.text());
    assert_eq!(again.header("surrogate-key"), format!("report:r db:{}", bed.db.name));
    assert_eq!(again.header("cache-control"), "public, max-age=0, s-maxage=60");
    assert_eq!(bed.shown("SHOW REPORTS", "r", "runs").await, "1");
    let client = pg(&bed.proxy.url(&bed.db)).await;
    client.batch_execute("INSERT INTO sale VALUES (3)").await.expect("written");
    assert!(bed.get("/reports/r").await.text().contains("\"n\":3}"));
    client.batch_execute("INSERT INTO other VALUES (3)").await.expect("written");
    bed.get("/reports/r").await;
    assert_eq!(bed.shown("SHOW REPORTS", "r", "runs").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn private_reports_are_for_those_who_may() {
    let sql = "SELECT item FROM sale WHERE id = $1";
    let private = "params = [\"id int\"]\naccess = [\"signed\", \"token\"]\ntokens = \"clinic*\"";
    let sections = [
        section("private", sql, private),
        section(
            "edge",
            sql,
            "params = [\"id int\"]\naccess = \"signed\"\nedge = true\nstale_if_error = \"1h\"",
        ),
    ];
    let bed = Bed::new(Db::in_cluster(cluster()), &sections.concat());
    let sign = |report: &str, time: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
        command.args(["sign", report, "id=1", "--for", time, "--key"]).arg(bed.dir.path().join("key"));
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a URL").trim().to_string()
    };
    let refused = bed.get("/reports/private?id=1").await;
    assert!(refused.status == 401 && refused.header("www-authenticate") == "Bearer", "{}", refused.text());
    // Nobody learns of its parameters either.
    assert_eq!(bed.get("/reports/private?x=1").await.status, 401);
    let url = sign("private", "1min");
    let given = bed.get(&url).await;
    assert_eq!((given.status, given.header("cache-control")), (200, "private, no-store"), "{}", given.text());
    for other in [
        url.replace("id=1", "id=2"),
        url.replace("/private?", "/edge?"),
        url.replace("expires=", "expires=9"),
        url.replace("signature=", "signature=0"),
        format!("{url}&id=2"),
    ] {
        assert_eq!(bed.get(&other).await.status, 403, "{other}");
    }
    let expiring = sign("private", "1s");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let expired = bed.get(&expiring).await;
    assert!(expired.status == 403 && expired.text().contains("expired"), "{}", expired.text());
    for (token, status) in [("open sesame", 200), ("shut", 401), ("open", 401)] {
        let header = format!("Bearer {token}");
        let reply = bed.at(bed.port, "/reports/private?id=1", &[("authorization", &header)]).await;
        assert_eq!(reply.status, status, "{token}");
        assert!(status != 200 || reply.header("cache-control") == "private, no-store");
    }
    // A shared cache keeps it only for as long as the URL is good.
    let edge = bed.get(&sign("edge", "30s")).await;
    let seconds = edge.header("cache-control").split("s-maxage=").nth(1).and_then(|s| s.parse::<u64>().ok());
    assert!(seconds.is_some_and(|s| (25..=30).contains(&s)), "{}", edge.header("cache-control"));
    assert!(!bed.proxy.log().contains("open sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_serve_what_they_have_seen() {
    let db = Db::in_cluster(replicated());
    replicated().wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    let sections = section("r", "SELECT max(id) AS id FROM sale", PUBLIC);
    let cluster = "[[cluster]]\nname = \"main\"\nbackends = [\"primary\", \"replica1\", \"replica2\"]\n";
    let bed = Bed::edited(db, &format!("{cluster}{sections}"), |config| {
        config.replace("backend = \"primary\"\n", "cluster = \"main\"\n")
    });
    let client = pg(&bed.proxy.url(&bed.db)).await;
    let mut on_replicas = 0;
    for id in 10..40 {
        client.batch_execute(&format!("INSERT INTO sale VALUES ({id})")).await.expect("written");
        if id % 3 == 0 {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        let reply = bed.get("/reports/r").await;
        assert!(reply.text().contains(&format!("\"id\":{id}}}")), "{id}: {}", reply.text());
        on_replicas += u32::from(bed.shown("SHOW REPORTS", "r", "backend").await.starts_with("replica"));
    }
    assert!(on_replicas > 0, "replicas serve nothing");
}

/// What the edge answers from what it keeps, of many requests among a few writes, and how long
/// it gives what has been outdated.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_told_of_writes() {
    let edge_port = free_port();
    let sections = [
        section("r", "SELECT max(id) AS id FROM sales", PUBLIC),
        section("o", "SELECT count(*) AS n FROM other", PUBLIC),
        section("signed", "SELECT max(id) AS id FROM sale", "access = \"signed\"\nedge = true"),
    ];
    let ban = format!("[[cdn]]\nname = \"edge\"\nkind = \"ban\"\nurl = \"http://127.0.0.1:{edge_port}/\"\n");
    let bed = Bed::new(Db::in_cluster(cluster()), &(sections.concat() + &ban));
    let varnish = Varnish::before(bed.port, edge_port);
    let edge = varnish.port;
    let client = pg(&bed.proxy.url(&bed.db)).await;
    // What was told while it did not listen is told when it does.
    let (mut hits, mut asked, mut slowest) = (0, 0, Duration::ZERO);
    for id in 100..110 {
        client.batch_execute(&format!("INSERT INTO sale VALUES ({id})")).await.expect("written");
        slowest = slowest.max(bed.until(edge, "/reports/r", &format!("\"id\":{id}}}")).await);
        for _ in 0..50 {
            let reply = bed.at(edge, "/reports/r", &[]).await;
            assert!(reply.text().contains(&format!("\"id\":{id}}}")), "it has been seen: {}", reply.text());
            assert!(reply.header("surrogate-key").is_empty() && reply.status == 200);
            hits += u32::from(reply.header("x-cache") == "hit");
            asked += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    assert!(slowest < Duration::from_secs(1), "it gave what was outdated for {slowest:?}");
    let ratio = f64::from(hits) / f64::from(asked);
    assert!(ratio > 0.9, "{hits} of {asked}");
    // What reads other tables stays where it is.
    bed.at(edge, "/reports/o", &[]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    bed.at(edge, "/reports/o", &[]).await;
    client.batch_execute("INSERT INTO sale VALUES (200)").await.expect("written");
    bed.until(edge, "/reports/r", "\"id\":200}").await;
    assert_eq!(bed.at(edge, "/reports/o", &[]).await.header("x-cache"), "hit");
    // What is not public goes through, and each URL is a place of its own.
    assert_eq!(bed.at(edge, "/reports/signed", &[]).await.status, StatusCode::UNAUTHORIZED.as_u16());
    assert_eq!(value(&client, "SELECT max(id) FROM sale").await, "200");
    #[allow(clippy::print_stderr, reason = "figures")]
    {
        eprintln!(
            "of {asked} requests {hits} were hits at the edge; a write was seen after {slowest:?} at most"
        );
    }
}

/// A signed URL is a place of its own at the edge, and is not given there for longer than it is good for.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_keeps_what_is_signed_for_as_long_as_that_is_good() {
    let edge_port = free_port();
    let lines = "access = \"signed\"\nedge = true\nstale_while_revalidate = \"1h\"\nstale_if_error = \"1h\"";
    let bed = Bed::new(Db::in_cluster(cluster()), &section("r", "SELECT count(*) AS n FROM sale", lines));
    let varnish = Varnish::before(bed.port, edge_port);
    let edge = varnish.port;
    let sign = |time: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
        command.args(["sign", "r", "--for", time, "--key"]).arg(bed.dir.path().join("key"));
        String::from_utf8(command.output().expect("it runs").stdout).expect("a URL").trim().to_string()
    };
    let url = sign("3s");
    let cached = |reply: &Reply| (reply.status, reply.header("x-cache").to_string());
    assert_eq!(cached(&bed.at(edge, &url, &[]).await), (200, "miss".into()));
    assert_eq!(cached(&bed.at(edge, &url, &[]).await), (200, "hit".into()));
    assert_eq!(bed.at(edge, &url.replace("signature=", "signature=0"), &[]).await.status, 403);
    assert_eq!(bed.at(edge, "/reports/r", &[]).await.status, 401);
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(bed.at(edge, &url, &[]).await.status, 403, "it is good no more, stale or not");
}

/// While nobody can be asked, an edge gives what it has for as long as the report says, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_goes_on_without_us() {
    let edge_port = free_port();
    let of = |name: &str, stale: &str| {
        section(name, "SELECT count(*) AS n FROM sale", &format!("{PUBLIC}\nttl = \"1s\"\n{stale}"))
    };
    let sections = of("lasting", "stale_if_error = \"1h\"") + &of("fleeting", "");
    let bed = Bed::new(Db::in_cluster(cluster()), &sections);
    let varnish = Varnish::before(bed.port, edge_port);
    for report in ["lasting", "fleeting"] {
        assert_eq!(bed.at(varnish.port, &format!("/reports/{report}"), &[]).await.status, 200);
    }
    // While we can be asked, nothing stale is given.
    bed.db.psql("DELETE FROM sale WHERE id = 1");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let fresh = bed.at(varnish.port, "/reports/lasting", &[]).await;
    assert!(fresh.text().contains("\"n\":1}") && fresh.header("x-cache") == "miss", "{}", fresh.text());
    bed.proxy.signal(nix::sys::signal::Signal::SIGKILL);
    bed.proxy.wait();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let stale = bed.at(varnish.port, "/reports/lasting", &[]).await;
    assert!(stale.status == 200 && stale.text().contains("\"n\":1}"), "{} {}", stale.status, stale.text());
    assert_eq!(bed.at(varnish.port, "/reports/fleeting", &[]).await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_reports() {
    let sql = "SELECT 'before' AS text FROM sale";
    let lines = format!("{PUBLIC}\nmax_rows = 10");
    let bed = Bed::new(Db::in_cluster(cluster()), &section("r", sql, &lines));
    assert!(bed.get("/reports/r").await.text().contains("before"));
    bed.reload("'before'", "'after'").await;
    assert!(bed.get("/reports/r").await.text().contains("after"), "what was kept is another report's");
    bed.reload("access = \"public\"", "access = \"token\"\ntokens = \"new\"").await;
    assert_eq!(bed.get("/reports/r").await.status, 401);
    // Another file of tokens comes into use by the next reload.
    let new = "new 9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7\n";
    secret(&bed.dir, "tokens", new);
    let token = [("authorization", "Bearer Hello")];
    assert_eq!(bed.at(bed.port, "/reports/r", &token).await.status, 401);
    secret(
        &bed.dir,
        "tokens",
        &new.replace("9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7", HELLO),
    );
    bed.reload("max_rows = 1", "max_rows = 2").await;
    assert_eq!(bed.at(bed.port, "/reports/r", &token).await.status, 200);
    bed.reload("name = \"r\"", "name = \"other\"").await;
    assert_eq!(bed.get("/reports/r").await.status, 404);
}

/// SHA-256 of `Hello`.
const HELLO: &str = "185f8db32271fe25f561a6fc938b2e264306ec304eda518007d1764826381969";
