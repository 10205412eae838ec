//! The protocol: bytes to frames, startup, authentication exchanges and authored replies. No I/O but in [`stream`].

pub mod frame;
pub mod logical;
pub mod message;
pub mod password;
pub mod reply;
pub mod scram;
pub mod startup;
pub mod stream;
pub mod summary;
pub mod tls;
