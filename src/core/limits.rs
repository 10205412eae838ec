//! Every fixed bound in one place, asserted against each other at compile time. Bounds that an operator may
//! change live in the configuration and are checked against these.

/// Bytes of a frame's header: type and length (protocol 3.0, "Messages").
pub const FRAME_HEADER: usize = 5;
/// Largest startup packet, as Postgres bounds it (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP_PACKET: usize = 10_000;
/// Largest message of an authentication exchange, as Postgres bounds it (`PG_MAX_AUTH_TOKEN_LENGTH`).
pub const MAX_AUTH_MESSAGE: usize = 65_535;
/// Largest message that PostgreSQL accepts from a client (`PQ_LARGE_MESSAGE_LIMIT`, MaxAllocSize - 1).
pub const MAX_MESSAGE: usize = 0x3fff_fffe;
/// Default bytes buffered per direction and client before reading stops.
pub const HIGH_WATER: usize = 64 * 1024;
/// Smallest high-water mark that may be configured.
pub const MIN_HIGH_WATER: usize = 8 * 1024;
/// Largest message that is held whole because its body must be read: errors, notices, parameter reports,
/// row descriptions are not among them.
pub const MAX_DECODED: usize = HIGH_WATER;
/// Largest statement text kept so that it can be prepared again elsewhere; longer ones pin the session.
pub const MAX_KEPT_STATEMENT: usize = 32 * 1024;
/// Responses a server may owe before its client is read no further. A server with more than
/// this many answers of five bytes or more has filled its 8 KiB output buffer, so it makes progress.
pub const MAX_EXPECTED: usize = 16 * 1024;
/// Longest cancel key of protocol 3.2 ("BackendKeyData").
pub const MAX_CANCEL_KEY: usize = 256;
/// Bytes of the cancel key that Turnpike gives to clients of protocol 3.2.
pub const CANCEL_KEY: usize = 32;
/// Highest iteration count accepted from a SCRAM peer: a larger one is an attack on our processor.
pub const MAX_SCRAM_ITERATIONS: u32 = 1_000_000;
/// Startup settings of a client (names and values together), in bytes.
pub const MAX_SETTINGS: usize = MAX_STARTUP_PACKET;
/// Longest text of a function, view or rule that a catalog keeps, in bytes; longer ones count as unknown.
pub const MAX_KEPT_CODE: usize = 64 * 1024;
/// Most pairs of a role and a schema that a catalog asks about; beyond that, who may use a schema is unknown.
pub const MAX_SCHEMA_USES: usize = 200_000;
/// Longest path of a Unix socket that is first made beside its place under a longer name (`sun_path` holds 107 bytes
/// and a zero; a process id and a dot take 11).
pub const MAX_SOCKET_PATH: usize = 96;
/// Most listening sockets handed to a successor: what the kernel passes in one message (`SCM_MAX_FD`).
pub const MAX_PASSED: usize = 253;
/// Cancel requests under way between two processes, per direction; more are dropped.
pub const MAX_PASSED_CANCELS: usize = 64;
/// Most `[[route]]` rules: which of them match is one word of bits.
pub const MAX_RULES: usize = u64::BITS as usize;
/// Most shapes of statements with metrics of their own; the others share one more.
pub const MAX_SHAPE_SERIES: usize = 40;
/// Most tenants that are told apart; those beyond share one more.
pub const MAX_TENANTS: usize = 1 << 16;
/// Most tenants with metrics of their own; the others share one more.
pub const MAX_TENANT_SERIES: usize = 50;
/// Longest value of a label of a custom metric, in bytes; longer ones are cut.
pub const MAX_LABEL: usize = 256;
/// Most backends of one cluster: choosing among them allocates nothing.
pub const MAX_MEMBERS: usize = 32;

/// Most mirrors, so that which of them want a statement is one word of bits.
pub const MAX_MIRRORS: usize = 16;
/// Shapes that a mirror keeps apart; the others are counted together.
pub const MAX_MIRRORED_SHAPES: usize = 1000;
/// Largest part of a session's traffic, up to one answer, that is mirrored, in bytes.
pub const MAX_MIRRORED: usize = 1 << 20;

const _: () = assert!(MAX_KEPT_STATEMENT <= MAX_DECODED);
const _: () = assert!(MIN_HIGH_WATER > MAX_CANCEL_KEY + FRAME_HEADER + 8);
const _: () = assert!(MAX_EXPECTED * 5 > 8 * 1024);
const _: () = assert!(MAX_MESSAGE < i32::MAX as usize);
