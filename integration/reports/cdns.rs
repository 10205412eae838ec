//! What CDNs are told, and how: a server on this machine in the place of each.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::serve::Listener;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::{Bed, PUBLIC, secret, section};
use crate::harness::{Db, cluster, pg};

/// One request: method, path, headers that count, body.
type Told = (String, String, String, String);

/// See the module.
#[derive(Clone, Default)]
pub struct Api {
    told: Arc<Mutex<Vec<Told>>>,
    /// Requests that fail before one is taken.
    fails: Arc<Mutex<u32>>,
}

async fn take(State(api): State<Api>, request: Request) -> (StatusCode, &'static str) {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or(Bytes::new());
    {
        let mut fails = api.fails.lock();
        if *fails > 0 {
            *fails -= 1;
            return (StatusCode::SERVICE_UNAVAILABLE, "");
        }
    }
    let headers = ["surrogate-key", "x-surrogate-key", "fastly-key", "authorization"];
    let told = headers.into_iter().filter_map(|name| {
        parts.headers.get(name).map(|value| format!("{name}: {}", value.to_str().unwrap_or_default()))
    });
    let told = told.collect::<Vec<_>>().join("; ");
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_string());
    api.told.lock().push((method, path, told, String::from_utf8_lossy(&body).into_owned()));
    (StatusCode::OK, "{\"success\": true, \"status\": \"ok\"}")
}

impl Api {
    /// Serves at a port of its own.
    pub async fn serve(&self) -> u16 {
        self.serve_by(|listener| listener).await
    }

    /// The same, by what is made of a listener.
    pub async fn serve_by<L>(&self, by: impl FnOnce(TcpListener) -> L) -> u16
    where
        L: Listener,
        L::Addr: Debug,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let router = Router::new().fallback(take).with_state(self.clone());
        let served = axum::serve(by(listener), router);
        tokio::spawn(async move { served.await });
        port
    }

    /// Waits for a request of this method in which all of these are.
    pub async fn hears(&self, method: &str, parts: &[&str]) {
        for _ in 0..600 {
            let heard = self.told.lock().iter().any(|told| {
                let all = format!("{} {} {}", told.1, told.2, told.3);
                told.0 == method && parts.iter().all(|part| all.contains(part))
            });
            if heard {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no {method} with {parts:?} in {:#?}", self.told.lock());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_cdn_is_told_in_its_own_way() {
    let api = Api::default();
    *api.fails.lock() = 3;
    let port = api.serve().await;
    let cdn = |kind: &str, lines: &str| {
        format!("[[cdn]]\nname = \"{kind}\"\nkind = \"{kind}\"\nurl = \"http://127.0.0.1:{port}\"\n{lines}\n")
    };
    let of_api = "service = \"S1\"\ntoken_file = \"DIR/api\"";
    let sections = [
        section("r", "SELECT count(*) FROM sales", PUBLIC),
        cdn("purge", ""),
        cdn("ban", ""),
        cdn("fastly", of_api),
        cdn("cloudflare", of_api),
    ];
    let db = Db::in_cluster(cluster());
    let name = db.name.clone();
    let bed = Bed::prepared(db, &sections.concat(), |dir| secret(dir, "api", "t0ken\n"), |c| c);
    let table = format!("table:{name}:public:sale");
    // At the start everything is outdated: nobody knows what was written before.
    api.hears("PURGE", &["surrogate-key: report:r"]).await;
    bed.get("/reports/r").await;
    api.told.lock().clear();
    let client = pg(&bed.proxy.url(&bed.db)).await;
    client.batch_execute("INSERT INTO sale VALUES (9)").await.expect("written");
    api.hears("PURGE", &[&table]).await;
    api.hears("BAN", &["x-surrogate-key: (^|\\s)(", &table, ")(\\s|$)"]).await;
    api.hears("POST", &["/service/S1/purge", "fastly-key: t0ken", &table]).await;
    let cloudflare = ["/client/v4/zones/S1/purge_cache", "authorization: Bearer t0ken", "{\"tags\":["];
    api.hears("POST", &[&cloudflare[..], &[&table]].concat()).await;
    // Again, for what was on its way.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let purges = api.told.lock().iter().filter(|t| t.0 == "PURGE" && t.2.contains(&table)).count();
    assert_eq!(purges, 2);
    // What is rolled back may have been written for all that anybody knows; what is only read was not.
    api.told.lock().clear();
    client.batch_execute("SELECT count(*) FROM sale; INSERT INTO other VALUES (1)").await.expect("read");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!api.told.lock().iter().any(|t| t.2.contains(&table) || t.3.contains(&table)));
    let failures: Vec<u64> = futures_util::future::join_all(
        ["purge", "ban", "fastly", "cloudflare"].map(|cdn| bed.shown("SHOW CDNS", cdn, "failures")),
    )
    .await
    .iter()
    .map(|n| n.parse().expect("a number"))
    .collect();
    assert_eq!(failures.iter().sum::<u64>(), 3, "{failures:?}");
    assert!(!bed.proxy.log().contains("t0ken"));
}
