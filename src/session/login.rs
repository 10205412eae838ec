//! Authentication of a client: the `[[hba]]` rule that applies, and the exchange that it calls for.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::handshake::Visitor;
use super::shared::Shared;
use crate::config::{Config, HbaMethod, HbaType, Secret};
use crate::core::error::{Error, Result, SqlState};
use crate::core::limits::{FRAME_HEADER, MAX_AUTH_MESSAGE};
use crate::wire::scram::{self, ChannelBinding, Keys, ServerExchange, Verifier};
use crate::wire::startup::{Replication, Startup};
use crate::wire::{password, reply};

/// Lets a client in, having sent AuthenticationOk, or says why not. Gives the keys that a login has shown to whoever keeps a SCRAM
/// verifier.
///
/// # Errors
/// The same for a wrong password and for a user who does not exist, after the same delay.
pub async fn admit(
    shared: &Arc<Shared>,
    config: &Config,
    visitor: &mut Visitor,
    startup: &Startup,
) -> Result<Option<Keys>> {
    let ip = visitor.addr.map(|a| a.ip());
    shared.gate.admit(ip, config.auth.max_failures_per_minute)?;
    let method = method(config, visitor, startup);
    let mut login = Login { shared, config, visitor, startup };
    let proof = match method {
        HbaMethod::Reject => Err(login.rejected()),
        HbaMethod::Trust => Ok(None),
        HbaMethod::Cert => login.certificate(),
        HbaMethod::Scram => login.scram(false).await,
        HbaMethod::ScramPlus => login.scram(true).await,
        HbaMethod::Md5 => login.md5().await,
        HbaMethod::Password => login.password().await,
    };
    match proof {
        Ok(keys) => {
            visitor.stream.write_all(reply::AUTH_OK).await.map_err(|_| gone())?;
            Ok(keys)
        }
        Err(e) => {
            shared.totals.login_failures.add(1);
            if e.code == SqlState::INVALID_PASSWORD {
                shared.gate.failed(ip);
                shared.gate.doubt(config, &startup.database, &startup.user);
                tokio::time::sleep(config.auth.failure_delay).await;
            }
            Err(e)
        }
    }
}

/// The method of the first rule that matches; reject where none does.
fn method(config: &Config, visitor: &Visitor, startup: &Startup) -> HbaMethod {
    let kind = match (visitor.addr, visitor.stream.is_tls()) {
        (None, _) => HbaType::Local,
        (_, true) => HbaType::HostSsl,
        (_, false) => HbaType::HostNoSsl,
    };
    let replication = startup.replication == Replication::Physical;
    let ip = visitor.addr.map(|a| a.ip());
    let rule = config.hba.iter().find(|r| r.matches(kind, ip, &startup.database, &startup.user, replication));
    rule.map_or(HbaMethod::Reject, |r| r.method)
}

struct Login<'a> {
    shared: &'a Arc<Shared>,
    config: &'a Config,
    visitor: &'a mut Visitor,
    startup: &'a Startup,
}

