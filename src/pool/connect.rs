//! Opening a server connection: dial, TLS, startup, authentication, up to the first ReadyForQuery.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::cap::Cap;
use super::identity;
use super::names::Names;
use super::pool::Pool;
use super::settings::Settings;
use super::term::{self, Term, Terms};
use super::welcome::Params;
use crate::config::{Backend, Secret, SslMode};
use crate::core::error::{Error, Result, Severity, Side, SqlState};
use crate::core::limits::{FRAME_HEADER, MAX_CANCEL_KEY, MAX_DECODED};
use crate::wire::message::{ErrorFields, cstr, parameter_status};
use crate::wire::scram::{self, ClientExchange, Keys};
use crate::wire::stream::Stream;
use crate::wire::tls::Connector;
use crate::wire::{frame, password, reply, startup};

/// A backend to connect to.
#[derive(Debug)]
pub struct Target {
    name: String,
    mark: u32,
    wire: ArcSwap<Wire>,
    /// Its bound on connections.
    pub cap: Arc<Cap>,
    defaults: Mutex<Vec<Arc<Settings>>>,
    /// Changes of how it is reached.
    generation: AtomicU64,
    /// What its cluster knows of it.
    pub terms: Terms,
    /// Where its name leads.
    pub names: Names,
}

/// How a backend is reached: changed by a reload.
#[derive(Debug)]
struct Wire {
    config: Backend,
    tls: Option<Connector>,
}

impl Wire {
    fn new(config: &Backend) -> std::result::Result<Wire, String> {
        let tls = match config.sslmode {
            SslMode::Disable => None,
            _ => Some(Connector::new(config)?),
        };
        Ok(Wire { config: config.clone(), tls })
    }
}

/// A backend's new configuration, checked and not yet in use.
#[derive(Debug)]
pub struct Change(Wire);

impl Change {
    /// Checks it.
    ///
    /// # Errors
    /// Certificates that cannot be used, by file.
    pub fn new(config: &Backend) -> std::result::Result<Change, String> {
        Wire::new(config).map(Change)
    }
}

/// Different sets of defaults kept per backend: one per role or database that has some of its own.
const MAX_DEFAULTS: usize = 64;

/// A number for the name of a backend, and none for two that there are: FNV-1a, never zero.
pub fn mark(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash: u32, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193)) | 1
}

impl Target {
    /// From the configuration.
    ///
    /// # Errors
    /// Certificates that cannot be used, by file.
    pub fn new(config: &Backend) -> std::result::Result<Target, String> {
        let cap = Cap::new(format!("backend \"{}\"", config.name), config.max_connections);
        let wire = ArcSwap::from_pointee(Wire::new(config)?);
        let generation = AtomicU64::new(0);
        let (defaults, terms, names) = (Mutex::default(), Terms::default(), Names::default());
        let mark = mark(&config.name);
        Ok(Target { name: config.name.clone(), mark, wire, cap, defaults, generation, terms, names })
    }

    /// Puts a new configuration into use; true where connections opened before are not what it asks for.
    pub fn change(&self, change: Change) -> bool {
        self.cap.set_limit(change.0.config.max_connections);
        let before = self.wire.swap(Arc::new(change.0));
        let moved = !before.config.is_reached_like(&self.wire.load().config);
        if moved {
            self.generation.fetch_add(1, Relaxed);
        }
        moved
    }

    /// Looks whether its name leads elsewhere than before; then connections opened before are not what is asked for.
    pub async fn look_up(&self) -> bool {
        let wire = self.wire.load_full();
        let moved = self.names.have_moved(&wire.config.host, wire.config.port).await;
        if moved {
            self.generation.fetch_add(1, Relaxed);
        }
        moved
    }

    /// Changes when connections opened before are not what the configuration asks for.
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// The same defaults in one allocation for all pools that have them.
    pub(super) fn shared_defaults(&self, found: Settings) -> Arc<Settings> {
        let mut known = self.defaults.lock();
        if let Some(same) = known.iter().find(|d| ***d == found) {
            return same.clone();
        }
        let made = Arc::new(found);
        if known.len() < MAX_DEFAULTS {
            known.push(made.clone());
        }
        made
    }

    /// Name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands for its name where many things are counted by backend.
    #[inline]
    pub fn mark(&self) -> u32 {
        self.mark
    }

