//! The admin database for psql, spoken with the pgwire crate.
