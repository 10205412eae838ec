//! From a client's first byte to its first ReadyForQuery: TLS, startup, authentication, welcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::caching::Caching;
use super::course::Course;
use super::entry::{About, Entry};
use super::login::admit;
use super::names::Names;
use super::run::Client;
use super::shared::Shared;
use super::tenancy::{Claims, Tenancy};
use crate::config::{Config, Database, PoolMode};
use crate::core::clock::Instant;
use crate::core::error::{Error, Result, SqlState};
use crate::core::limits::CANCEL_KEY;
use crate::pool::connect::{Credential, server_error};
use crate::pool::pool::Pool;
use crate::pool::server::Server;
use crate::pool::settings::{APPLICATION_NAME, Settings};
use crate::pool::welcome::Welcome;
use crate::pool::wish::Wish;
use crate::pool::{reset, unknown_database};
use crate::sql::effect::Traces;
use crate::tenant::Tenant;
use crate::wire::message::TxStatus;
use crate::wire::reply;
use crate::wire::startup::{self, Replication, Request, Startup};
use crate::wire::stream::Stream;
use crate::wire::tls::Acceptor;

/// First byte of a TLS handshake record: direct TLS, without SSLRequest.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection that has just been accepted.
#[derive(Debug)]
pub struct Visitor {
    /// Its socket.
    pub stream: Stream,
    /// Where it comes from; `None` for a Unix socket.
    pub addr: Option<SocketAddr>,
    /// The address that it connected to.
    pub local_addr: Option<SocketAddr>,
}

/// What a handshake came to. The socket stays with the visitor.
#[derive(Debug)]
pub enum Outcome {
    /// A session on a pool; the client has been told ReadyForQuery.
    Session(Box<Seat>),
    /// A session on the admin database, told no more than AuthenticationOk.
    Admin {
        /// Who.
        user: String,
        /// Minor protocol version agreed on.
        minor: u16,
    },
    /// A replication connection, told no more than AuthenticationOk, to be relayed on a backend of its own.
    Replication {
        /// What it asked for.
        startup: Box<Startup>,
        /// Where it goes.
        pool: Arc<Pool>,
    },
    /// Nothing more to do: a cancel request, or a client that went away.
    Done,
}

/// All of a session but its socket.
#[derive(Debug)]
pub struct Seat {
    /// What others may see.
    pub entry: Arc<Entry>,
    /// Where its connections come from.
    pub pool: Arc<Pool>,
    /// What it has said that may name its tenant.
    pub claims: Option<Box<Claims>>,
    /// What the session begins with.
    pub class: Arc<Settings>,
    /// The same for its application's name, which pools do not tell apart.
    pub settings: Arc<Settings>,
    /// Why it keeps its server connection from the first.
    pub pins: Traces,
}

impl Seat {
    /// The session.
    pub fn taken(self, stream: Stream, shared: Arc<Shared>) -> Client {
        Client {
            stream,
            course: Course::of(&shared, &self.pool),
            beside: None,
            caching: Caching::of(&shared, &self.pool),
            most: u32::try_from(shared.config.load().general.max_message_size).unwrap_or(u32::MAX),
            shared,
            pool: self.pool,
            tenancy: Tenancy::of(self.claims),
            wish: Wish { newcomer: true, ..Wish::new(self.entry.id, self.class) },
            entry: self.entry,
            initial: self.settings.clone(),
            settings: self.settings,
            listening: None,
            unsynced: false,
            commits: false,
            serial: false,
            messy: false,
            doubts: None,
            blurred: false,
            savepoints: false,
            shadow: None,
            sighting: None,
            reading: None,
            armed: false,
            names: Names::default(),
            lease: None,
            leased_at: Instant::now(),
            status: TxStatus::Idle,
            pins: self.pins,
        }
    }
}

/// Who has been let in.
struct Guest {
    minor: u16,
    /// Of its database and user.
    base: Arc<Pool>,
    /// Where its connections come from.
    pool: Arc<Pool>,
    claims: Option<Box<Claims>>,
    tenant: Option<Arc<Tenant>>,
    /// What its startup packet asks for.
    wanted: Settings,
}

