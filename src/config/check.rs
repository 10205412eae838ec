//! The file as it should be.
