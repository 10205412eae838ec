//! One task per client: from its first byte to its last.
//!
//! Reading order: [`listen`], [`handshake`] (with [`login`] and [`gate`]), [`run`], then one batch: [`requests`] (client to server)
//! and [`answers`] (server to client) over two [`pump`]s, checked by [`expect`]; most batches take a [`short`] way past both.
//! On a cluster, [`aim`] chooses the server, by what [`course`] knows. What need not be asked of any, [`cached`] answers, and
//! [`collected`] keeps what is.

pub mod adopt;
pub mod again;
pub mod ahead;
pub mod aim;
pub mod analyzed;
pub mod answers;
pub mod batch;
mod batched;
pub mod bound;
mod cached;
pub mod caching;
pub mod choosing;
mod collected;
pub mod course;
pub mod destination;
pub mod doubts;
pub mod entry;
pub mod expect;
pub mod explained;
pub mod gate;
pub mod hand;
pub mod handshake;
pub mod inquiry;
mod kept;
mod keyed;
pub mod listen;
pub mod listening;
pub mod loan;
pub mod login;
pub mod names;
mod opening;
pub mod past;
pub mod peers;
pub mod planned;
pub mod prepared;
pub mod pump;
mod reading;
pub mod reload;
pub mod replication;
pub mod requests;
pub mod run;
pub mod said;
pub mod shadow;
pub mod shared;
mod sharing;
mod short;
mod single;
pub mod tenancy;
mod undo;
pub mod warming;
pub mod warmth;
pub mod watch;
pub mod way;
mod within;
mod wording;
pub mod written;
