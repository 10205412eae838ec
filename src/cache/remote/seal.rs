//! What is kept outside of the process is sealed: compressed where that is worth it, then encrypted or at least
//! authenticated, together with the name that it is kept under. Whoever can write there can take results away, and nothing
//! else.

use ring::aead::{self, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;

/// Encrypted with AES-256-GCM (NIST SP 800-38D), after a nonce.
const ENCRYPTED: u8 = 1;
/// Authenticated with HMAC-SHA-256 (RFC 2104), after the tag.
const AUTHENTICATED: u8 = 2;
/// Bytes of that.
const TAG: usize = 32;
/// What follows is as it is, or compressed (Zstandard, RFC 8878) after its length.
const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;
/// Compression level: speed counts for more than the last per cent.
const LEVEL: i32 = 1;
/// Most bytes that something may be when it is no longer compressed.
const MOST: usize = 256 << 20;

/// Bytes that a process' own key is derived with.
const SALT: usize = 16;
/// Bytes of a key.
pub const KEY: usize = 32;

/// A key of this process alone: nothing that another one has sealed can be opened, and what is kept when the process ends is
/// lost with it. Or a key that several have in common: each seals with one of its own, which is derived from that.
#[derive(Debug)]
pub struct Seal {
    root: hmac::Key,
    salt: [u8; SALT],
    encrypt: Option<LessSafeKey>,
    authenticate: hmac::Key,
    names: hmac::Key,
    compress_above: usize,
}

impl Seal {
    /// One with this key, or a new one.
    ///
    /// # Errors
    /// The system gives no random key.
    pub fn new(encrypt: bool, compress_above: usize, key: Option<[u8; KEY]>) -> Result<Seal, String> {
        let (mut random, mut salt) = ([0; KEY], [0; SALT]);
        for bytes in [&mut random[..], &mut salt] {
            getrandom::fill(bytes).map_err(|e| format!("no random key: {e}"))?;
        }
        let root = hmac::Key::new(hmac::HMAC_SHA256, &key.unwrap_or(random));
        let part = |what: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, what).as_ref());
        let own = derived(&root, salt).ok_or("no key")?;
        Ok(Seal {
            encrypt: encrypt.then_some(own),
            authenticate: part(b"turnpike cache tags"),
            names: part(b"turnpike cache names"),
            root,
            salt,
            compress_above,
        })
    }

    /// A name that is the same only where all of this is, and tells nothing of it.
    pub fn name(&self, what: &str, parts: &[&[u8]]) -> String {
        let mut context = hmac::Context::with_key(&self.names);
        for part in [what.as_bytes()].iter().chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        hex::encode(context.sign())
    }

    /// Seals `bytes` to be kept under `name`. `None` where that fails.
    pub fn close(&self, name: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
        let body = self.squeeze(bytes)?;
        let Some(key) = &self.encrypt else {
            let mut sealed = Vec::with_capacity(1 + TAG + body.len());
            sealed.push(AUTHENTICATED);
            sealed.extend_from_slice(self.tag(name, &body).as_ref());
            sealed.extend_from_slice(&body);
            return Some(sealed);
        };
        // Random nonces of 96 bits are good for 2^32 messages under one key: years of what a proxy keeps, which has a key
        // of its own.
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut body = body;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut body).ok()?;
        let mut sealed = Vec::with_capacity(1 + SALT + NONCE_LEN + body.len());
        sealed.push(ENCRYPTED);
        sealed.extend_from_slice(&self.salt);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        Some(sealed)
    }

    /// What was sealed under `name` by this process, or by another that has the key. `None` where it is anything else.
    pub fn open(&self, name: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (kind, rest) = sealed.split_first()?;
        match (*kind, &self.encrypt) {
            (ENCRYPTED, Some(key)) => {
                let (salt, rest) = rest.split_first_chunk::<SALT>()?;
                let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
                let others = (*salt != self.salt).then(|| derived(&self.root, *salt));
                let others = match others {
                    Some(key) => Some(key?),
                    None => None,
                };
                let mut body = body.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let key = others.as_ref().unwrap_or(key);
                let opened = key.open_in_place(nonce, Aad::from(name), &mut body).ok()?;
                stretch(opened)
            }
            (AUTHENTICATED, None) => {
                let (tag, body) = rest.split_first_chunk::<TAG>()?;
                hmac::verify(&self.authenticate, &named(name, body), tag).ok()?;
                stretch(body)
            }
            _ => None,
        }
    }

    fn tag(&self, name: &[u8], body: &[u8]) -> hmac::Tag {
        hmac::sign(&self.authenticate, &named(name, body))
    }

    fn squeeze(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        // What AEAD appends has room.
        let mut body = Vec::with_capacity(bytes.len() + 1 + aead::MAX_TAG_LEN);
        if bytes.len() >= self.compress_above {
            body.push(COMPRESSED);
            body.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_be_bytes());
            body.extend_from_slice(&zstd::bulk::compress(bytes, LEVEL).ok()?);
            if body.len() < bytes.len() {
                return Some(body);
            }
            body.clear();
        }
        body.push(PLAIN);
        body.extend_from_slice(bytes);
        Some(body)
    }
}

