//! Hashes of normal forms: one for people, one for looking them up.

use siphasher::sip128::SipHasher13;

/// The 128-bit fingerprint of a normal form (SipHash-1-3 with a fixed key): the same in every process, for people,
/// rules and dashboards. Whatever security rides on compares the normal form itself.
pub fn fingerprint(normal: &[u8]) -> u128 {
    hash(normal, (0, 0))
}

/// A hash of a normal form under a secret key, for looking it up: nobody can choose statements that collide.
#[inline]
pub fn hash(normal: &[u8], key: (u64, u64)) -> u128 {
    SipHasher13::new_with_keys(key.0, key.1).hash(normal).as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_do_not_change() {
        // Rules and dashboards name them.
        assert_eq!(format!("{:032x}", fingerprint(b"select ?i ; ")), FINGERPRINT);
    }

    const FINGERPRINT: &str = "9f14918357b2c1090968ca845440ad9b";
}
