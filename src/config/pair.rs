//! Whether a certificate and a key belong together. Files that hold neither are for who uses them to judge.

use std::path::Path;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::raw::{Fault, Section};

/// Reports a key that is another certificate's, at the section's key of that name.
pub(super) fn pair(section: &Section<'_>, name: &str, cert: Option<&Path>, key: Option<&Path>) {
    if let (Some(cert), Some(key)) = (cert, key)
        && differ(cert, key)
    {
        let fault = Fault::from(format!("{} is not the key of {}", key.display(), cert.display()));
        section.report(name, fault.hint("one of them may have been renewed without the other"));
    }
}

fn differ(cert: &Path, key: &Path) -> bool {
    let Ok(chain) = CertificateDer::pem_file_iter(cert) else { return false };
    let Ok(chain) = chain.collect::<Result<Vec<_>, _>>() else { return false };
    let Ok(key) = PrivateKeyDer::from_pem_file(key) else { return false };
    let found = CertifiedKey::from_der(chain, key, &default_provider());
    matches!(found, Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)))
}
