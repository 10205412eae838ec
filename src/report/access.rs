//! Who may have a report: everybody, whoever has a URL that was signed for it, or whoever has a token.
//!
//! A signed URL names the report, all its values and when it is of no use any more; its signature is the HMAC-SHA256 (RFC
//! 2104) of these under the operator's key. Of tokens only hashes are kept. Both are compared in constant time.

use std::time::Duration;

use ring::{digest, hmac};
use subtle::ConstantTimeEq;

use super::params::{Asked, EXPIRES, SIGNATURE};
use crate::config::{Report, ReportAccess, Reports};
use crate::core::keyfile::{self, KEY};

/// Largest file of tokens, in bytes.
const MOST_TOKENS: usize = 1 << 20;

/// What proofs are held against.
#[derive(Debug, Default)]
pub struct Keys {
    signing: Option<hmac::Key>,
    /// Names, and hashes of their tokens.
    tokens: Vec<(String, [u8; digest::SHA256_OUTPUT_LEN])>,
}

/// In which way somebody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// As everybody.
    Public,
    /// By a URL that is good for so long.
    Signed(Duration),
    /// By a token.
    Token,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Nothing shows that they may.
    Nothing,
    /// The signature is not of this URL.
    Signature,
    /// It has expired.
    Expired,
    /// The token is not one of those that count here.
    Token,
}

impl Keys {
    /// From their files.
    ///
    /// # Errors
    /// What is wrong with one of them; nothing of it is told to whoever asks for reports.
    pub fn load(reports: &Reports) -> Result<Keys, String> {
        let key = reports.key_file.as_ref().map(|path| keyfile::key(path)).transpose()?;
        let text = reports.tokens_file.as_ref().map(|path| keyfile::read(path, "tokens file", MOST_TOKENS));
        let text = String::from_utf8(text.transpose()?.unwrap_or_default());
        let tokens = tokens(&text.map_err(|_| "the tokens file is not UTF-8")?)?;
        Ok(Keys { signing: key.map(|key| signing(&key)), tokens })
    }

    /// Whether `asked`, with this header, may have the report at that time (seconds since the epoch).
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        report: &Report,
        asked: &Asked,
        authorization: Option<&str>,
        now: u64,
    ) -> Result<Grant, Denial> {
        let may = |access| report.access.contains(&access);
        if may(ReportAccess::Public) {
            return Ok(Grant::Public);
        }
        if let Some(signature) = asked.signature.as_ref().filter(|_| may(ReportAccess::Signed)) {
            return self.signed(report, asked, signature, now);
        }
        let Some(token) = authorization.and_then(bearer).filter(|_| may(ReportAccess::Token)) else {
            return Err(Denial::Nothing);
        };
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let mut found = false;
        // All of them: how long it takes tells nothing.
        for (name, known) in &self.tokens {
            let counts = report.tokens.iter().any(|pattern| pattern.matches(name));
            found |= bool::from(known.as_slice().ct_eq(hash.as_ref())) && counts;
        }
        if found { Ok(Grant::Token) } else { Err(Denial::Token) }
    }

    fn signed(&self, report: &Report, asked: &Asked, signature: &str, now: u64) -> Result<Grant, Denial> {
        let key = self.signing.as_ref().ok_or(Denial::Signature)?;
        let signature = hex::decode(signature).map_err(|_| Denial::Signature)?;
        let text = canonical(&report.name, &asked.pairs);
        hmac::verify(key, text.as_bytes(), &signature).map_err(|_| Denial::Signature)?;
        let expires =
            asked.get(EXPIRES).and_then(|text| text.parse::<u64>().ok()).ok_or(Denial::Signature)?;
        match expires.checked_sub(now) {
            None | Some(0) => Err(Denial::Expired),
            Some(left) => Ok(Grant::Signed(Duration::from_secs(left))),
        }
    }
}