    /// Host, address or socket directory.
    pub fn host(&self) -> String {
        self.wire.load().config.host.clone()
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.wire.load().config.port
    }

    /// The error for a server that does not take writes on the timeline that it was thought to; it is looked at again.
    pub(super) fn misses(&self, term: Term) -> Error {
        self.terms.wake.notify_one();
        refused(self, &format!("it is not the primary on timeline {term} any more"))
    }

    /// An identity for a new server connection.
    pub fn next_link(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Relaxed)
    }
}

/// How a pool proves who it is.
#[derive(Clone)]
pub enum Credential {
    /// Not at all: trust or a certificate.
    None,
    /// With the password.
    Password(String),
    /// With what pg_authid holds of an MD5 password.
    Md5(String),
    /// With the keys that a client's own SCRAM login has shown, valid where the verifier is the same.
    Keys(Keys),
}

impl std::fmt::Debug for Credential {
    /// Names the kind, never the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credential::None => "None",
            Credential::Password(_) => "Password",
            Credential::Md5(_) => "Md5",
            Credential::Keys(_) => "Keys",
        })
    }
}

impl Credential {
    /// What the configuration knows of a user. A SCRAM verifier alone proves nothing to others.
    pub fn of(secret: Option<&Secret>) -> Credential {
        match secret {
            Some(Secret::Password(password)) => Credential::Password(password.clone()),
            Some(Secret::Md5(hash)) => Credential::Md5(hash.clone()),
            Some(Secret::None | Secret::ScramVerifier(_)) | None => Credential::None,
        }
    }
}

/// A server connection that has said ReadyForQuery.
#[derive(Debug)]
pub struct Greeted {
    /// The socket.
    pub stream: Stream,
    /// Process id.
    pub pid: i32,
    /// Secret for CancelRequest.
    pub key: Box<[u8]>,
    /// Parameters that it reported.
    pub params: Params,
    /// The timeline on which its server takes writes, if it does and is in a cluster.
    pub term: Term,
}

/// Opens a connection for a pool, with these settings in its startup packet: what a session that begins with them
/// RESETs to is then what Postgres makes of it.
pub async fn open(pool: &Pool, class: &Settings) -> Result<Greeted> {
    let credential = pool.credential.lock().clone();
    let purpose = &pool.purpose;
    let mut params = vec![("user", purpose.server_user.as_str()), ("database", purpose.dbname.as_str())];
    params.extend(class.iter());
    let mut stream = login(&pool.target, &params, &purpose.server_user, &credential).await?;
    let (pid, key, mut params) = greeting(&pool.target, &mut stream).await?;
    let term = if pool.target.terms.is_member() {
        hide_role(&mut params);
        identity::ask(&pool.target, &mut stream).await?
    } else {
        term::NONE
    };
    Ok(Greeted { stream, pid, key, params, term })
}

/// What clients of a cluster are told is the same whichever server says it.
fn hide_role(params: &mut Params) {
    for (_, value) in params.iter_mut().filter(|(name, _)| name == "in_hot_standby") {
        *value = "off".into();
    }
}

/// Connects the socket and negotiates TLS.
pub async fn dial(target: &Target) -> Result<Stream> {
    let wire = target.wire.load_full();
    let config = &wire.config;
    let plain = if config.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", config.host, config.port);
        return UnixStream::connect(path).await.map(Stream::Unix).map_err(|e| lost(target, &e));
    } else {
        let addresses =
            target.names.resolve(&config.host, config.port).await.map_err(|e| lost(target, &e))?;
        TcpStream::connect(addresses.as_slice()).await.map_err(|e| lost(target, &e))?
    };
    let peer = plain.peer_addr().map_err(|e| lost(target, &e))?;
    crate::wire::stream::tune(&plain, peer).map_err(|e| lost(target, &e))?;
    match &wire.tls {
        Some(tls) => negotiate_tls(target, config, tls, plain).await,
        None => Ok(Stream::Tcp(plain)),
    }
}