/// Performs the handshake. The caller bounds its time, and tells the client of an error.
///
/// # Errors
/// Why the client may not come in.
pub async fn handshake(shared: &Arc<Shared>, visitor: &mut Visitor) -> Result<Outcome> {
    let Some(startup) = greet(shared, visitor).await? else { return Ok(Outcome::Done) };
    let config = shared.config.load_full();
    let minor = negotiate(visitor, &startup).await?;
    let administers = startup.database == config.admin.database && startup.replication == Replication::No;
    // As Postgres says it, before anybody has to prove anything. Admins may see how far it is.
    if shared.closed() && !administers {
        return Err(Error::fatal(SqlState::CANNOT_CONNECT_NOW, "the database system is shutting down"));
    }
    let keys = admit(shared, &config, visitor, &startup).await?;
    if administers {
        return admin(&config, startup, minor);
    }
    let Some(database) = config.database(&startup.database) else {
        return Err(unknown_database(&startup.database));
    };
    if shared.pools.is_disabled(&startup.database) {
        return Err(Error::fatal(
            SqlState::CANNOT_CONNECT_NOW,
            format!("database \"{}\" is disabled", startup.database.escape_debug()),
        )
        .hint("An administrator has closed it to new clients (ENABLE opens it)."));
    }
    let (asked, mut wanted) =
        ((startup.database.as_str(), startup.user.as_str()), startup_settings(&startup)?);
    let host = visitor.stream.asked_host();
    let claims = Claims::of(shared, &startup.user, &mut wanted, host)?;
    let about = Claims::about(claims.as_deref(), (&startup.user, &startup.database), &wanted);
    let tenant = shared.pools.tenants.of(&about).map(|(tenant, _)| tenant);
    // Bounds and who may cancel are the database's and user's, whoever's connections are used.
    let base = shared.pools.pool(&config, database, asked, None);
    let pool = shared.pools.pool(&config, database, asked, tenant.as_ref().map(|t| &*t.name));
    if let Some(keys) = keys.filter(|_| database.user.is_none()) {
        base.learn(Credential::Keys(keys.clone()));
        pool.learn(Credential::Keys(keys));
    }
    if startup.replication != Replication::No {
        return Ok(Outcome::Replication { startup: Box::new(startup), pool });
    }
    if shared.client_count() >= config.general.max_clients as usize {
        shared.totals.refused_clients.add(1);
        return Err(too_many_clients(config.general.max_clients));
    }
    within_limits(shared, &config, database, &startup)?;
    let guest = Guest { minor, base, pool, claims, tenant, wanted };
    welcome(shared, visitor, guest).await
}

/// Bounds on clients of one user or database, and on memory.
fn within_limits(shared: &Shared, config: &Config, database: &Database, startup: &Startup) -> Result<()> {
    let memory = config.general.max_memory as u64;
    if memory > 0 && shared.totals.buffered.get() >= memory {
        shared.totals.refused_memory.add(1);
        return Err(Error::fatal(SqlState::OUT_OF_MEMORY, "relay buffers are full")
            .detail(format!("The limit is {memory} bytes (general.max_memory)."))
            .hint("Try again later."));
    }
    let of_user = config.user(&startup.user).map_or(0, |u| u.max_clients);
    let of_database = database.max_clients;
    if of_user == 0 && of_database == 0 {
        return Ok(());
    }
    let (user, on_database) = shared.clients_of(&startup.user, &startup.database);
    let refused = |what: String, limit: u32, key: &str| {
        Error::fatal(SqlState::TOO_MANY_CONNECTIONS, format!("too many connections for {what}"))
            .detail(format!("The limit is {limit} ({key})."))
    };
    if of_user > 0 && user >= of_user {
        shared.totals.refused_user.add(1);
        let what = format!("role \"{}\"", startup.user.escape_debug());
        return Err(refused(what, of_user, "user.max_clients"));
    }
    if of_database > 0 && on_database >= of_database {
        shared.totals.refused_database.add(1);
        let what = format!("database \"{}\"", startup.database.escape_debug());
        return Err(refused(what, of_database, "database.max_clients"));
    }
    Ok(())
}

/// Up to and including the startup packet. `None`: the connection is done with.
async fn greet(shared: &Arc<Shared>, visitor: &mut Visitor) -> Result<Option<Startup>> {
    let mut asked = (false, false);
    if let Some(tls) = shared.gate.tls()
        && visitor.stream.first_byte().await == Some(TLS_HANDSHAKE)
    {
        asked = (true, true);
        if !upgrade(&tls, visitor, true).await? {
            return Ok(None);
        }
    }
    loop {
        let Some((request, first)) = read_request(visitor).await? else { return Ok(None) };
        match request {
            Request::Cancel { pid, key } => {
                shared.cancel(pid, &key).await;
                return Ok(None);
            }
            Request::Ssl if !std::mem::replace(&mut asked.0, true) => {
                if !start_tls(shared, visitor).await? {
                    return Ok(None);
                }
            }
            Request::GssEnc if !std::mem::replace(&mut asked.1, true) => {
                if visitor.stream.write_all(b"N").await.is_err() {
                    return Ok(None);
                }
            }
            Request::Startup(startup) => return Ok(Some(startup)),
            Request::Ssl | Request::GssEnc => {
                return Err(Error::protocol(format!("unsupported frontend protocol {first}")));
            }
        }
    }
}

