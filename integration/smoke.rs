//! The shortest journeys through the proxy: what has to work before anything else is worth testing.

use crate::harness::{Db, Proxy, ProxyOptions, pg, rows, try_pg, value};

#[tokio::test]
async fn a_statement_goes_through_and_comes_back() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let client = pg(&proxy.url(&db)).await;
    assert_eq!(value(&client, "SELECT current_database()").await, db.name);
    let row = client.query_one("SELECT $1::int + 1", &[&41i32]).await.expect("the extended protocol works");
    assert_eq!(row.get::<_, i32>(0), 42);
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let error =
        try_pg(proxy.url_as(&db.user, "wrong", &db.name)).await.expect_err("nobody gets in like that");
    assert_eq!(error.code().map(|c| c.code()), Some("28P01"));
}

#[tokio::test]
async fn clients_share_server_connections() {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 1".into(), ..Default::default() });
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    let pid = "SELECT pg_backend_pid()";
    assert_eq!(value(&a, pid).await, value(&b, pid).await);
}

#[tokio::test]
async fn the_admin_database_answers() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let client = pg(&proxy.admin_url(&db)).await;
    assert!(!rows(&client, "SHOW VERSION").await.is_empty());
}
