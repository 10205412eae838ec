//! Maps whose keys are hashes already: the low half of one is as good a hash as any.

use std::hash::{BuildHasher, Hasher};

/// Builds hashers that take a key as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hashed;

impl BuildHasher for Hashed {
    type Hasher = Low;
    fn build_hasher(&self) -> Low {
        Low(0)
    }
}

/// The low half of a hash, as a hash.
#[derive(Debug)]
pub struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for (i, byte) in bytes.iter().take(8).enumerate() {
            self.0 |= u64::from(*byte) << (i * 8);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_their_own_hashes() {
        assert_eq!(Hashed.hash_one(7u64), 7);
        assert_eq!(Hashed.hash_one((9u128 << 64) + 7), 7);
        assert_eq!(Hashed.hash_one(0x0201u16), 0x0201);
    }
}
