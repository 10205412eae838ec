//! The key of recordings, from a file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ring::hkdf::{HKDF_SHA256, Prk};

/// Bytes of a key.
const LENGTH: usize = 32;

/// See the module.
#[derive(Clone)]
pub struct Key([u8; LENGTH]);

impl std::fmt::Debug for Key {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// From its bytes.
    pub fn new(bytes: [u8; LENGTH]) -> Key {
        Key(bytes)
    }

    /// From a file: 64 hexadecimal digits, or 32 bytes.
    ///
    /// # Errors
    /// Why there is no key in it, or who may read it that should not.
    pub fn read(path: &Path) -> Result<Key, String> {
        let shown = path.display();
        let cannot = |e: std::io::Error| format!("cannot read the key file {shown}: {e}");
        let file = File::open(path).map_err(cannot)?;
        let mode = file.metadata().map_err(cannot)?.permissions().mode();
        if mode & 0o006 != 0 {
            return Err(format!("the key file {shown} is open to every user of this machine: chmod o-rw"));
        }
        let mut bytes = Vec::new();
        file.take(4 * LENGTH as u64).read_to_end(&mut bytes).map_err(cannot)?;
        Key::parse(&bytes).ok_or_else(|| {
            format!("the key file {shown} has no key in it: 64 hexadecimal digits (openssl rand -hex 32), or 32 bytes")
        })
    }

    fn parse(bytes: &[u8]) -> Option<Key> {
        if let Ok(raw) = <[u8; LENGTH]>::try_from(bytes) {
            return Some(Key(raw));
        }
        let mut key = [0; LENGTH];
        hex::decode_to_slice(bytes.trim_ascii(), &mut key).ok()?;
        Some(Key(key))
    }

    /// What keys of files are made from.
    pub(super) fn extract(&self, salt: &[u8]) -> Prk {
        ring::hkdf::Salt::new(HKDF_SHA256, salt).extract(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_key() {
        let hex = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
        for (text, is_key) in [
            (hex.as_bytes().to_vec(), true),
            (format!("{hex}\n").into_bytes(), true),
            (vec![0xff; 32], true),
            (hex.as_bytes()[1..].to_vec(), false),
            (vec![1; 31], false),
            (Vec::new(), false),
        ] {
            assert_eq!(Key::parse(&text).is_some(), is_key, "{text:?}");
        }
        assert_eq!(format!("{:?}", Key::new([7; 32])), "Key(..)");
    }
}
