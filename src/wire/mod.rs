//! The protocol: bytes to frames, startup, authentication exchanges and authored replies. No I/O but in `stream`.