async fn negotiate_tls(
    target: &Target,
    config: &Backend,
    tls: &Connector,
    mut plain: TcpStream,
) -> Result<Stream> {
    if !config.ssl_direct {
        plain.write_all(&startup::build_ssl_request()).await.map_err(|e| lost(target, &e))?;
        // Exactly one byte is read: whatever else came in the clear stays out of the TLS session.
        let answer = plain.read_u8().await.map_err(|e| lost(target, &e))?;
        match (answer, config.sslmode) {
            (b'S', _) => {}
            (b'N', SslMode::Prefer) => return Ok(Stream::Tcp(plain)),
            (b'N', _) => return Err(refused(target, "server does not support TLS, but sslmode requires it")),
            _ => return Err(refused(target, "server's answer to SSLRequest makes no sense")),
        }
    }
    tls.connect(plain).await.map_err(|e| refused(target, &format!("TLS handshake failed: {e}")))
}

/// Dials and logs in with a startup packet of these parameters; returns after AuthenticationOk.
pub async fn login(
    target: &Target,
    params: &[(&str, &str)],
    user: &str,
    credential: &Credential,
) -> Result<Stream> {
    let mut stream = dial(target).await?;
    // 3.0: every server and pooler there is understands it, and what 3.2 adds is ours towards clients.
    send(target, &mut stream, &startup::build_startup(0, params)).await?;
    let mut login = Login { target, user, credential, exchange: None, verified: false };
    loop {
        let frame = next_frame(target, &mut stream).await?;
        match frame[0] {
            b'R' => {
                let Some(answer) = login.answer(&frame[FRAME_HEADER..], &stream)? else { return Ok(stream) };
                if !answer.is_empty() {
                    send(target, &mut stream, &answer).await?;
                }
            }
            b'E' => return Err(server_error(&frame)),
            b'N' | b'v' => {}
            _ => return Err(refused(target, "server sent something else than an authentication request")),
        }
    }
}

/// Reads from AuthenticationOk to ReadyForQuery.
async fn greeting(target: &Target, stream: &mut Stream) -> Result<(i32, Box<[u8]>, Params)> {
    let (mut pid, mut key, mut params) = (0, Box::default(), Params::new());
    loop {
        let frame = next_frame(target, stream).await?;
        match frame[0] {
            b'S' => params.extend(parameter_status(&frame).map(|(n, v)| (n.to_string(), v.to_string()))),
            b'K' => {
                let body = &frame[FRAME_HEADER..];
                let Some((head, secret)) = body.split_first_chunk::<4>() else {
                    return Err(refused(target, "server sent a short BackendKeyData"));
                };
                if secret.len() > MAX_CANCEL_KEY {
                    return Err(refused(target, "server sent an oversized cancel key"));
                }
                (pid, key) = (i32::from_be_bytes(*head), secret.into());
            }
            b'E' => return Err(server_error(&frame)),
            b'Z' => return Ok((pid, key, params)),
            _ => {}
        }
    }
}

/// One authentication exchange with a server.
struct Login<'a> {
    target: &'a Target,
    user: &'a str,
    credential: &'a Credential,
    exchange: Option<ClientExchange>,
    verified: bool,
}

