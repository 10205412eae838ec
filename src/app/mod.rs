//! Wiring: from a checked configuration to a running process, and back.

pub mod cluster;
