//! The key of recordings, from a file.

use std::path::Path;

use ring::hkdf::{HKDF_SHA256, Prk};

use crate::core::keyfile::{self, KEY};

/// See the module.
#[derive(Clone)]
pub struct Key([u8; KEY]);

impl std::fmt::Debug for Key {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// From its bytes.
    pub fn new(bytes: [u8; KEY]) -> Key {
        Key(bytes)
    }

    /// From a file: 64 hexadecimal digits, or 32 bytes.
    ///
    /// # Errors
    /// Why there is no key in it, or who may read it that should not.
    pub fn read(path: &Path) -> Result<Key, String> {
        keyfile::key(path).map(Key)
    }

    /// What keys of files are made from.
    pub(super) fn extract(&self, salt: &[u8]) -> Prk {
        ring::hkdf::Salt::new(HKDF_SHA256, salt).extract(&self.0)
    }
}
