//! A connection to Redis, however many servers that is. The `redis` crate speaks the protocol, multiplexes what is asked
//! over one connection to each server, and follows a cluster's slots; which server a sentinel means is asked at every
//! connection.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, TlsCertificates, TlsMode,
};

use crate::config::{Redis, RedisMode};

/// Longest time for a connection, and for an answer that no client waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection that may be used by many at once.
#[derive(Clone)]
pub enum Link {
    /// To one server.
    Single(MultiplexedConnection),
    /// To all of a cluster.
    Cluster(ClusterConnection),
}

impl Link {
    /// One as configured.
    ///
    /// # Errors
    /// Whatever keeps it from being had.
    pub async fn open(redis: &Redis) -> RedisResult<Link> {
        if redis.tls {
            // Another part of the process may have said so before.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let certs = certificates(redis)?;
        let own = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        match redis.mode {
            RedisMode::Single => {
                let addr = redis.nodes.first().ok_or((ErrorKind::InvalidClientConfig, "no server"))?;
                let info = address(redis, addr).into_connection_info()?.set_redis_settings(login(redis));
                let client =
                    if redis.tls { Client::build_with_tls(info, certs)? } else { Client::open(info)? };
                Ok(Link::Single(client.get_multiplexed_async_connection_with_config(&own).await?))
            }
            RedisMode::Sentinel => {
                let mut client = by_sentinels(redis, certs)?;
                Ok(Link::Single(client.get_async_connection_with_config(&own).await?))
            }
            RedisMode::Cluster => Ok(Link::Cluster(of_cluster(redis, certs)?.get_async_connection().await?)),
        }
    }

    /// What is kept under a name.
    ///
    /// # Errors
    /// What the server says, or that it cannot be reached.
    pub async fn get(&mut self, name: &str) -> RedisResult<Option<Vec<u8>>> {
        let mut get = redis::cmd("GET");
        get.arg(name);
        match self {
            Link::Single(connection) => get.query_async(connection).await,
            Link::Cluster(connection) => get.query_async(connection).await,
        }
    }

    /// Keeps something under a name for so long.
    ///
    /// # Errors
    /// What the server says, or that it cannot be reached.
    pub async fn set(&mut self, name: &str, value: &[u8], ttl: Duration) -> RedisResult<()> {
        let mut set = redis::cmd("SET");
        set.arg(name).arg(value).arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        match self {
            Link::Single(connection) => set.query_async(connection).await,
            Link::Cluster(connection) => set.query_async(connection).await,
        }
    }

    /// Takes a name for so long, unless somebody has it. Whether it is ours.
    ///
    /// # Errors
    /// What the server says, or that it cannot be reached.
    pub async fn claim(&mut self, name: &str, ttl: Duration) -> RedisResult<bool> {
        let mut set = redis::cmd("SET");
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        set.arg(name).arg("").arg("NX").arg("PX").arg(millis);
        let set: Option<redis::Value> = match self {
            Link::Single(connection) => set.query_async(connection).await?,
            Link::Cluster(connection) => set.query_async(connection).await?,
        };
        Ok(set.is_some())
    }

    /// Whether it is there, and what it answers is the answer to what it is asked: a `word` that has not been said before
    /// comes back.
    ///
    /// # Errors
    /// What the server says, that it cannot be reached, or that it says something else.
    pub async fn ping(&mut self, word: &str) -> RedisResult<()> {
        let mut ping = redis::cmd("PING");
        ping.arg(word);
        let said: String = match self {
            Link::Single(connection) => ping.query_async(connection).await?,
            Link::Cluster(connection) => ping.query_async(connection).await?,
        };
        if said == word {
            return Ok(());
        }
        Err((ErrorKind::UnexpectedReturnType, "it answers something else than what it is asked").into())
    }
}

/// Whether after this error the connection is of no use: it is broken, to a server that takes no writes any more, or its
/// answers are others' than what was asked.
pub fn is_lost(e: &RedisError) -> bool {
    let broken = e.is_unrecoverable_error() || e.is_io_error() || e.is_timeout();
    broken || e.kind() == ErrorKind::UnexpectedReturnType || e.code() == Some("READONLY")
}

fn login(redis: &Redis) -> RedisConnectionInfo {
    // Its user need not be allowed more than GET, SET, PING and SELECT.
    let mut info = RedisConnectionInfo::default().set_db(i64::from(redis.database)).set_skip_set_lib_name();
    if let Some(user) = &redis.user {
        info = info.set_username(user);
    }
    if let Some(password) = &redis.password {
        info = info.set_password(password);
    }
    info
}

fn by_sentinels(redis: &Redis, certs: TlsCertificates) -> RedisResult<SentinelClient> {
    let nodes = redis.nodes.iter().map(|node| address(redis, node));
    let mut builder = SentinelClientBuilder::new(nodes, &redis.master, SentinelServerType::Master)?
        .set_client_to_redis_db(i64::from(redis.database));
    if let Some(user) = &redis.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &redis.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if redis.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certs.clone())
            .set_client_to_sentinel_certificates(certs);
    }
    builder.build()
}

fn of_cluster(redis: &Redis, certs: TlsCertificates) -> RedisResult<ClusterClient> {
    let nodes = redis.nodes.iter().map(|node| address(redis, node));
    let mut builder =
        ClusterClient::builder(nodes).connection_timeout(PATIENCE).response_timeout(PATIENCE).retries(1);
    if let Some(user) = &redis.user {
        builder = builder.username(user);
    }
    if let Some(password) = &redis.password {
        builder = builder.password(password);
    }
    if redis.tls {
        builder = builder.tls(TlsMode::Secure).certs(certs);
    }
    builder.build()
}

fn address(redis: &Redis, (host, port): &(String, u16)) -> ConnectionAddr {
    let (host, port) = (host.clone(), *port);
    if redis.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

fn certificates(redis: &Redis) -> RedisResult<TlsCertificates> {
    let root_cert = redis.ca.as_ref().map(std::fs::read).transpose()?;
    Ok(TlsCertificates { client_tls: None, root_cert })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// One that answers each request with the next of these.
    async fn to(answers: &'static [&'static str]) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            for answer in answers {
                assert!(client.read(&mut asked).await.unwrap() > 0);
                client.write_all(answer.as_bytes()).await.unwrap();
            }
            // Nothing more is said.
            assert_eq!(client.read(&mut asked).await.unwrap_or_default(), 0);
        });
        let client = Client::open(format!("redis://{address}")).unwrap().get_connection_info().clone();
        let client = client.set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
        Link::Single(Client::open(client).unwrap().get_multiplexed_async_connection().await.unwrap())
    }

    #[tokio::test]
    async fn what_is_said_is_heard_again() {
        let mut link =
            to(&["$1\r\n7\r\n", "$1\r\n7\r\n", "+PONG\r\n", "$-1\r\n", "*0\r\n", "-ERR no\r\n"]).await;
        assert!(link.ping("7").await.is_ok());
        // The word before, no word, no answer to that: it speaks of something else.
        for word in ["8", "9", "10", "11"] {
            assert!(link.ping(word).await.is_err_and(|e| is_lost(&e)), "{word}");
        }
        assert!(link.ping("12").await.is_err_and(|e| !is_lost(&e)));
    }
}
