//! TLS on both sides: negotiated and direct, channel binding, certificates as proof, and what must not get through.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream as StdTcp;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use turnpike::app::cluster::{Cluster, ClusterOptions, SslFiles};
use turnpike::wire::startup;

use crate::harness::{Db, Proxy, ProxyOptions, pg, value};

/// An authority, a server's certificate for `localhost`, and a client's for a user.
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    pub fn new(user: &str) -> Certificates {
        let dir = TempDir::with_prefix("turnpike-tls-").expect("a temporary directory");
        // Postgres reads its files as another user.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.path(), open).expect("ours to open");
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names to reject");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "test authority");
        let certificate = authority.self_signed(&authority_key).expect("signed");
        let made = Certificates { dir };
        made.write("ca.crt", &certificate.pem());
        let issuer = Issuer::new(authority, authority_key);
        made.issue(&issuer, "server", "localhost");
        made.issue(&issuer, "client", user);
        made
    }

    fn issue(&self, issuer: &Issuer<'_, KeyPair>, file: &str, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_string()]).expect("a good name");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, issuer).expect("signed");
        self.write(&format!("{file}.crt"), &certificate.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("ours to write");
        let private =
            std::os::unix::fs::PermissionsExt::from_mode(if name.ends_with("key") { 0o600 } else { 0o644 });
        fs::set_permissions(self.path(name), private).expect("ours to protect");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `[tls]` with the client authority.
    pub fn section(&self) -> String {
        format!(
            "[tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
            self.path("server.crt"),
            self.path("server.key"),
            self.path("ca.crt")
        )
    }
}

fn hba(kind: &str, method: &str) -> String {
    format!("[[hba]]\ntype = \"{kind}\"\ndatabase = \"all\"\nuser = \"all\"\nmethod = \"{method}\"\n")
}

/// Runs one statement with psql; the output, or what it said on failure.
fn psql(proxy: &Proxy, db: &Db, options: &str) -> Result<String, String> {
    let conninfo = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user={} password={} dbname={} {options}",
        proxy.port, db.user, db.password, db.name
    );
    let output = Command::new("psql")
        .args(["-XAtc", "SELECT 'through'", &conninfo])
        .output()
        .expect("psql is installed");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test]
async fn clients_may_use_tls_and_bind_the_channel() {
    let db = Db::new();
    let certificates = Certificates::new(&db.user);
    let proxy = Proxy::start(&db, ProxyOptions { extra: certificates.section(), ..Default::default() });
    let ca = certificates.path("ca.crt");
    let verified = format!("sslmode=verify-full sslrootcert={} channel_binding=require", ca.display());
    assert_eq!(psql(&proxy, &db, &verified).as_deref(), Ok("through"));
    assert_eq!(psql(&proxy, &db, "sslmode=require channel_binding=disable").as_deref(), Ok("through"));
    assert_eq!(psql(&proxy, &db, "sslmode=disable").as_deref(), Ok("through"));
}

#[tokio::test]
async fn methods_that_need_tls() {
    let db = Db::new();
    let certificates = Certificates::new(&db.user);
    let start = |rules: String| {
        Proxy::start(&db, ProxyOptions { extra: certificates.section(), hba: rules, ..Default::default() })
    };
    let proxy = start(hba("host", "scram-sha-256-plus"));
    assert_eq!(psql(&proxy, &db, "sslmode=require").as_deref(), Ok("through"));
    assert!(psql(&proxy, &db, "sslmode=require channel_binding=disable").is_err());
    assert!(psql(&proxy, &db, "sslmode=disable").is_err_and(|e| e.contains("channel binding is required")));
    let proxy = start(hba("host", "password"));
    assert_eq!(psql(&proxy, &db, "sslmode=require").as_deref(), Ok("through"));
    assert!(psql(&proxy, &db, "sslmode=disable").is_err_and(|e| e.contains("without TLS")));
    // What it has shown in the clear opens the backend, of which only a verifier is known here.
    let user = format!("verifier = \"{}\"", db.verifier());
    let rules = hba("host", "password");
    let extra = certificates.section();
    let proxy = Proxy::start(&db, ProxyOptions { extra, hba: rules, user, ..Default::default() });
    assert_eq!(psql(&proxy, &db, "sslmode=require").as_deref(), Ok("through"));
    let proxy = start(hba("hostssl", "scram-sha-256"));
    assert!(psql(&proxy, &db, "sslmode=disable").is_err_and(|e| e.contains("no encryption")));
}