/// Reads one startup-phase packet, and no byte more: what follows in the clear must not reach a TLS session.
async fn read_request(visitor: &mut Visitor) -> Result<Option<(Request, String)>> {
    let mut buf = Vec::with_capacity(64);
    let mut need = 8;
    loop {
        let at = buf.len();
        buf.resize(need, 0);
        if visitor.stream.read_exact(&mut buf[at..]).await.is_err() {
            return Ok(None);
        }
        match startup::parse(&buf)? {
            startup::Parsed::Incomplete { need: more } => need = more.max(need + 1),
            startup::Parsed::Complete { request, .. } => {
                let code = u32::from_be_bytes([buf[4], buf[5], buf[6], buf[7]]);
                return Ok(Some((request, format!("{}.{}", code >> 16, code & 0xffff))));
            }
        }
    }
}

/// Answers SSLRequest. False when the client is gone.
async fn start_tls(shared: &Shared, visitor: &mut Visitor) -> Result<bool> {
    let Some(tls) = shared.gate.tls().filter(|_| visitor.stream.is_tcp()) else {
        return Ok(visitor.stream.write_all(b"N").await.is_ok());
    };
    if visitor.stream.write_all(b"S").await.is_err() {
        return Ok(false);
    }
    upgrade(&tls, visitor, false).await
}

/// The TLS handshake. False when it failed: there is nobody left to tell.
async fn upgrade(tls: &Acceptor, visitor: &mut Visitor, direct: bool) -> Result<bool> {
    match visitor.stream.upgrade(tls, direct).await {
        Ok(()) => Ok(true),
        Err(e) => {
            tracing::debug!(error = %e, "TLS handshake failed");
            Ok(false)
        }
    }
}

/// Tells a client that asks for more than we speak what we do speak, and returns the minor version agreed on.
async fn negotiate(visitor: &mut Visitor, startup: &Startup) -> Result<u16> {
    if let Some(message) = startup::negotiate(startup) {
        send(visitor, &message).await?;
    }
    Ok(startup.minor.min(startup::NEWEST_MINOR))
}

async fn send(visitor: &mut Visitor, bytes: &[u8]) -> Result<()> {
    let sent = async {
        visitor.stream.write_all(bytes).await?;
        visitor.stream.flush().await
    };
    sent.await.map_err(|_| gone())
}

/// The client went away: nobody is there to be told.
fn gone() -> Error {
    Error::fatal(SqlState::CONNECTION_FAILURE, "client went away during login")
}

fn admin(config: &Config, startup: Startup, minor: u16) -> Result<Outcome> {
    let user = startup.user;
    if config.admin.admins.contains(&user) || config.admin.readers.contains(&user) {
        return Ok(Outcome::Admin { user, minor });
    }
    Err(Error::fatal(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("user \"{}\" may not use the admin database", user.escape_debug()),
    )
    .hint("List the user in admin.admins or admin.readers."))
}

fn too_many_clients(limit: u32) -> Error {
    Error::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .detail(format!("The limit is {limit} (general.max_clients)."))
}

/// Works out what the session's parameters are, tells the client, and seats it.
async fn welcome(shared: &Arc<Shared>, visitor: &mut Visitor, guest: Guest) -> Result<Outcome> {
    let Guest { minor, base, pool, claims, tenant, wanted } = guest;
    let id = shared.next_client();
    let welcome =
        find_welcome(shared, &pool, (id, tenant.as_ref()), &wanted.without_application_name()).await?;
    let mut settings = Settings::default();
    let name: String = wanted.get(APPLICATION_NAME).unwrap_or_default().chars().map(printable).collect();
    if !name.is_empty() {
        settings.set(APPLICATION_NAME, &name);
    }
    let entry = seat(id, minor, &base, visitor, (&name, tenant))?;
    let mut out = Vec::with_capacity(512);
    for (parameter, value) in &welcome.params {
        reply::parameter_status(&mut out, parameter, value);
    }
    reply::parameter_status(&mut out, APPLICATION_NAME, &name);
    reply::backend_key_data(&mut out, entry.pid(), entry.key());
    out.extend_from_slice(reply::READY_IDLE);
    shared.join(entry.clone());
    if let Err(e) = send(visitor, &out).await {
        shared.leave(&entry);
        return Err(e);
    }
    let pins = if pool.settings().mode == PoolMode::Session { Traces::SESSION } else { Traces::NONE };
    let shared = |settings: Settings| {
        if settings.is_empty() { pool.neutral().clone() } else { pool.shared_settings(settings) }
    };
    let (class, settings) = (shared(welcome.settings.clone()), shared(settings));
    Ok(Outcome::Session(Box::new(Seat { entry, pool, claims, class, settings, pins })))
}

