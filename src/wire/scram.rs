//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677; channel binding `tls-server-end-point`, RFC 5929), both
//! roles. Takes messages and gives messages; no I/O. Everything from a peer is taken to be hostile.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

use crate::core::error::{Error, Result, SqlState};
use crate::core::limits::MAX_SCRAM_ITERATIONS;

/// Mechanism without channel binding.
pub const PLAIN: &str = "SCRAM-SHA-256";
/// Mechanism with it.
pub const PLUS: &str = "SCRAM-SHA-256-PLUS";

type Key = [u8; 32];

/// Longest salt that is taken from a peer, in bytes.
const MAX_SALT: usize = 1024;

/// What the connection can be bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// No TLS, or a certificate for which none is defined.
    None,
    /// Hash of the server's certificate.
    Endpoint(Vec<u8>),
}

/// What pg_authid holds: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// Salt.
    pub salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

/// What proves a user to a server that has the same verifier, without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    client_key: Key,
    server_key: Key,
    salt: Vec<u8>,
    iterations: u32,
}

macro_rules! hidden {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            /// Never shows the secret.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}
hidden!(Verifier, Keys, ServerExchange, ClientExchange, MockSecret);

fn sign(key: &[u8], data: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

fn hash(data: &[u8]) -> Key {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

fn xor(a: Key, b: Key) -> Key {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// SaltedPassword (RFC 5802 section 3), the expensive step.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut out = [0; 32];
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, &mut out);
    out
}

/// SASLprep where it applies, else the bytes as they are, as Postgres does.
fn prepare(password: &[u8]) -> Vec<u8> {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    prepared.map_or_else(|| password.to_vec(), |text| text.into_owned().into_bytes())
}

impl Verifier {
    /// Reads the form that pg_authid holds.
    ///
    /// # Errors
    /// 28000 where it is none.
    pub fn parse(text: &str) -> Result<Verifier> {
        Self::read(text).ok_or_else(|| {
            Error::fatal(SqlState::INVALID_AUTHORIZATION, "stored SCRAM verifier is not valid")
        })
    }

    fn read(text: &str) -> Option<Verifier> {
        let (params, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = params.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| Key::try_from(BASE64.decode(text).ok()?).ok();
        let iterations = iterations.parse().ok().filter(|i| (1..=MAX_SCRAM_ITERATIONS).contains(i))?;
        Some(Verifier {
            iterations,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// Derives one. Takes a millisecond or more.
    pub fn from_password(password: &str, salt: &[u8], iterations: u32) -> Verifier {
        Self::from_salted(salted(&prepare(password.as_bytes()), salt, iterations), salt, iterations)
    }

    fn from_salted(salted: Key, salt: &[u8], iterations: u32) -> Verifier {
        Verifier {
            iterations,
            salt: salt.to_vec(),
            stored_key: hash(&sign(&salted, b"Client Key")),
            server_key: sign(&salted, b"Server Key"),
        }
    }

    /// What this password is good for elsewhere, if it is the right one. Takes a millisecond or more.
    pub fn proved(&self, password: &[u8]) -> Option<Keys> {
        let salted = salted(&prepare(password), &self.salt, self.iterations);
        let found = Self::from_salted(salted, &self.salt, self.iterations);
        let right: bool = found.stored_key.ct_eq(&self.stored_key).into();
        right.then(|| self.keys(sign(&salted, b"Client Key")))
    }

    /// What a client's key, once it has shown it, is good for elsewhere.
    pub fn keys(&self, client_key: Key) -> Keys {
        Keys { client_key, server_key: self.server_key, salt: self.salt.clone(), iterations: self.iterations }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, stored) = (BASE64.encode(&self.salt), BASE64.encode(self.stored_key));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{}", self.iterations, BASE64.encode(self.server_key))
    }
}

/// Makes up verifiers for users who do not exist: always the same for the same name, so that asking twice tells nothing.
pub struct MockSecret(Key);

/// Rounds of verifiers that Postgres makes by default.
const DEFAULT_ITERATIONS: u32 = 4096;

impl MockSecret {
    /// A fresh one; it lives as long as the process.
    pub fn random() -> MockSecret {
        let mut key = [0; 32];
        // Without randomness nobody can log in anyway: nonces fail.
        let _ = getrandom::fill(&mut key);
        MockSecret(key)
    }

    /// A verifier that no password matches.
    pub fn verifier(&self, user: &str) -> Verifier {
        let of = |what: &str| sign(&self.0, format!("{what}\0{user}").as_bytes());
        Verifier {
            iterations: DEFAULT_ITERATIONS,
            salt: of("salt")[..16].to_vec(),
            stored_key: of("stored"),
            server_key: of("server"),
        }
    }
}

/// A nonce for one exchange.
///
/// # Errors
/// When the system has no randomness.
pub fn nonce() -> Result<String> {
    let mut raw = [0u8; 18];
    getrandom::fill(&mut raw).map_err(|_| Error::internal("no randomness for a nonce"))?;
    Ok(BASE64.encode(raw))
}

fn malformed(detail: &'static str) -> Error {
    Error::protocol("malformed SCRAM message").detail(detail)
}

/// Splits `a=value,` off the front.
fn attribute<'a>(text: &mut &'a str, name: char) -> Result<&'a str> {
    let (head, tail) = text.split_once(',').unwrap_or((text, ""));
    let value = head.strip_prefix(name).and_then(|v| v.strip_prefix('='));
    *text = tail;
    value.ok_or_else(|| malformed("An attribute is missing or out of order."))
}

/// Visible ASCII without commas (RFC 5802 section 7, `printable`).
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b',')
}

fn utf8(data: &[u8]) -> Result<&str> {
    std::str::from_utf8(data).map_err(|_| malformed("It is not valid UTF-8."))
}

/// Bytes of the `c=` attribute: the GS2 header, then what the channel is bound to.
fn binding_input(header: &str, data: &[u8]) -> String {
    BASE64.encode([header.as_bytes(), data].concat())
}

/// The server's part of one exchange.
pub struct ServerExchange {
    verifier: Verifier,
    binding: ChannelBinding,
    nonce: String,
    plus: bool,
    header: String,
    client_first_bare: String,
    server_first: String,
}

/// What a client's last message came to.
#[derive(Debug)]
pub enum Outcome {
    /// It knows the password.
    Proved {
        /// Our last message.
        server_final: Vec<u8>,
        /// What it proved it with.
        client_key: Key,
    },
    /// It does not.
    Wrong,
}

impl ServerExchange {
    /// Begins; `binding` says whether SCRAM-SHA-256-PLUS was offered.
    pub fn new(verifier: Verifier, binding: ChannelBinding, nonce: String) -> ServerExchange {
        ServerExchange {
            verifier,
            binding,
            nonce,
            plus: false,
            header: String::new(),
            client_first_bare: String::new(),
            server_first: String::new(),
        }
    }

    /// Takes the client's first message and gives ours.
    ///
    /// # Errors
    /// FATAL 08P01 for what is malformed, unknown, or a downgrade.
    pub fn client_first(&mut self, mechanism: &str, data: &[u8]) -> Result<Vec<u8>> {
        let offered = matches!(self.binding, ChannelBinding::Endpoint(_));
        self.plus = match mechanism {
            PLAIN => false,
            PLUS if offered => true,
            _ => return Err(Error::protocol("client selected an invalid SASL authentication mechanism")),
        };
        let text = utf8(data)?;
        let mut parts = text.splitn(3, ',');
        let (flag, authzid, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(flag), Some(authzid), Some(bare)) => (flag, authzid, bare),
            _ => return Err(malformed("The GS2 header is incomplete.")),
        };
        self.check_binding_flag(flag, offered)?;
        if !authzid.is_empty() {
            return Err(Error::fatal(
                SqlState::FEATURE_NOT_SUPPORTED,
                "client uses authorization identity, but it is not supported",
            ));
        }
        if bare.starts_with("m=") {
            return Err(Error::protocol("client requires an unsupported SCRAM extension"));
        }
        let mut rest = bare;
        // The user name is the startup packet's; Postgres ignores the one here, and so do we.
        attribute(&mut rest, 'n')?;
        let client_nonce = attribute(&mut rest, 'r')?;
        if !is_nonce(client_nonce) {
            return Err(Error::protocol("non-printable characters in SCRAM nonce"));
        }
        self.header = format!("{flag},,");
        self.client_first_bare = bare.to_string();
        self.nonce = format!("{client_nonce}{}", self.nonce);
        let salt = BASE64.encode(&self.verifier.salt);
        self.server_first = format!("r={},s={salt},i={}", self.nonce, self.verifier.iterations);
        Ok(self.server_first.clone().into_bytes())
    }

    fn check_binding_flag(&self, flag: &str, offered: bool) -> Result<()> {
        match flag {
            "p=tls-server-end-point" if self.plus => Ok(()),
            "n" | "y" if self.plus => Err(malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the message has no channel binding data.",
            )),
            "n" => Ok(()),
            "y" if !offered => Ok(()),
            // It could have bound the channel and thinks that we cannot: someone in between took our offer out.
            "y" => {
                Err(Error::fatal(SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding negotiation error")
                    .detail("The client supports SCRAM channel binding but thinks the server does not."))
            }
            _ if flag.starts_with("p=") => Err(Error::protocol("unsupported SCRAM channel-binding type")),
            _ => Err(malformed("The channel-binding flag is unknown.")),
        }
    }

    /// Takes the client's last message.
    ///
    /// # Errors
    /// FATAL 08P01 for what is malformed or belongs to another exchange; a wrong proof is no error but an outcome.
    pub fn client_final(&mut self, data: &[u8]) -> Result<Outcome> {
        let text = utf8(data)?;
        let (without_proof, proof) =
            text.rsplit_once(",p=").ok_or_else(|| malformed("The proof is missing."))?;
        let mut rest = without_proof;
        let bound = attribute(&mut rest, 'c')?;
        let endpoint = match &self.binding {
            ChannelBinding::Endpoint(data) if self.plus => data.as_slice(),
            _ => b"",
        };
        if bound != binding_input(&self.header, endpoint) {
            return Err(Error::fatal(SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding check failed"));
        }
        if attribute(&mut rest, 'r')? != self.nonce || self.server_first.is_empty() {
            return Err(Error::protocol("invalid SCRAM response").detail("Nonce does not match."));
        }
        let proof = BASE64.decode(proof).ok().and_then(|p| Key::try_from(p).ok());
        let proof = proof.ok_or_else(|| malformed("Malformed proof in client-final-message."))?;
        let auth = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let client_key = xor(proof, sign(&self.verifier.stored_key, auth.as_bytes()));
        if !bool::from(hash(&client_key).ct_eq(&self.verifier.stored_key)) {
            return Ok(Outcome::Wrong);
        }
        let signature = BASE64.encode(sign(&self.verifier.server_key, auth.as_bytes()));
        Ok(Outcome::Proved { server_final: format!("v={signature}").into_bytes(), client_key })
    }
}

/// What we prove ourselves to a server with.
#[derive(Clone)]
pub enum Credential {
    /// The password.
    Password(String),
    /// Keys that a client has shown us.
    Keys(Keys),
}

/// The client's part of one exchange.
pub struct ClientExchange {
    credential: Credential,
    header: &'static str,
    endpoint: Vec<u8>,
    nonce: String,
    auth: String,
    server_key: Option<Key>,
}

impl ClientExchange {
    /// Begins, with channel binding where the connection has it and the server offers it (`plus`); returns the
    /// mechanism to name.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn start(
        credential: Credential,
        binding: ChannelBinding,
        plus: bool,
    ) -> Result<(Self, &'static str)> {
        let (mechanism, header, endpoint) = match binding {
            ChannelBinding::Endpoint(data) if plus => (PLUS, "p=tls-server-end-point,,", data),
            ChannelBinding::Endpoint(_) => (PLAIN, "y,,", Vec::new()),
            ChannelBinding::None => (PLAIN, "n,,", Vec::new()),
        };
        let (auth, server_key) = (String::new(), None);
        Ok((ClientExchange { credential, header, endpoint, nonce: nonce()?, auth, server_key }, mechanism))
    }

    /// Our first message. The user name stays empty: the server takes it from the startup packet.
    pub fn client_first(&mut self) -> Vec<u8> {
        self.auth = format!("n=,r={}", self.nonce);
        format!("{}{}", self.header, self.auth).into_bytes()
    }

    /// Takes the server's first message and gives our last.
    ///
    /// # Errors
    /// 08P01 for what is malformed, or asks for absurd work; 28P01 where our keys are for another verifier.
    pub fn server_first(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        let text = utf8(data)?;
        let mut rest = text;
        let nonce = attribute(&mut rest, 'r')?;
        let salt =
            BASE64.decode(attribute(&mut rest, 's')?).map_err(|_| malformed("The salt is not base64."))?;
        let iterations = attribute(&mut rest, 'i')?.parse::<u32>();
        let iterations = iterations.map_err(|_| malformed("The iteration count is not a number."))?;
        if !is_nonce(nonce) || !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(malformed("The nonce is not ours."));
        }
        if salt.is_empty() || salt.len() > MAX_SALT || !(1..=MAX_SCRAM_ITERATIONS).contains(&iterations) {
            return Err(malformed("The salt or the iteration count is out of bounds."));
        }
        let (client_key, server_key) = self.keys(&salt, iterations)?;
        let without_proof = format!("c={},r={nonce}", binding_input(self.header, &self.endpoint));
        self.auth = format!("{},{text},{without_proof}", self.auth);
        let proof = xor(client_key, sign(&hash(&client_key), self.auth.as_bytes()));
        self.server_key = Some(server_key);
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }

    fn keys(&self, salt: &[u8], iterations: u32) -> Result<(Key, Key)> {
        match &self.credential {
            Credential::Password(password) => {
                let salted = derived(password, salt, iterations);
                Ok((sign(&salted, b"Client Key"), sign(&salted, b"Server Key")))
            }
            Credential::Keys(k) if k.salt == salt && k.iterations == iterations => {
                Ok((k.client_key, k.server_key))
            }
            Credential::Keys(_) => Err(Error::fatal(
                SqlState::INVALID_PASSWORD,
                "the backend has another SCRAM verifier for this user than the proxy",
            )
            .hint("Copy the verifier from pg_authid, or give the [[user]] a password.")),
        }
    }

    /// Takes the server's last message: it must know the verifier too.
    ///
    /// # Errors
    /// 08P01 where it does not, or is out of turn.
    pub fn server_final(&self, data: &[u8]) -> Result<()> {
        let mut text = utf8(data)?;
        let key = self.server_key.ok_or_else(|| malformed("It came out of turn."))?;
        let signature = BASE64.decode(attribute(&mut text, 'v')?).unwrap_or_default();
        if bool::from(sign(&key, self.auth.as_bytes()).as_slice().ct_eq(&signature)) {
            return Ok(());
        }
        Err(Error::protocol("incorrect server signature in SCRAM exchange"))
    }
}

