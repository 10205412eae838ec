//! TLS by rustls: what we present to clients, what we demand of backends, and what SCRAM binds to.

use std::path::Path;
use std::sync::Arc;

use ring::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::scram::ChannelBinding;
use super::stream::Stream;
use crate::config::{Backend, ClientTls, SslMode};

/// The application protocol that direct TLS must name (protocol, "SSL Session Encryption").
const ALPN: &[u8] = b"postgresql";
/// That of HTTP, as far as we speak it.
const HTTP: &[u8] = b"http/1.1";

/// TLS towards clients.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    binding: ChannelBinding,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn at<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> String + '_ {
    move |e| format!("{}: {e}", path.display())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(at(path))?.collect::<Result<_, _>>().map_err(at(path))?;
    if found.is_empty() { Err(format!("{}: no certificate in it", path.display())) } else { Ok(found) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(at(path))
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(at(path))?;
    }
    Ok(Arc::new(store))
}

/// What we present to who comes, and what SCRAM binds to then.
fn presented(config: &ClientTls) -> Result<(ServerConfig, ChannelBinding), String> {
    let chain = certificates(&config.cert)?;
    let binding = endpoint(&chain[0]);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(at(&config.cert))?;
    let builder = match &config.client_ca {
        Some(ca) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider())
                .allow_unauthenticated()
                .build()
                .map_err(at(ca))?,
        ),
        None => builder.with_no_client_auth(),
    };
    let tls = builder.with_single_cert(chain, key(&config.key)?).map_err(at(&config.key))?;
    Ok((tls, binding))
}

/// TLS towards who asks over HTTP.
///
/// # Errors
/// The file that cannot be used, and why.
pub fn https(config: &ClientTls) -> Result<TlsAcceptor, String> {
    let (mut tls, _) = presented(config)?;
    tls.alpn_protocols = vec![HTTP.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// TLS towards a server over HTTP that one of these authorities must have signed for; without any, nobody can have.
///
/// # Errors
/// The file that cannot be used, and why.
pub fn trusting(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = ca.map(roots).transpose()?.unwrap_or_else(|| Arc::new(RootCertStore::empty()));
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Acceptor {
    /// From the configuration.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn new(config: &ClientTls) -> Result<Acceptor, String> {
        let (mut tls, binding) = presented(config)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        // Database connections are long: tickets would cost each of them memory for a resumption that never comes.
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Acceptor { tls: TlsAcceptor::from(Arc::new(tls)), binding })
    }

    /// What SCRAM binds to on connections that this accepts.
    pub fn binding(&self) -> &ChannelBinding {
        &self.binding
    }
}

/// TLS towards one backend.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// From the configuration of a backend; the meaning of `sslmode` is libpq's.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn new(config: &Backend) -> Result<Connector, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Demands::of(config)?));
        let mut tls = match (&config.sslcert, &config.sslkey) {
            (Some(cert), Some(path)) => {
                builder.with_client_auth_cert(certificates(cert)?, key(path)?).map_err(at(cert))?
            }
            _ => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let name = match ServerName::try_from(config.host.clone()) {
            Ok(name) => name,
            // Checking for another name than the one that was asked for would be no check.
            Err(e) if config.sslmode == SslMode::VerifyFull => {
                return Err(format!(
                    "backend \"{}\": sslmode verify-full needs a host name: {e}",
                    config.name
                ));
            }
            Err(_) => ServerName::try_from("localhost").map_err(|e| e.to_string())?,
        };
        Ok(Connector { tls: TlsConnector::from(Arc::new(tls)), name })
    }

    /// Performs the handshake. `plain` must have been read no further than the answer to SSLRequest.
    ///
    /// # Errors
    /// What rustls or the socket says.
    pub async fn connect(&self, plain: TcpStream) -> std::io::Result<Stream> {
        let tls = self.tls.connect(self.name.clone(), plain).await?;
        Ok(Stream::TlsClient(Box::new(tls)))
    }
}

/// What a backend's certificate has to be.
#[derive(Debug)]
struct Demands {
    roots: Option<Arc<WebPkiServerVerifier>>,
    name_counts: bool,
    provider: Arc<CryptoProvider>,
}

impl Demands {
    fn of(config: &Backend) -> Result<Demands, String> {
        let verified = matches!(config.sslmode, SslMode::VerifyCa | SslMode::VerifyFull | SslMode::Require);
        let roots = match &config.sslrootcert {
            Some(path) if verified => Some(
                WebPkiServerVerifier::builder_with_provider(roots(path)?, provider())
                    .build()
                    .map_err(at(path))?,
            ),
            None if matches!(config.sslmode, SslMode::VerifyCa | SslMode::VerifyFull) => {
                return Err(format!("backend \"{}\": sslmode verify-* needs sslrootcert", config.name));
            }
            _ => None,
        };
        Ok(Demands { roots, name_counts: config.sslmode == SslMode::VerifyFull, provider: provider() })
    }
}

impl ServerCertVerifier for Demands {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let verdict = roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The chain is checked before the name: what is left is a known authority's certificate for another.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name_counts => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` (RFC 5929 section 4.1): the certificate hashed with its own signature's hash, SHA-256 in
/// place of MD5 and SHA-1. Undefined for algorithms without one, such as Ed25519.
fn endpoint(certificate: &CertificateDer<'_>) -> ChannelBinding {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return ChannelBinding::None };
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // md5, sha1 and sha256 with RSA; sha1 and sha256 with ECDSA
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => &digest::SHA256,
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return ChannelBinding::None,
    };
    ChannelBinding::Endpoint(digest::digest(algorithm, certificate).as_ref().to_vec())
}

impl Stream {
    /// Becomes TLS towards a client. Nothing may have been read beyond the request for it, or, `direct`, at all.
    ///
    /// # Errors
    /// What rustls or the socket says; the stream is then [`Stream::Gone`].
    pub async fn upgrade(&mut self, acceptor: &Acceptor, direct: bool) -> std::io::Result<()> {
        let Stream::Tcp(tcp) = std::mem::replace(self, Stream::Gone) else {
            return Err(std::io::Error::other("TLS is for TCP connections without it"));
        };
        let tls = acceptor.tls.accept(tcp).await?;
        // Without the name an attacker could make a browser speak to us (ALPACA); Postgres 17 demands it too.
        if direct && tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(std::io::Error::other("direct TLS without ALPN protocol negotiation"));
        }
        *self = Stream::TlsServer(Box::new(tls));
        Ok(())
    }

    /// The host name that a client asked TLS for, in lower case.
    pub fn asked_host(&self) -> Option<String> {
        let Stream::TlsServer(tls) = self else { return None };
        tls.get_ref().1.server_name().map(str::to_ascii_lowercase)
    }

    /// What SCRAM towards a backend binds to.
    pub fn server_binding(&self) -> ChannelBinding {
        let Stream::TlsClient(tls) = self else { return ChannelBinding::None };
        tls.get_ref().1.peer_certificates().and_then(<[_]>::first).map_or(ChannelBinding::None, endpoint)
    }

    /// Common name of a client's certificate, which has been verified.
    pub fn peer_common_name(&self) -> Option<String> {
        let Stream::TlsServer(tls) = self else { return None };
        let certificate = tls.get_ref().1.peer_certificates()?.first()?;
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let mut names = parsed.subject().iter_common_name();
        let name = names.next()?.as_str().ok()?.to_string();
        // Several names, or one with a NUL in it: whose certificate that is, is anybody's guess.
        (names.next().is_none() && !name.contains('\0')).then_some(name)
    }
}