impl Login<'_> {
    fn rejected(&self) -> Error {
        let host = self.visitor.addr.map_or("[local]".to_string(), |a| a.ip().to_string());
        let tls = if self.visitor.stream.is_tls() { "SSL encryption" } else { "no encryption" };
        Error::fatal(
            SqlState::INVALID_AUTHORIZATION,
            format!(
                "no [[hba]] rule admits host \"{host}\", user \"{}\", database \"{}\", {tls}",
                self.startup.user.escape_debug(),
                self.startup.database.escape_debug()
            ),
        )
    }

    fn wrong(&self) -> Error {
        Error::fatal(
            SqlState::INVALID_PASSWORD,
            format!("password authentication failed for user \"{}\"", self.startup.user.escape_debug()),
        )
    }

    fn certificate(&mut self) -> Result<Option<Keys>> {
        if self.visitor.stream.peer_common_name().as_deref() == Some(self.startup.user.as_str()) {
            return Ok(None);
        }
        Err(Error::fatal(
            SqlState::INVALID_AUTHORIZATION,
            format!("certificate authentication failed for user \"{}\"", self.startup.user.escape_debug()),
        ))
    }

    async fn secret(&self) -> Result<Option<Secret>> {
        let (database, user) = (&self.startup.database, &self.startup.user);
        self.shared.gate.secret(self.config, &self.shared.pools, database, user).await
    }

    async fn scram(&mut self, plus_only: bool) -> Result<Option<Keys>> {
        let secret = self.secret().await?;
        let verifier = match &secret {
            Some(secret) => self.shared.gate.verifier(&self.startup.user, secret).await,
            None => None,
        };
        let known = verifier.is_some();
        // Who does not exist, or has no password, goes through the same motions.
        let verifier = match verifier {
            Some(verifier) => verifier,
            None => Arc::new(self.shared.gate.mock.verifier(&self.startup.user)),
        };
        let proved = self.scram_exchange(&verifier, plus_only).await?;
        proved.filter(|_| known).map(|key| Some(verifier.keys(key))).ok_or_else(|| self.wrong())
    }

    /// Gives the client's key, or `None` where the proof is wrong.
    async fn scram_exchange(&mut self, verifier: &Verifier, plus_only: bool) -> Result<Option<[u8; 32]>> {
        let binding = match &self.shared.gate.tls() {
            Some(tls) if self.visitor.stream.is_tls() => tls.binding().clone(),
            _ => ChannelBinding::None,
        };
        let plus = matches!(binding, ChannelBinding::Endpoint(_));
        if plus_only && !plus {
            return Err(Error::fatal(
                SqlState::INVALID_AUTHORIZATION,
                "channel binding is required, but the connection has no TLS to bind to",
            ));
        }
        let mut offer = Vec::new();
        if plus {
            offer.extend_from_slice(b"SCRAM-SHA-256-PLUS\0");
        }
        if !plus_only {
            offer.extend_from_slice(b"SCRAM-SHA-256\0");
        }
        offer.push(0);
        let first = self.ask(10, &offer).await?;
        let initial = password::sasl_initial(&first)?;
        if plus_only && initial.mechanism != "SCRAM-SHA-256-PLUS" {
            return Err(Error::protocol("client selected an invalid SASL authentication mechanism"));
        }
        let mut exchange = ServerExchange::new(verifier.clone(), binding, scram::nonce()?);
        let server_first = exchange.client_first(initial.mechanism, initial.data)?;
        let last = self.ask(11, &server_first).await?;
        match exchange.client_final(&last)? {
            scram::Outcome::Proved { server_final, client_key } => {
                let mut out = Vec::new();
                reply::authentication(&mut out, 12, &server_final);
                self.visitor.stream.write_all(&out).await.map_err(|_| gone())?;
                Ok(Some(client_key))
            }
            scram::Outcome::Wrong => Ok(None),
        }
    }

    /// MD5 where that is what is stored, SCRAM where a verifier is, as Postgres does with `md5` in pg_hba.conf.
    async fn md5(&mut self) -> Result<Option<Keys>> {
        let secret = self.secret().await?;
        if matches!(secret, Some(Secret::ScramVerifier(_))) {
            return self.scram(false).await;
        }
        let mut salt = [0u8; 4];
        getrandom::fill(&mut salt).map_err(|_| Error::internal("no randomness for a salt"))?;
        let body = self.ask(5, &salt).await?;
        let answer = password::password_message(&body)?;
        let want = match &secret {
            Some(Secret::Password(plain)) => {
                Some(password::md5_from_password(&self.startup.user, plain, salt))
            }
            Some(Secret::Md5(stored)) => Some(password::md5_from_stored(stored, salt)),
            _ => None,
        };
        let right = want.is_some_and(|want| password::same(want.as_bytes(), answer));
        if right { Ok(None) } else { Err(self.wrong()) }
    }

    async fn password(&mut self) -> Result<Option<Keys>> {
        if !self.visitor.stream.is_private() {
            return Err(Error::fatal(
                SqlState::INVALID_AUTHORIZATION,
                "password authentication is refused on a connection without TLS",
            )
            .hint("Connect with sslmode=require."));
        }
        let secret = self.secret().await?;
        let body = self.ask(3, b"").await?;
        let answer = password::password_message(&body)?.to_vec();
        let right = match secret {
            Some(Secret::Password(plain)) => password::same(plain.as_bytes(), &answer),
            Some(Secret::Md5(stored)) => password::md5_stored_matches(&stored, &self.startup.user, &answer),
            Some(secret @ Secret::ScramVerifier(_)) => {
                let verifier = self.shared.gate.verifier(&self.startup.user, &secret).await;
                let Some(verifier) = verifier else { return Err(self.wrong()) };
                return check_away(verifier, answer).await.map(Some).ok_or_else(|| self.wrong());
            }
            Some(Secret::None) | None => false,
        };
        if right { Ok(None) } else { Err(self.wrong()) }
    }

    /// Sends an authentication request and reads the body of the `p` message that answers it.
    async fn ask(&mut self, code: i32, data: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        reply::authentication(&mut out, code, data);
        let stream = &mut self.visitor.stream;
        stream.write_all(&out).await.map_err(|_| gone())?;
        stream.flush().await.map_err(|_| gone())?;
        let mut head = [0; FRAME_HEADER];
        stream.read_exact(&mut head).await.map_err(|_| gone())?;
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] != b'p' {
            return Err(Error::protocol(format!("expected SASL response, got message type {}", head[0])));
        }
        if !(4..=MAX_AUTH_MESSAGE).contains(&len) {
            return Err(Error::protocol("invalid message length"));
        }
        let mut body = vec![0; len - 4];
        stream.read_exact(&mut body).await.map_err(|_| gone())?;
        Ok(body)
    }
}

/// Checks a plain password against a verifier, away from the event loop. Gives the keys that it stands for.
async fn check_away(verifier: Arc<Verifier>, answer: Vec<u8>) -> Option<Keys> {
    tokio::task::spawn_blocking(move || verifier.proved(&answer)).await.ok().flatten()
}

fn gone() -> Error {
    Error::fatal(SqlState::CONNECTION_FAILURE, "client went away during login")
}
