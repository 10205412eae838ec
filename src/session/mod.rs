//! One task per client: from its first byte to its last.

pub mod shared;
