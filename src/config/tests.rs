//! Configurations in, problems out.
