//! tokio-postgres and sqlx, past the proxy and through it with two server connections and fifty clients.

use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use sqlx::{ConnectOptions, Connection, Executor, Row};
use tokio_postgres::types::Type;

use crate::harness::{Db, Proxy, ProxyOptions, pg, value};

fn proxy(db: &Db) -> Proxy {
    Proxy::start(db, ProxyOptions { pool: "size = 2".into(), ..Default::default() })
}

/// Every case against both; what differs is the proxy's doing.
fn urls(db: &Db, proxy: &Proxy) -> [String; 2] {
    [db.direct_url(), proxy.url(db)]
}

#[tokio::test]
async fn tokio_postgres_types_and_statements() {
    let db = Db::new();
    let proxy = proxy(&db);
    for url in urls(&db, &proxy) {
        let client = pg(&url).await;
        let row = client
            .query_one(
                "SELECT $1::int4, $2::text, $3::bytea, $4::float8, $5::int4[]",
                &[&42, &"größe", &&b"\0\xff"[..], &1.5f64, &vec![1, 2]],
            )
            .await
            .expect("values come back");
        assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (42, "größe"));
        assert_eq!((row.get::<_, &[u8]>(2), row.get::<_, f64>(3)), (&b"\0\xff"[..], 1.5));
        assert_eq!(row.get::<_, Vec<i32>>(4), [1, 2]);
        let statements = future::try_join_all((0..40).map(|i| {
            let client = &client;
            async move { client.prepare_typed(&format!("SELECT {i} + $1"), &[Type::INT4]).await }
        }));
        let statements = statements.await.expect("forty statements");
        // One task, so all of these are pipelined.
        let answers = statements
            .iter()
            .map(|s| async { client.query_one(s, &[&1i32]).await.map(|r| r.get::<_, i32>(0)) });
        assert_eq!(
            future::try_join_all(answers).await.expect("forty answers"),
            (1..=40).collect::<Vec<i32>>()
        );
        client.query_one("SELECT 1/$1::int", &[&0i32]).await.expect_err("division by zero");
        assert_eq!(value(&client, "SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn tokio_postgres_copies_and_cancels() {
    let db = Db::new();
    let proxy = proxy(&db);
    for url in urls(&db, &proxy) {
        let mut client = pg(&url).await;
        let transaction = client.transaction().await.expect("it begins");
        transaction.batch_execute("CREATE TEMP TABLE copied (i int) ON COMMIT DROP").await.expect("a table");
        let sink = transaction.copy_in("COPY copied FROM STDIN").await.expect("copying in");
        let mut sink = std::pin::pin!(sink);
        for i in 0..1000 {
            sink.send(bytes::Bytes::from(format!("{i}\n"))).await.expect("a row");
        }
        assert_eq!(sink.finish().await.expect("copied"), 1000);
        let out = transaction.copy_out("COPY copied TO STDOUT").await.expect("copying out");
        let size: usize = out
            .map(|r| r.map(|b| b.len()))
            .try_fold(0, |a, b| future::ready(Ok(a + b)))
            .await
            .expect("copied");
        assert_eq!(size, 3890);
        transaction.commit().await.expect("it ends");
        let token = client.cancel_token();
        let (slow, canceled) = tokio::join!(client.simple_query("SELECT pg_sleep(20)"), async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            token.cancel_query(tokio_postgres::NoTls).await
        });
        canceled.expect("the request is taken");
        assert_eq!(slow.expect_err("cancelled").code().map(|c| c.code()), Some("57014"));
        assert_eq!(value(&client, "SELECT 2").await, "2");
    }
}

#[tokio::test]
async fn sqlx_prepares_and_streams() {
    let db = Db::new();
    let proxy = proxy(&db);
    for url in urls(&db, &proxy) {
        let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a good address");
        let mut connection = options.connect().await.expect("connected");
        for i in 0..50i32 {
            let row = sqlx::query("SELECT $1::int4 + 1, $2::text")
                .bind(i)
                .bind("x")
                .fetch_one(&mut connection)
                .await;
            assert_eq!(row.expect("an answer").get::<i32, _>(0), i + 1);
        }
        let mut transaction = connection.begin().await.expect("it begins");
        let rows =
            sqlx::query("SELECT g FROM generate_series(1, 5000) g").fetch(&mut *transaction).count().await;
        assert_eq!(rows, 5000);
        transaction.rollback().await.expect("it ends");
        connection.execute("SELECT 1/0").await.expect_err("division by zero");
        let row = connection.fetch_one("SELECT 3").await.expect("the session goes on");
        assert_eq!(row.get::<i32, _>(0), 3);
        connection.close().await.expect("goodbye");
    }
}

#[tokio::test]
async fn fifty_clients_get_their_own_answers() {
    let db = Db::new();
    let proxy = proxy(&db);
    let url = proxy.url(&db);
    let clients = (0..50i32).map(|n| {
        let url = url.clone();
        tokio::spawn(async move {
            let client = pg(&url).await;
            // The same name for another text at every client, as drivers number theirs.
            let mine = client.prepare(&format!("SELECT {n}, $1::int4")).await.expect("prepared");
            for i in 0..100i32 {
                let row = client.query_one(&mine, &[&i]).await.expect("an answer");
                assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (n, i));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("its own answers only");
    }
}