/// Derived keys that are remembered: as many as backends times users, in any sensible installation.
const MAX_DERIVED: usize = 10_000;

/// SaltedPassword, remembered, so that opening the hundredth connection of a user costs no derivation. The key is a
/// hash under a secret of the process: no password lies about in it.
fn derived(password: &str, salt: &[u8], iterations: u32) -> Key {
    static KNOWN: LazyLock<(MockSecret, Mutex<HashMap<Key, Key>>)> =
        LazyLock::new(|| (MockSecret::random(), Mutex::default()));
    let (secret, known) = &*KNOWN;
    let id = [&hash(password.as_bytes()), salt, &iterations.to_be_bytes()].concat();
    let id = sign(&secret.0, &id);
    if let Some(found) = known.lock().get(&id) {
        return *found;
    }
    let salted = salted(&prepare(password.as_bytes()), salt, iterations);
    let mut known = known.lock();
    if known.len() >= MAX_DERIVED {
        known.clear();
    }
    known.insert(id, salted);
    salted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn endpoint() -> ChannelBinding {
        ChannelBinding::Endpoint(b"certificate".to_vec())
    }

    /// Runs one exchange; `Ok(true)` when both sides are satisfied.
    fn exchange(credential: Credential, verifier: &Verifier, binding: ChannelBinding) -> Result<bool> {
        let plus = binding != ChannelBinding::None;
        let (mut client, mechanism) = ClientExchange::start(credential, binding.clone(), plus)?;
        let mut server = ServerExchange::new(verifier.clone(), binding, nonce()?);
        let server_first = server.client_first(mechanism, &client.client_first())?;
        match server.client_final(&client.server_first(&server_first)?)? {
            Outcome::Wrong => Ok(false),
            Outcome::Proved { server_final, client_key } => {
                client.server_final(&server_final)?;
                let keys = verifier.keys(client_key);
                let (mut again, mechanism) =
                    ClientExchange::start(Credential::Keys(keys), ChannelBinding::None, false)?;
                let mut server = ServerExchange::new(verifier.clone(), ChannelBinding::None, nonce()?);
                let first = server.client_first(mechanism, &again.client_first())?;
                let proved = server.client_final(&again.server_first(&first)?)?;
                Ok(matches!(proved, Outcome::Proved { .. }))
            }
        }
    }

    #[test]
    fn the_vector_of_rfc_7677() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::from_password("pencil", &salt, 4096);
        let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_string();
        let mut server = ServerExchange::new(verifier, ChannelBinding::None, nonce);
        let first = server.client_first(PLAIN, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(
            first,
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let Outcome::Proved { server_final, .. } = server.client_final(last).unwrap() else { panic!() };
        assert_eq!(server_final, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn exchanges() {
        let verifier = Verifier::from_password("pässword", b"0123456789abcdef", 10);
        let right = Credential::Password("pässword".into());
        assert!(exchange(right.clone(), &verifier, ChannelBinding::None).unwrap());
        assert!(exchange(right, &verifier, endpoint()).unwrap());
        assert!(!exchange(Credential::Password("x".into()), &verifier, ChannelBinding::None).unwrap());
        assert!(
            !exchange(Credential::Password("x".into()), &MockSecret::random().verifier("u"), endpoint())
                .unwrap()
        );
        assert!(verifier.proved(b"x").is_none());
        // Whoever has shown it to us in the clear can be who it is elsewhere.
        let keys = verifier.proved("pässword".as_bytes()).unwrap();
        assert!(exchange(Credential::Keys(keys), &verifier, ChannelBinding::None).unwrap());
        assert_eq!(Verifier::parse(&verifier.to_string()).unwrap(), verifier);
    }

    #[test]
    fn downgrades_and_tampering_are_refused() {
        let verifier = Verifier::from_password("p", b"0123456789abcdef", 10);
        let first = |mechanism: &str, data: &[u8], binding| {
            ServerExchange::new(verifier.clone(), binding, "n".into())
                .client_first(mechanism, data)
                .map(|_| ())
        };
        assert!(first(PLAIN, b"y,,n=,r=abc", endpoint()).is_err());
        assert!(first(PLAIN, b"y,,n=,r=abc", ChannelBinding::None).is_ok());
        assert!(first(PLUS, b"p=tls-server-end-point,,n=,r=abc", ChannelBinding::None).is_err());
        assert!(first(PLUS, b"n,,n=,r=abc", endpoint()).is_err());
        assert!(first(PLAIN, b"n,a=x,n=,r=abc", endpoint()).is_err());
        assert!(first(PLAIN, b"n,,m=x,n=,r=abc", endpoint()).is_err());
        assert!(first(PLAIN, b"n,,n=,r=", endpoint()).is_err());
        assert!(first("SCRAM-SHA-1", b"n,,n=,r=abc", endpoint()).is_err());
        let (mut client, _) =
            ClientExchange::start(Credential::Password("p".into()), ChannelBinding::None, false).unwrap();
        client.client_first();
        assert!(client.server_first(b"r=other,s=AAAA,i=4096").is_err());
        let huge = format!("r={}x,s=AAAA,i=4000000000", client.nonce);
        assert!(client.server_first(huge.as_bytes()).is_err());
        assert!(client.server_final(b"v=AAAA").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_password(password in "\\PC{0,20}", salt in prop::collection::vec(any::<u8>(), 1..40)) {
            let verifier = Verifier::from_password(&password, &salt, 2);
            prop_assert!(exchange(Credential::Password(password), &verifier, ChannelBinding::None).unwrap());
        }

        #[test]
        fn arbitrary_messages_prove_nothing(a in prop::collection::vec(any::<u8>(), 0..60), b in "[a-z=,0-9+/]{0,60}") {
            let verifier = Verifier::from_password("p", b"salt", 1);
            let mut server = ServerExchange::new(verifier, ChannelBinding::None, "n".into());
            let _ = server.client_first(PLAIN, &a);
            let _ = server.client_first(PLAIN, b"n,,n=,r=abc");
            let proved = matches!(server.client_final(b.as_bytes()), Ok(Outcome::Proved { .. }));
            prop_assert!(!proved);
            let (mut client, _) = ClientExchange::start(Credential::Password("p".into()), ChannelBinding::None, false).unwrap();
            client.client_first();
            let _ = client.server_first(&a);
            prop_assert!(client.server_first(b.as_bytes()).is_err());
        }

        #[test]
        fn verifiers_never_panic(text in "(SCRAM-SHA-256\\$)?[0-9:$a-zA-Z=]{0,40}") {
            let _ = Verifier::parse(&text);
        }
    }
}
