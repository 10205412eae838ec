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
//!   everything, but for what the configuration says of functions, which is taken at its word. Whoever may change definitions (DDL, DO, CALL, COMMIT PREPARED, functions that may do DDL) outdates
//!   everything, has the catalog read anew, and nothing is kept or given until all writes have ended that were begun
//!   under other definitions. A plan whose catalog is not the one of now when its write begins counts for everything.
//! - PREPARE TRANSACTION ends its marks though nothing is visible yet: what is read then is what is there. COMMIT PREPARED
//!   counts for everything, whoever sends it. ROLLBACK, also TO SAVEPOINT, ends marks like COMMIT: what was not written
//!   is only read again.
//! - Of what reads one row by its primary key, and nothing else ([`rows`]), all of that holds for the row in the place of
//!   its table. A write marks that row alone only where it is proven, when its plan is made, that it changes no other and
//!   leaves the key ([`crate::plan::row`]), and where the values, which come later, say for certain which it is; otherwise it
//!   marks the table, which is every row of it. What reads more of a table than one row is outdated by both. A key is written
//!   in one way only, whoever has written it down, and texts that may be equal without being the same are no keys.
//! - Large objects are written by functions that count for everything, and results that read them are never kept.
//! - After a change of the primary nothing that was kept before is given: it may know of writes that are lost.
//! - What a process before this one has sent when it was killed is carried out all the same, and no mark tells of it. Nothing is
//!   given or kept until it is done ([`past`]), where nobody else tells of such writes.
//! - Another database of the same server that writes to this one over a foreign server is a writer elsewhere.
//!
//! - Within a transaction (`session::within`), also one that is implied by several statements before one Sync, the same is
//!   true as long as it is READ COMMITTED and has done nothing but reading: a server would take a new snapshot for the next
//!   statement, and nothing of the transaction's own is in it. Each statement is looked for by itself when all that was
//!   asked before it has been answered, so that it is not older than what those have seen, and is skipped if one of them
//!   fails. What is read there is kept on the same two looks at the stamp as anything else.
//! - What was kept outside of the process ([`remote`]) comes back with the stamp that it was kept with, under a name and a key
//!   that are this process' own; it is given on the same condition as if it had never left. What other processes have
//!   kept is another matter, see below.
//!
//! - Flushes are counted, and a result carries the count of its shape and of all: what was read before a flush is not
//!   given after it, whether it was kept here or elsewhere, or was still on its way. A flush of a table moves its version.
//! - What is read again before anybody asks ([`crate::session::warming`]) is asked for by a session like any other, which
//!   has the context that the result was kept for and keeps what comes on the terms above. It only does not take
//!   what is there; that is given to others for as long as it holds.
//! - Which shapes are kept where that is left to be found out ([`benefit`]) has no part in this: a shape that is not chosen
//!   is not looked for, and one that is, is kept on the terms above.
//!
//! # Writers elsewhere
//!
//! What is written past this process is not seen. Where that may be, `mode = "bounded"` bounds the age of what is given
//! by the time to live, counted from before it was asked for. `exact` is refused by the configuration's check, unless
//! somebody tells of those writes ([`outside`]): then all of the above holds for what is written here, and what is given
//! at T lacks nothing that was written elsewhere and visible to anybody before T less the bound.
//!
//! The server's WAL tells ([`crate::elsewhere`]): commits come in the order of their records. Three things are
//! kept apart that are easily taken for one: when the record of a commit is in the WAL (and is streamed, once it is on
//! disk), when it is visible to those who begin to read, which is later (a commit may wait for a synchronous replica in
//! between, for as long as that takes), and when we have heard of it.
//!
//! A result is kept with a second stamp, of the versions that the stream moves. It was taken when these tables had no
//! mark of the stream's, and must be the same when the answer is complete and whenever it is given. A commit W that has
//! come marks its tables (of a partition, those above it as well) until a snapshot of the server shows W; then they move.
//! Let a result lack W. If W came after the stamp was taken, the stamp is another from then on. If it came before, it had
//! no mark any more when the stamp was taken, so a snapshot had shown W by then; every snapshot of the primary that is
//! made later shows it, too, and one was made for this result: it does not lack W. So **a result that lacks W is given
//! until W comes, and never after**. A replica's answer is kept only if it has replayed what the primary had written after
//! the last time that such a mark ended.
//!
//! When W has come is shown by questions, asked some times within each bound. One that is sent at Q is answered with an
//! end of the WAL (`pg_current_wal_insert_lsn()`: not the flushed one, since with `synchronous_commit = off` a commit is
//! visible before it is on disk; where the two differ, a commit of our own takes the rest there). Whatever was visible at
//! Q has its record before that end. When the stream has come that far, all of it has come, and until Q plus the bound
//! results are given and kept; not a moment longer, unless another question shows more. The answer also says that the
//! slot is in use by the very connection that streams, so that both speak of one server on one timeline.
//!
//! Of what reads one row by its primary key ([`rows`]), all of that holds for the row in the place of its table: the stream
//! tells the keys of rows that are inserted and deleted, and of those that are updated the new one, and the old one where
//! it is another. What it does not tell so well, or too much at once, counts for every row. What is a key is listed with what
//! is watched, and must be what the plan has taken for it; a value that could be written in another way is no row's.
//!
//! What the stream does not tell must not matter:
//! - Before it begins, and after it was lost, everything is marked. It begins at the end of the WAL; what commits from
//!   there on is told. Transactions that ran then may have records before it, or have written before the publication
//!   was what it is: marks of everything stay until every transaction has ended that had a number by then
//!   (`pg_current_xact_id()`; the end of a snapshot does not do, as numbers beyond it may be running), and until it has
//!   been listed after that which tables are published. Then everything moves.
//! - Definitions are told by event triggers, in messages of the transaction that changed them; roles, which have none, by a
//!   hash of their catalogs in each answer. Either begins the same anew: what a table's partitions are, what is published,
//!   and what a statement means, is read after every transaction has ended that may have known otherwise. The catalog that
//!   plans are made by must have been read later than that.
//! - Event triggers themselves, and the publication, have numbers that each answer has; others than those that were there at
//!   the beginning end the stream.
//! - A table that is not published (unlogged, foreign, without what an UPDATE is replicated by), or a part of which is
//!   not, has no stamp: what is read from it is not kept. Definitions that change that move everything.
//! - What a crash of the server loses although it was visible is read again: the stream is lost with it.
//! - Writes through this process come by the stream once more, and outdate what has been kept in between. That costs
//!   hits, not truth.
//!
//! A model of all this, with commits, snapshots and questions in any order, is in the tests of [`outside`].
//!
//! # What other processes have read
//!
//! Processes that have a key in common ([`remote`]) and follow the same WAL give what others have read, where it would be
//! `exact` if they had read it themselves. Such a result says of itself: it is of these tables, and lacks no commit of
//! theirs that ends at S or before. That is so since S was how far the stream of the reader had come *before* it took its
//! stamps: what had come by then had been seen in a snapshot, or there would have been a mark and no stamp. The sentence
//! is true for ever, so it does not matter what Redis keeps, loses or brings back. It is kept only when all that was
//! visible when it was complete has come by the stream: then that is on the server's disk, and no crash takes it back.
//!
//! Whoever finds it takes stamps of its own, as for a result that it would read now, and then asks ([`outside::past`]):
//! - Has its own stream told all since S? It keeps, for every table, the end of the last commit that it was told of, and
//!   the position since when it was told everything. Definitions move that position to their own end: what tables are
//!   was another thing before.
//! - Is there a commit after S that touches these tables, or those that are parts of them? Then it is of no use. Which
//!   parts they have was listed before a question all of which has come: what changed that has come as well.
//! - Have all writes to these tables through this process ended before such a question? Then they have come, and have an
//!   end that is compared with S, though nobody is told the position of a commit that he has sent.
//!
//! If all of that holds, the result lacks nothing that has come, or that was written here. What comes, or is written, later
//! moves the stamps. So it is as if it had been read here when the stamps were taken, and all of the above holds for it.
//!
//! - The name that it has in Redis is a keyed hash of all that it must have in common with what is asked for: the epoch,
//!   the tables by their oids, all that its bytes depend on, written out (numbers of a process' own mean nothing to
//!   others; what servers have as defaults is a part of it), and the last flush. The epoch is the system's identifier, the
//!   timeline, when the server was started, the database's oid, the roles, and the event triggers with what tells whether
//!   they have been another's or disabled in between. So after a failover, a restart, or a copy of the server that was
//!   put in its place, nothing is found. Whoever keeps a result looks at the epoch before it sees that its stamps hold:
//!   a change of the epoch marks everything first.
//! - A result is authenticated together with its name under the common key, and compared with its key byte by byte.
//! - What is known of the past of the WAL is told as well, as stretches of it. One that ends where another begins, or
//!   later, makes one of both, so that a process which begins to follow knows what others know. The slot is told no
//!   position before that has been told others: who comes again begins where he has told of all, and knows the rest.
//! - What is flushed in one process is given in that one no more, and in others not when they have heard of it, a second
//!   later.
//!
//! What several processes tell each other of writes at once, [`strict`] has.

pub mod answer;
pub mod benefit;
pub mod key;
pub mod l1;
mod link;
pub mod outside;
pub mod past;
pub mod policy;
pub mod remote;
pub mod rows;
pub mod strict;
pub mod watched;

pub use l1::{Cache, Entry};