impl Login<'_> {
    /// Answers an authentication request (its code and data); `None` at AuthenticationOk.
    fn answer(&mut self, body: &[u8], stream: &Stream) -> Result<Option<Vec<u8>>> {
        let Some((code, data)) = body.split_first_chunk::<4>() else {
            return Err(refused(self.target, "server sent a short authentication request"));
        };
        let mut out = Vec::new();
        match i32::from_be_bytes(*code) {
            // A server that has not proved that it knows the verifier must not end the exchange.
            0 if self.exchange.is_some() && !self.verified => {
                return Err(refused(self.target, "server ended the SCRAM exchange early"));
            }
            0 => return Ok(None),
            3 => self.cleartext(&mut out, stream)?,
            5 => self.md5(&mut out, data)?,
            10 => self.sasl(&mut out, data, stream)?,
            11 => {
                let exchange = self.exchange()?;
                let message = exchange.server_first(data).map_err(|e| e.severity(Severity::Fatal))?;
                reply::password(&mut out, &message);
            }
            12 => {
                self.exchange()?.server_final(data)?;
                self.verified = true;
            }
            other => {
                return Err(refused(self.target, &format!("server asks for authentication method {other}")));
            }
        }
        Ok(Some(out))
    }

    fn exchange(&mut self) -> Result<&mut ClientExchange> {
        let target = self.target;
        self.exchange.as_mut().ok_or_else(|| refused(target, "server sent a SASL message out of turn"))
    }

    fn cleartext(&mut self, out: &mut Vec<u8>, stream: &Stream) -> Result<()> {
        let Credential::Password(password) = self.credential else {
            return Err(self.no_secret("a password"));
        };
        if !stream.is_private() {
            return Err(refused(
                self.target,
                "server asks for the password in the clear on a connection without TLS",
            ));
        }
        reply::password(out, &[password.as_bytes(), b"\0"].concat());
        Ok(())
    }

    fn md5(&mut self, out: &mut Vec<u8>, data: &[u8]) -> Result<()> {
        let Ok(salt) = <[u8; 4]>::try_from(data) else {
            return Err(refused(self.target, "server sent an MD5 salt of the wrong length"));
        };
        let answer = match self.credential {
            Credential::Password(plain) => password::md5_from_password(self.user, plain, salt),
            Credential::Md5(stored) => password::md5_from_stored(stored, salt),
            _ => return Err(self.no_secret("an MD5 password")),
        };
        reply::password(out, &[answer.as_bytes(), b"\0"].concat());
        Ok(())
    }

    fn sasl(&mut self, out: &mut Vec<u8>, data: &[u8], stream: &Stream) -> Result<()> {
        let credential = match self.credential {
            Credential::Password(password) => scram::Credential::Password(password.clone()),
            Credential::Keys(keys) => scram::Credential::Keys(keys.clone()),
            _ => return Err(self.no_secret("a password or SCRAM keys")),
        };
        let (mut plain, mut plus, mut rest) = (false, false, data);
        while let Some((name, tail)) = cstr(rest).filter(|(name, _)| !name.is_empty()) {
            plain |= name == b"SCRAM-SHA-256";
            plus |= name == b"SCRAM-SHA-256-PLUS";
            rest = tail;
        }
        if !plain && !plus {
            return Err(refused(self.target, "server offers no SASL mechanism that is known"));
        }
        let (mut exchange, mechanism) = ClientExchange::start(credential, stream.server_binding(), plus)?;
        reply::sasl_initial(out, mechanism, &exchange.client_first());
        self.exchange = Some(exchange);
        Ok(())
    }

    fn no_secret(&self, what: &str) -> Error {
        Error {
            side: Side::Backend,
            ..Error::fatal(
                SqlState::INVALID_PASSWORD,
                format!("backend \"{}\" asks user \"{}\" for {what}", self.target.name(), self.user),
            )
            .detail("None is configured, and no client of this user has logged in with one.")
            .hint("Give the [[user]] a password, or the same SCRAM verifier as on the backend.")
        }
    }
}

async fn send(target: &Target, stream: &mut Stream, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).await.map_err(|e| lost(target, &e))?;
    stream.flush().await.map_err(|e| lost(target, &e))
}

/// Reads one whole frame, and no byte more.
pub(super) async fn next_frame(target: &Target, stream: &mut Stream) -> Result<Vec<u8>> {
    let mut frame = vec![0; FRAME_HEADER];
    stream.read_exact(&mut frame).await.map_err(|e| lost(target, &e))?;
    let header = frame::server(&frame)?.map_or(0, |h| h.len);
    if header > MAX_DECODED {
        return Err(refused(target, "server sent an oversized message while connecting"));
    }
    frame.resize(header, 0);
    stream.read_exact(&mut frame[FRAME_HEADER..]).await.map_err(|e| lost(target, &e))?;
    Ok(frame)
}

/// A server's ErrorResponse as an error of ours, its SQLSTATE and message kept.
pub fn server_error(frame: &[u8]) -> Error {
    let fields = ErrorFields::of(frame);
    Error::backend(fields.sqlstate(), fields.text())
}

pub(super) fn refused(target: &Target, why: &str) -> Error {
    Error::backend(
        SqlState::CANNOT_CONNECT,
        format!("could not connect to backend \"{}\": {why}", target.name()),
    )
}

/// A failed socket operation on the way to a backend.
pub fn lost(target: &Target, e: &io::Error) -> Error {
    Error::backend(
        SqlState::CONNECTION_FAILURE,
        format!("connection to backend \"{}\" failed: {e}", target.name()),
    )
}