fn seat(
    id: u64,
    minor: u16,
    pool: &Arc<Pool>,
    visitor: &Visitor,
    (name, tenant): (&str, Option<Arc<Tenant>>),
) -> Result<Arc<Entry>> {
    let mut key = [0u8; CANCEL_KEY];
    getrandom::fill(&mut key).map_err(|_| Error::internal("no randomness for a cancel key"))?;
    let about = About {
        application_name: name.into(),
        addr: visitor.addr,
        local_addr: visitor.local_addr,
        tls: visitor.stream.tls_info().into(),
        tenant,
    };
    Ok(Arc::new(Entry::new(id, key, minor >= 2, pool.clone(), about)))
}

/// What Postgres does to an `application_name` that is not plain ASCII.
fn printable(c: char) -> char {
    if (' '..='~').contains(&c) { c } else { '?' }
}

/// The settings of a startup packet: its own fields, after those in `options`, as Postgres orders them.
fn startup_settings(startup: &Startup) -> Result<Settings> {
    let options = startup.options.as_deref().map(startup::parse_options).transpose()?.unwrap_or_default();
    let pairs = options.iter().chain(&startup.settings).map(|(n, v)| (n.as_str(), v.as_str()));
    Ok(Settings::from_pairs(pairs))
}

/// Time between two looks at which server of a cluster could tell what a session is told.
const LOOK: Duration = Duration::from_millis(50);

/// A connection for a client that is coming in: to any server of its cluster, whichever there is.
async fn any_server(
    shared: &Shared,
    pool: &Arc<Pool>,
    id: u64,
    tenant: Option<&Arc<Tenant>>,
) -> Result<Box<Server>> {
    let now = Instant::now();
    let wish = Wish { exact: true, tenant: tenant.cloned(), ..Wish::new(id, pool.neutral().clone()) };
    loop {
        let pool = shared.greeter(pool);
        if let Some(server) = pool.try_lease(&wish, now) {
            return Ok(server);
        }
        let mut reply = pool.queue(wish.clone(), now);
        let got = loop {
            match tokio::time::timeout(LOOK, &mut reply).await {
                Ok(got) => break Some(got),
                Err(_) if !Arc::ptr_eq(&shared.greeter(&pool), &pool) => break None,
                Err(_) => {}
            }
        };
        if got.is_none() {
            pool.withdraw(id);
            if let Ok(Ok(server)) = reply.try_recv() {
                return Ok(server);
            }
        }
        if let Some(got) = got {
            let fatal = |e| Error { severity: crate::core::error::Severity::Fatal, ..e };
            return got.map_err(|_| Error::internal("pool closed"))?.map_err(fatal);
        }
    }
}

/// What a session with these settings is told: known, or found out on a server.
pub(super) async fn find_welcome(
    shared: &Shared,
    pool: &Arc<Pool>,
    (id, tenant): (u64, Option<&Arc<Tenant>>),
    wanted: &Settings,
) -> Result<Arc<Welcome>> {
    if let Some(known) = pool.welcomes.find(wanted) {
        return Ok(known);
    }
    let mut server = any_server(shared, pool, id, tenant).await?;
    let pool = server.slot.pool().clone();
    let found = ask_server(&mut server, wanted).await;
    match found {
        Ok(reported) => {
            pool.give_back(server, Instant::now());
            let base = pool.welcomes.defaults().unwrap_or_default();
            Ok(pool.welcomes.learn(wanted, &base, &reported))
        }
        Err((error, usable)) => {
            if usable {
                pool.give_back(server, Instant::now());
            }
            Err(error)
        }
    }
}

type Reported = Vec<(String, String)>;

/// Applies the settings to a server that has none, and tells what it reports.
async fn ask_server(
    server: &mut Box<Server>,
    wanted: &Settings,
) -> std::result::Result<Reported, (Error, bool)> {
    let lost = || {
        (Error::backend(SqlState::CONNECTION_FAILURE, "backend closed the connection during login"), false)
    };
    server.unnamed = None;
    let neutral = server.slot.pool().neutral().clone();
    if !server.settings.is_empty() {
        let reset = server.settings.statement_to(&neutral);
        reset::run(server, &reset).await.ok_or_else(lost)?;
        server.settings = neutral.clone();
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let outcome = reset::run(server, &neutral.statement_to(wanted)).await.ok_or_else(lost)?;
    if let Some(error) = outcome.error {
        return Err((server_error(&error), true));
    }
    server.settings = Arc::new(wanted.clone());
    Ok(outcome.params)
}
