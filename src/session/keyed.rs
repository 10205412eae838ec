//! Which row a statement is about to write, where its plan says that it writes one and no more ([`crate::plan::row`]): what
//! was read from others stays good. Where the values do not say it for certain, it counts for its table.

use super::ahead::LARGE;
use super::batch::Batch;
use crate::cache::key::{Form, Parts};
use crate::cache::rows::RowKey;
use crate::core::limits::FRAME_HEADER;
use crate::fence::versions::Row;
use crate::plan::Held;
use crate::wire::message::cstr;

impl Batch<'_> {
    /// The row that a Bind of this many bytes is for, of a statement with that plan.
    #[inline]
    pub(super) fn row_bound(&self, len: usize, plan: Option<&Held>) -> Option<Row> {
        self.row_in_bind(len, self.keyed(plan)?)
    }

    /// The row that a simple Query is for.
    #[inline]
    pub(super) fn row_asked(&self, len: usize, plan: Option<&Held>) -> Option<Row> {
        self.row_in_query(len, self.keyed(plan)?)
    }

    #[inline]
    fn keyed<'p>(&self, plan: Option<&'p Held>) -> Option<&'p RowKey> {
        plan?.touches.row.as_deref().filter(|_| self.client.caching.is_some())
    }

    fn row_in_bind(&self, len: usize, key: &RowKey) -> Option<Row> {
        let body = self.flow.up.window().get(FRAME_HEADER..len).filter(|body| body.len() < LARGE)?;
        let (_, rest) = cstr(body)?;
        let (name, bind) = cstr(rest)?;
        let statement = self.client.names.body(name).filter(|statement| statement.len() < LARGE)?;
        key.row_in(&Parts { form: Form::Extended, context: 0, statement, bind: Some(bind) })
    }

    fn row_in_query(&self, len: usize, key: &RowKey) -> Option<Row> {
        let body = self.flow.up.window().get(FRAME_HEADER..len).filter(|body| body.len() < LARGE)?;
        let statement = body.strip_suffix(b"\0")?;
        key.row_in(&Parts { form: Form::Simple, context: 0, statement, bind: None })
    }
}