fn signing(key: &[u8; KEY]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

/// The token of an Authorization header (RFC 6750, section 2.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// What is signed: the same for every order and every spelling of the parameters.
fn canonical(report: &str, pairs: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = pairs.iter().collect();
    pairs.sort();
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("turnpike report\n{report}\n{query}")
}

/// The path and query of a URL that is good until then (seconds since the epoch).
pub fn sign(key: &[u8; KEY], report: &str, mut pairs: Vec<(String, String)>, expires: u64) -> String {
    pairs.push((EXPIRES.to_string(), expires.to_string()));
    let tag = hmac::sign(&signing(key), canonical(report, &pairs).as_bytes());
    pairs.push((SIGNATURE.to_string(), hex::encode(tag)));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("/reports/{report}?{query}")
}

/// Lines of a name and the SHA-256 of its token, in hexadecimal digits.
fn tokens(text: &str) -> Result<Vec<(String, [u8; digest::SHA256_OUTPUT_LEN])>, String> {
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let token = |line: &str| {
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        let (name, digits) = line.split_once(char::is_whitespace)?;
        hex::decode_to_slice(digits.trim(), &mut hash).ok()?;
        Some((name.to_string(), hash))
    };
    lines
        .map(|line| {
            let wrong = || {
                format!(
                    "line {} of the tokens file is not a name and 64 hexadecimal digits (printf %s TOKEN | sha256sum)",
                    line.0
                )
            };
            token(line.1).ok_or_else(wrong)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Pattern;
    use crate::report::params::read;
    use crate::report::tests::report;
    use proptest::prelude::*;

    const SECRET: [u8; KEY] = [7; KEY];

    fn keys() -> Keys {
        let hash = |token: &str| hex::encode(digest::digest(&digest::SHA256, token.as_bytes()));
        let text = format!("# who\nclinic-1 {}\n\nlab\t{}\n", hash("open sesame"), hash("other"));
        Keys { signing: Some(signing(&SECRET)), tokens: tokens(&text).unwrap() }
    }

    fn private() -> Report {
        let access = vec![ReportAccess::Signed, ReportAccess::Token];
        Report { access, tokens: vec![Pattern::new("clinic-*")], ..report() }
    }

    fn check(query: &str, authorization: Option<&str>) -> Result<Grant, Denial> {
        keys().check(&private(), &read(query).unwrap(), authorization, 1000)
    }

    fn query(url: &str) -> &str {
        url.split_once('?').unwrap().1
    }

    #[test]
    fn who_may() {
        let pairs = vec![("b".to_string(), "x y".to_string()), ("a".to_string(), "1".to_string())];
        let url = sign(&SECRET, "r", pairs, 1060);
        assert_eq!(check(query(&url), None), Ok(Grant::Signed(Duration::from_secs(60))));
        // In another order, and spelt otherwise.
        let signature = url.rsplit_once("signature=").unwrap().1;
        let other = format!("signature={signature}&expires=1060&a=%31&b=x%20y");
        assert_eq!(check(&other, None), Ok(Grant::Signed(Duration::from_secs(60))));
        let denied = |query: &str| check(query, None).unwrap_err();
        assert_eq!(denied(&query(&url).replace("a=1", "a=2")), Denial::Signature);
        assert_eq!(denied(&query(&url).replace("expires=1060", "expires=9060")), Denial::Signature);
        assert_eq!(denied(&query(&url).replace("&expires=1060", "")), Denial::Signature);
        assert_eq!(denied(query(&sign(&[8; KEY], "r", Vec::new(), 1060))), Denial::Signature);
        assert_eq!(denied(query(&sign(&SECRET, "other", Vec::new(), 1060))), Denial::Signature);
        assert_eq!(denied(query(&sign(&SECRET, "r", Vec::new(), 1000))), Denial::Expired);
        assert_eq!(denied(""), Denial::Nothing);
        let token = |header: &str| check("", Some(header));
        assert_eq!(token("bearer open sesame"), Ok(Grant::Token));
        assert_eq!(token("Bearer other"), Err(Denial::Token), "it is somebody else's");
        assert_eq!(token("Bearer open"), Err(Denial::Token));
        assert_eq!(token("Basic open sesame"), Err(Denial::Nothing));
        let public = Report { access: vec![ReportAccess::Public], ..report() };
        assert_eq!(Keys::default().check(&public, &Asked::default(), None, 0), Ok(Grant::Public));
    }

    #[test]
    fn what_is_no_token_is_told_by_line() {
        assert!(tokens("a 00\n").unwrap_err().contains("line 1"));
        assert!(tokens("\n# x\nabc\n").unwrap_err().contains("line 3"));
    }

    proptest! {
        /// Whatever is changed of a signed URL, it is refused, unless it says the same.
        #[test]
        fn no_signed_url_can_be_changed(
            name in "[a-z]{1,5}", value in ".{0,8}", other in ".{0,8}", expires in 1001u64..5000,
        ) {
            let url = sign(&SECRET, "r", vec![(name.clone(), value.clone())], expires);
            prop_assert!(check(query(&url), None).is_ok());
            let mut asked = read(query(&url)).unwrap();
            asked.pairs[0].1.clone_from(&other);
            let outcome = keys().check(&private(), &asked, None, 1000);
            prop_assert_eq!(outcome.is_ok(), other == value);
        }
    }
}