#[tokio::test]
async fn a_certificate_names_its_user() {
    let db = Db::new();
    let certificates = Certificates::new(&db.user);
    let options =
        ProxyOptions { extra: certificates.section(), hba: hba("hostssl", "cert"), ..Default::default() };
    let proxy = Proxy::start(&db, options);
    let with = |c: &Certificates| {
        format!(
            "sslmode=require sslcert={} sslkey={}",
            c.path("client.crt").display(),
            c.path("client.key").display()
        )
    };
    assert_eq!(psql(&proxy, &db, &with(&certificates)).as_deref(), Ok("through"));
    assert!(
        psql(&proxy, &db, "sslmode=require sslcert=none")
            .is_err_and(|e| e.contains("certificate authentication failed"))
    );
    // Of an authority that is not ours.
    assert!(psql(&proxy, &db, &with(&Certificates::new(&db.user))).is_err());
}

#[tokio::test]
async fn nothing_sent_in_the_clear_survives_into_tls() {
    let db = Db::new();
    let certificates = Certificates::new(&db.user);
    let options =
        ProxyOptions { extra: certificates.section(), hba: hba("host", "trust"), ..Default::default() };
    let proxy = Proxy::start(&db, options);
    let mut socket = StdTcp::connect(("127.0.0.1", proxy.port)).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a sane timeout");
    let sneaked = startup::build_startup(0, &[("user", &db.user), ("database", &db.name)]);
    socket.write_all(&[startup::build_ssl_request(), sneaked].concat()).expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&b'S'));
    assert!(!answer.windows(9).any(|w| w == b"R\0\0\0\x08\0\0\0\0"), "it was let in: {answer:?}");
    assert_eq!(psql(&proxy, &db, "sslmode=require").as_deref(), Ok("through"));
}

/// Connects without SSLRequest; the first bytes that come back.
async fn direct_tls(proxy: &Proxy, certificates: &Certificates, alpn: &[&[u8]]) -> std::io::Result<Vec<u8>> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let ca =
        rustls::pki_types::CertificateDer::from_pem_file(certificates.path("ca.crt")).expect("a certificate");
    roots.add(ca).expect("a good one");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let tcp = TcpStream::connect(("127.0.0.1", proxy.port)).await?;
    let name = "localhost".try_into().expect("a name");
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    tls.write_all(&startup::build_startup(2, &[("user", "u")])).await?;
    let mut head = vec![0; 9];
    tls.read_exact(&mut head).await?;
    Ok(head)
}

#[tokio::test]
async fn direct_tls_needs_its_protocol_named() {
    let db = Db::new();
    let certificates = Certificates::new(&db.user);
    let proxy = Proxy::start(&db, ProxyOptions { extra: certificates.section(), ..Default::default() });
    let head = direct_tls(&proxy, &certificates, &[b"postgresql"]).await.expect("let in as far as SCRAM");
    assert_eq!((head[0], &head[5..9]), (b'R', &10u32.to_be_bytes()[..]));
    assert!(direct_tls(&proxy, &certificates, &[]).await.is_err());
    assert!(direct_tls(&proxy, &certificates, &[b"http/1.1"]).await.is_err());
}

#[tokio::test]
async fn backends_are_held_to_sslmode() {
    let certificates = Certificates::new("nobody");
    let ssl = SslFiles {
        cert: certificates.path("server.crt"),
        key: certificates.path("server.key"),
        client_ca: None,
    };
    let hba = "hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all all 127.0.0.1/32 reject\n";
    let options = ClusterOptions { ssl: Some(ssl), hba: Some(hba.into()), ..Default::default() };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(options).expect("a cluster with TLS")));
    cluster.primary().psql("postgres", "CREATE ROLE r LOGIN PASSWORD 'pw'").expect("a role");
    let port = cluster.primary().port;
    let ca = certificates.path("ca.crt");
    let start = |host: &str, mode: &str, root: bool| {
        let root = if root { format!("sslrootcert = {ca:?}\n") } else { String::new() };
        Proxy::with_config(&[], |listen, _| {
            format!(
                "[general]\nlisten = [\"127.0.0.1:{listen}\"]\n[pool]\nwait_timeout = \"2s\"\n\
                 [[backend]]\nname = \"b\"\nhost = \"{host}\"\nport = {port}\nsslmode = \"{mode}\"\n{root}\
                 [[database]]\nname = \"postgres\"\nbackend = \"b\"\n[[user]]\nname = \"r\"\npassword = \"pw\"\n{}",
                self::hba("host", "scram-sha-256")
            )
        })
    };
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (host, mode, root) in [
        ("127.0.0.1", "prefer", false),
        ("127.0.0.1", "require", false),
        ("127.0.0.1", "verify-ca", true),
        ("localhost", "verify-full", true),
    ] {
        let proxy = start(host, mode, root);
        let client = pg(&proxy.url_as("r", "pw", "postgres")).await;
        assert_eq!(value(&client, encrypted).await, "t", "{mode}");
    }
    for (host, mode, root) in [("127.0.0.1", "disable", false), ("127.0.0.1", "verify-full", true)] {
        let proxy = start(host, mode, root);
        let refused = crate::harness::try_pg(&proxy.url_as("r", "pw", "postgres")).await.map(drop);
        assert!(refused.is_err(), "{mode}");
    }
    cluster.primary().stop(turnpike::app::cluster::StopMode::Immediate).expect("it stops");
}

