//! TLS on the way: from who asks for reports to us, and from us to a CDN that has an authority of its own.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use reqwest::Client;
use turnpike::config::ClientTls;
use turnpike::observe::guests::Guests;
use turnpike::wire::tls;

use super::cdns::Api;
use super::{Bed, PUBLIC, http, section};
use crate::harness::{Db, cluster, pg};
use crate::tls::Certificates;

fn of(certificates: &Certificates) -> ClientTls {
    let file = |name: &str| certificates.path(name);
    ClientTls { cert: file("server.crt"), key: file("server.key"), client_ca: None }
}

/// A client that goes by what one authority signs; each connection is a new one.
fn trusting(certificates: &Certificates) -> Client {
    let tls = tls::trusting(Some(&certificates.path("ca.crt"))).expect("an authority");
    let builder = Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(Duration::from_secs(10));
    builder.tls_backend_preconfigured(tls).build().expect("a client")
}

async fn get(client: &Client, scheme: &str, port: u16) -> Result<String, reqwest::Error> {
    client.get(format!("{scheme}://localhost:{port}/reports/r")).send().await?.text().await
}

fn copy(from: &Certificates, to: &Path) {
    for name in ["server.crt", "server.key"] {
        fs::copy(from.path(name), to.join(name)).expect("copied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_given_over_tls() {
    let (first, second) = (Certificates::new("nobody"), Certificates::new("nobody"));
    let lines = "tls_cert = \"DIR/server.crt\"\ntls_key = \"DIR/server.key\"\n";
    let sections = format!("{lines}{}", section("r", "SELECT count(*) AS n FROM sale", PUBLIC));
    let bed = Bed::prepared(Db::in_cluster(cluster()), &sections, |dir| copy(&first, dir.path()), |c| c);
    // Who says nothing keeps nobody out.
    let _silent = tokio::net::TcpStream::connect(("127.0.0.1", bed.port)).await.expect("connected");
    let one = get(&trusting(&first), "https", bed.port).await.expect("given");
    assert!(one.contains("\"n\":2"), "{one}");
    assert!(get(&trusting(&second), "https", bed.port).await.is_err(), "of another authority");
    assert!(get(&http(), "http", bed.port).await.is_err(), "without TLS");

    // Another certificate in the same files is put into use by a reload; one that is none leaves things as they are.
    copy(&second, bed.dir.path());
    bed.reload("", "").await;
    assert!(get(&trusting(&second), "https", bed.port).await.expect("given").contains("\"n\":2"));
    assert!(get(&trusting(&first), "https", bed.port).await.is_err(), "the old one is still in use");
    fs::write(bed.dir.path().join("server.crt"), "no certificate").expect("written");
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    let refused = admin.simple_query("RELOAD").await.expect_err("it cannot be used");
    let refused = refused.as_db_error().map(|e| format!("{e:?}")).unwrap_or_default();
    assert!(refused.contains("server.crt"), "{refused}");
    assert!(get(&trusting(&second), "https", bed.port).await.is_ok());
    bed.reload("tls_", "# tls_").await;
    assert!(get(&http(), "http", bed.port).await.expect("given").contains("\"n\":2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cdn_may_have_an_authority_of_its_own() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (real, other) = (Certificates::new("nobody"), Certificates::new("nobody"));
    let api = Api::default();
    let acceptor = tls::https(&of(&real)).expect("a certificate");
    let tls = Arc::new(ArcSwapOption::from_pointee(acceptor));
    let port = api.serve_by(|listener| Guests::new(listener, 16, Duration::from_secs(60)).secured(tls)).await;
    let cdn = format!(
        "[[cdn]]\nname = \"edge\"\nkind = \"purge\"\nurl = \"https://localhost:{port}\"\nca = \"DIR/ca.crt\"\n"
    );
    let sections = format!("{}{cdn}", section("r", "SELECT count(*) AS n FROM sale", PUBLIC));
    let authority = |of: &Certificates, dir: &Path| {
        fs::copy(of.path("ca.crt"), dir.join("ca.crt")).expect("copied");
    };
    let db = Db::in_cluster(cluster());
    let bed = Bed::prepared(db, &sections, |dir| authority(&other, dir.path()), |c| c);
    let began = std::time::Instant::now();
    loop {
        let error = bed.shown("SHOW CDNS", "edge", "error").await;
        if error.contains("invalid peer certificate") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{error}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    // What has not been told is told when the authority is the right one.
    authority(&real, bed.dir.path());
    api.hears("PURGE", &["surrogate-key: report:r"]).await;
}