/// The key that a process with this salt encrypts with.
fn derived(root: &hmac::Key, salt: [u8; SALT]) -> Option<LessSafeKey> {
    let key = hmac::sign(root, &[&b"turnpike cache key"[..], &salt].concat());
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?))
}

/// What is authenticated: the name with its length, then the rest.
fn named(name: &[u8], body: &[u8]) -> Vec<u8> {
    [&(name.len() as u64).to_be_bytes()[..], name, body].concat()
}

fn stretch(body: &[u8]) -> Option<Vec<u8>> {
    let (how, rest) = body.split_first()?;
    match *how {
        PLAIN => Some(rest.to_vec()),
        COMPRESSED => {
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let len = Some(u32::from_be_bytes(*len) as usize).filter(|len| *len <= MOST)?;
            zstd::bulk::decompress(rest, len).ok().filter(|bytes| bytes.len() == len)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_sealed_cannot_be_read_or_changed() {
        for encrypt in [true, false] {
            let seal = Seal::new(encrypt, 100, None).unwrap();
            for secret in [&b"the patient's name"[..], &b"again and again ".repeat(100)] {
                let sealed = seal.close(b"name", secret).unwrap();
                assert_eq!(seal.open(b"name", &sealed).as_deref(), Some(secret));
                let seen = sealed.windows(8).any(|w| secret.starts_with(w));
                assert_eq!(seen, !encrypt);
                assert!(secret.len() < 100 || sealed.len() < secret.len() / 4, "it is compressed");
                assert_eq!(seal.open(b"another", &sealed), None);
                assert_eq!(
                    Seal::new(encrypt, 100, None).unwrap().open(b"name", &sealed),
                    None,
                    "another's key"
                );
                assert_eq!(Seal::new(!encrypt, 100, None).unwrap().open(b"name", &sealed), None);
                for at in 0..sealed.len() {
                    let mut changed = sealed.clone();
                    changed[at] ^= 1;
                    assert_eq!(seal.open(b"name", &changed), None, "{at}");
                    assert_eq!(seal.open(b"name", &sealed[..at]), None, "{at}");
                }
            }
        }
    }

    #[test]
    fn who_has_the_key_can_open_it() {
        for encrypt in [true, false] {
            let seal = |key: u8| Seal::new(encrypt, 100, Some([key; KEY])).unwrap();
            let (one, two, other) = (seal(1), seal(1), seal(2));
            let sealed = one.close(b"name", b"secret").unwrap();
            assert_eq!(two.open(b"name", &sealed).as_deref(), Some(&b"secret"[..]));
            assert_eq!((two.open(b"nama", &sealed), other.open(b"name", &sealed)), (None, None));
            let name = |seal: &Seal, parts: &[&[u8]]| seal.name("result", parts);
            assert_eq!(name(&one, &[b"ab", b"c"]), name(&two, &[b"ab", b"c"]));
            for (seal, parts) in [(&other, [&b"ab"[..], b"c"]), (&one, [b"a", b"bc"])] {
                assert_ne!(name(seal, &parts), name(&one, &[b"ab", b"c"]));
            }
        }
    }

    proptest! {
        #[test]
        fn all_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..500), above in 0usize..300, encrypt: bool) {
            let seal = Seal::new(encrypt, above, None).unwrap();
            let sealed = seal.close(b"k", &bytes).unwrap();
            prop_assert_eq!(seal.open(b"k", &sealed), Some(bytes));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Seal::new(true, 0, None).unwrap().open(b"k", &bytes), None);
            let _ = stretch(&bytes);
        }
    }
}