/// A server of PostgreSQL 17 or newer, as far as TLS goes: the handshake comes first, with ALPN, and no SSLRequest. What
/// is inside is passed on to a real one. Tells where it listens.
async fn direct_server(certificates: &Certificates, server: u16) -> u16 {
    use rustls::pki_types::pem::PemObject;
    let file = |name: &str| certificates.path(name);
    let certificate =
        rustls::pki_types::CertificateDer::from_pem_file(file("server.crt")).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(file("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut tls = acceptor.accept(client).await?;
                if tls.get_ref().1.alpn_protocol() == Some(b"postgresql") {
                    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
                    tokio::io::copy_bidirectional(&mut tls, &mut server).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    port
}

#[tokio::test]
async fn backends_may_speak_tls_from_the_first_byte() {
    let db = Db::new();
    let certificates = Certificates::new("nobody");
    let server = db.cluster().primary().port;
    let direct = direct_server(&certificates, server).await;
    let ca = certificates.path("ca.crt");
    let start = |port: u16, is_direct: bool| {
        let options = ProxyOptions { pool: "wait_timeout = \"2s\"".into(), ..Default::default() };
        Proxy::edited(&db, &options, |config| {
            config
                .replace("host = \"127.0.0.1\"", "host = \"localhost\"")
                .replace(&format!("port = {server}\n"), &format!("port = {port}\n"))
                .replace(
                    "sslmode = \"disable\"",
                    &format!("sslmode = \"verify-full\"\nsslrootcert = {ca:?}\nssl_direct = {is_direct}"),
                )
        })
    };
    let proxy = start(direct, true);
    let client = pg(&proxy.url(&db)).await;
    assert_eq!(value(&client, "SELECT 'direct'").await, "direct");
    let (ok, text) = crate::admin::psql(&proxy.admin_url(&db), &["SHOW SERVERS"]);
    assert!(ok && text.contains("TLS"), "{text}");
    // Who asks first whether there is TLS is not understood there, and the other way round.
    for (port, is_direct) in [(direct, false), (server, true)] {
        let proxy = start(port, is_direct);
        let refused = crate::harness::try_pg(&proxy.url(&db)).await;
        let failed = match refused {
            Ok(client) => client.simple_query("SELECT 1").await.is_err(),
            Err(_) => true,
        };
        assert!(failed, "port {port}, direct {is_direct}");
    }
}

/// What `run` refuses, `check` refuses.
#[test]
fn files_that_hold_no_certificate_are_found_by_check() {
    let certificates = Certificates::new("anybody");
    let file = certificates.path("t.toml");
    let check = |cert: &str, key: &str| {
        let tls = format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n");
        let backend =
            "[[backend]]\nname = \"b\"\nhost = \"h\"\n[[database]]\nname = \"d\"\nbackend = \"b\"\n";
        fs::write(&file, tls + backend).expect("ours to write");
        let output =
            Command::new(env!("CARGO_BIN_EXE_turnpike")).arg("check").arg(&file).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check("server.crt", "server.key"), (true, String::new()));
    let (fine, said) = check("server.key", "server.key");
    assert!(!fine && said.contains("no certificate in it"), "{said}");
    let (fine, said) = check("server.crt", "client.key");
    assert!(!fine && said.contains("t.toml:3:7: tls.key: ") && said.contains("is not the key of"), "{said}");
}
