//! The file as it is.
