//! What Turnpike itself understands of a statement. The only file that knows both sides: connect `turnpike::sql` here.

use turnpike as _;

/// Turnpike's reading of a text. Names are written as [`crate::truth::name`] writes them.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    /// How many statements the text holds.
    pub statements: usize,
    /// Whether any of them writes.
    pub writes: bool,
    /// Whether any of them locks rows or tables.
    pub locks: bool,
    /// Functions called.
    pub functions: Vec<String>,
    /// Relations read.
    pub relations_read: Vec<String>,
    /// Relations written, or changed in their definition.
    pub relations_written: Vec<String>,
    /// Whether all the above may be relied upon; otherwise the text goes to the primary, and nothing here counts.
    pub understood: bool,
}

/// Turnpike's reading of `sql`; none where it does not even look. Nothing is understood yet.
pub fn ours(sql: &[u8]) -> Option<Ours> {
    let _ = sql;
    None
}
