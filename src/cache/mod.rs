//! Results that are kept, and given again without asking a server. Never one that is staler than what was declared.
//!
//! Whether the results of a shape may be kept at all is proven when its plan is made ([`crate::plan::kept`]), and
//! whether somebody wants that, the `[[cache]]` rules say ([`policy`]). What a result is kept under ([`key`]) is all that
//! its bytes depend on but for the tables, and is compared byte by byte; what it was read from has a version
//! ([`crate::fence::versions`]), and [`l1`] gives it only while that is the version of now.
//!
//! # Why nothing stale is given
//!
//! Every session of this process that may write to a table marks it before the bytes that may do so are sent, and the
//! marks are on the server connection that they go to: they end when that is at ReadyForQuery outside a transaction, with
//! nothing else under way, before the client hears of it. A transaction's writes are marked for as long as it is open.
//! Where a connection is lost, nobody knows what becomes of its transaction: its marks stay until the server says that
//! the process behind it is gone ([`crate::pool::fate`]). So while a table has no mark, every write that was ever sent to
//! it has ended, and whoever reads it sees all of them.
//!
//! A result is kept with the stamp of its tables that was taken before it was asked for, if none of them had a mark then,
//! and if the stamp is the same when the answer is complete. Nothing was then sent between the two that could have
//! changed it, so that it is what was there at the first of them, whenever its snapshot was taken. It is given while
//! the stamp is still the same: nothing has been sent since. At the moment when that is looked at it is therefore what a
//! server would answer: a read that begins after a write was acknowledged never gets what was there before, and one that
//! begins after another read has seen a write gets that write as well, since from when it was sent until it was
//! acknowledged nothing is given at all.
//!
//! - A replica's answer is kept only if the replica had replayed all that was fenced for these tables when the stamp was
//!   taken; nothing has a fence later than the end of its marks.
//! - What a statement may write is what its plan says: by partitions, inheritance, foreign keys, views, rules, defaults,
//!   policies and functions; triggers, DO, CALL, TRUNCATE, unknown functions and what is not understood count for
//!   everything. Whoever may change definitions (DDL, DO, CALL, COMMIT PREPARED, functions that may do DDL) outdates
//!   everything, has the catalog read anew, and nothing is kept or given until all writes have ended that were begun
//!   under other definitions. A plan whose catalog is not the one of now when its write begins counts for everything.
//! - PREPARE TRANSACTION ends its marks though nothing is visible yet: what is read then is what is there. COMMIT PREPARED
//!   counts for everything, whoever sends it. ROLLBACK, also TO SAVEPOINT, ends marks like COMMIT: what was not written
//!   is only read again.
//! - Large objects are written by functions that count for everything, and results that read them are never kept.
//! - After a change of the primary nothing that was kept before is given: it may know of writes that are lost.
//! - Another database of the same server that writes to this one over a foreign server is a writer elsewhere.
//!
//! - What was kept outside of the process ([`remote`]) comes back with the stamp that it was kept with, under a name and a key
//!   that are this process' own; it is given on the same condition as if it had never left.
//!
//! What is written past this process is not seen. Where that may be, `mode = "bounded"` bounds the age of what is given
//! by the time to live, counted from before it was asked for, and `exact` is refused by the configuration's check.

pub mod answer;
pub mod key;
pub mod l1;
pub mod policy;
pub mod remote;

pub use l1::{Cache, Entry};
