//! What Turnpike itself understands of a statement. The only file that knows both sides.

use turnpike::sql::class;
use turnpike::sql::facts::{Effect, Name};
use turnpike::sql::shape::Shape;

use crate::truth;

/// Turnpike's reading of a text. Names are written as [`crate::truth::name`] writes them.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    /// How many statements the text holds.
    pub statements: usize,
    /// Whether any of them writes, or is anything but a query: no standby gets it.
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

fn written(name: &Name) -> String {
    truth::name(name.schema.iter().map(|s| &**s).chain([&*name.name]))
}

/// Turnpike's reading of `sql`; none where it does not even look.
pub fn ours(sql: &[u8]) -> Option<Ours> {
    let mut shape = Shape::default();
    shape.read(sql, true);
    let mut ours = Ours { statements: shape.statements.len(), understood: true, ..Ours::default() };
    for facts in class::facts(sql, &shape) {
        ours.understood &= facts.gap.is_none() && facts.effect != Effect::Unknown;
        ours.writes |= facts.effect != Effect::Read;
        ours.locks |= facts.locks || facts.effect != Effect::Read;
        ours.functions.extend(facts.calls.iter().map(|call| written(&call.name)));
        let read = facts.relations.iter().filter(|r| r.read);
        ours.relations_read.extend(read.map(|r| written(&r.name)));
        let changed = facts.relations.iter().filter(|r| r.written);
        ours.relations_written.extend(changed.map(|r| written(&r.name)));
    }
    Some(ours)
}
