//! Passwords in the clear and by MD5 (protocol 3.0, "AuthenticationMD5Password"), and the bodies that carry secrets.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use crate::core::error::{Error, Result};
use crate::wire::message::cstr;

/// Whether two secrets are the same, in time that does not depend on where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// MD5 of the parts in a row, as hexadecimal digits.
pub fn md5(parts: &[&[u8]]) -> String {
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(part));
    hex::encode(md5.finalize())
}

/// The answer to an MD5 request by who knows the password.
pub fn md5_from_password(user: &str, password: &str, salt: [u8; 4]) -> String {
    md5_from_stored(&format!("md5{}", md5(&[password.as_bytes(), user.as_bytes()])), salt)
}

/// The answer to an MD5 request by who knows what pg_authid holds (`md5...`).
pub fn md5_from_stored(stored: &str, salt: [u8; 4]) -> String {
    let inner = stored.strip_prefix("md5").unwrap_or(stored);
    format!("md5{}", md5(&[inner.as_bytes(), &salt]))
}

/// Whether a password in the clear is the one that pg_authid holds the MD5 of.
pub fn md5_stored_matches(stored: &str, user: &str, password: &[u8]) -> bool {
    same(format!("md5{}", md5(&[password, user.as_bytes()])).as_bytes(), stored.as_bytes())
}

/// The password in a PasswordMessage's body.
///
/// # Errors
/// FATAL 08P01 where it does not end in its terminator; 28P01 where it is empty, as Postgres does.
pub fn password_message(body: &[u8]) -> Result<&[u8]> {
    match cstr(body) {
        Some((b"", [])) => Err(Error::fatal(
            crate::core::error::SqlState::INVALID_PASSWORD,
            "empty password returned by client",
        )),
        Some((password, [])) => Ok(password),
        _ => Err(Error::protocol("invalid password packet size")),
    }
}

/// A SASLInitialResponse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism that the client chose.
    pub mechanism: &'a str,
    /// Its first message.
    pub data: &'a [u8],
}

/// Reads the body of a SASLInitialResponse.
///
/// # Errors
/// FATAL 08P01 where lengths do not add up.
pub fn sasl_initial(body: &[u8]) -> Result<SaslInitial<'_>> {
    let broken = || Error::protocol("invalid SASL response");
    let (mechanism, rest) = cstr(body).ok_or_else(broken)?;
    let (len, data) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
    if usize::try_from(i32::from_be_bytes(*len)).ok() != Some(data.len()) {
        return Err(broken());
    }
    Ok(SaslInitial { mechanism: std::str::from_utf8(mechanism).map_err(|_| broken())?, data })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn md5_both_ways() {
        // Computed with PostgreSQL: SELECT 'md5' || md5('secret' || 'bob').
        let stored = format!("md5{}", md5(&[b"secretbob"]));
        assert_eq!(md5_from_password("bob", "secret", *b"abcd"), md5_from_stored(&stored, *b"abcd"));
        assert!(md5_stored_matches(&stored, "bob", b"secret"));
        assert!(!md5_stored_matches(&stored, "bob", b"wrong"));
    }

    #[test]
    fn bodies() {
        assert_eq!(password_message(b"pw\0").unwrap(), b"pw");
        assert!(password_message(b"pw").is_err());
        assert!(password_message(b"pw\0x").is_err());
        assert_eq!(password_message(b"\0").unwrap_err().code.as_str(), "28P01");
        let initial = sasl_initial(b"SCRAM\0\0\0\0\x02ab").unwrap();
        assert_eq!((initial.mechanism, initial.data), ("SCRAM", &b"ab"[..]));
        for broken in [&b"SCRAM"[..], b"S\0\0\0\0\x03ab", b"S\0\xff\xff\xff\xffab", b"\xff\0\0\0\0\0"] {
            assert!(sasl_initial(broken).is_err());
        }
    }
}
