//! Plans of large texts: made on another thread while the request that needs one waits, since the other clients of the
//! worker would wait, too.

use std::sync::Arc;

use super::batch::Batch;
use super::run::Client;
use crate::core::limits::{FRAME_HEADER, MAX_KEPT_STATEMENT};
use crate::plan::store::Scope;
use crate::plan::{Held, explain};
use crate::wire::frame::Header;
use crate::wire::message::cstr;

/// Length of a text from which making its plan may take more than a millisecond, in bytes: understanding one takes
/// about 0.2 us a byte, calls and nested expressions more.
pub const LARGE: usize = 4 * 1024;
/// Length from which already looking for its plan may. Only a high-water mark above the default holds so much.
pub const HUGE: usize = 256 * 1024;

/// The plan of a large text, made before the request that needs it is taken.
#[derive(Debug)]
pub struct Ahead {
    text: Arc<[u8]>,
    made: Option<(Held, Scope)>,
}

impl Ahead {
    fn wanted(text: &[u8]) -> Option<Box<Ahead>> {
        Some(Box::new(Ahead { text: text.into(), made: None }))
    }

    /// Whether it has still to be made.
    pub fn is_wanted(&self) -> bool {
        self.made.is_none() && !self.text.is_empty()
    }

    /// What has been made, if it is of this text as the client reads it now.
    fn of(self, text: &[u8], client: &mut Client) -> Option<Held> {
        let (plan, scope) = self.made?;
        (*self.text == *text && client.is_under(scope)).then_some(plan)
    }
}

impl Client {
    /// The plan of a text, which may have been found before.
    #[inline]
    pub fn plan_or(&mut self, found: &mut Option<Held>, text: &[u8]) -> Held {
        let found = found.take().filter(|plan| self.is_current(plan));
        found.unwrap_or_else(|| self.plan(text))
    }
}

impl Batch<'_> {
    /// Whether a large request has to wait until its plan is made. One that there is is at hand for it then.
    pub fn wants_plan(&mut self, header: Header, whole: bool) -> bool {
        let Self { client, flow, .. } = self;
        if !whole {
            return false;
        }
        let body = &flow.up.window()[FRAME_HEADER..header.len];
        let text = match header.kind {
            b'Q' => body.strip_suffix(b"\0"),
            b'P' if header.len <= MAX_KEPT_STATEMENT => {
                cstr(body).and_then(|(_, rest)| cstr(rest)).map(|(text, _)| text)
            }
            _ => None,
        };
        let Some(text) = text.filter(|text| text.len() >= LARGE) else { return false };
        // Of EXPLAIN (ROUTE), what it is about has a plan that takes long.
        let explained = explain::read(text).map(|wanted| wanted.inner);
        let text = &text[explained.clone().unwrap_or(0..text.len())];
        let plan = match flow.hand.ahead.take() {
            // Once is enough: should it be of no use, the request makes its plan itself.
            Some(made) => made.of(text, client),
            None => {
                let plan = if text.len() < HUGE { client.find_plan(text) } else { None };
                if plan.is_none() {
                    flow.hand.ahead = Ahead::wanted(text);
                    return true;
                }
                plan
            }
        };
        flow.hand.found = plan.filter(|_| explained.is_none());
        false
    }

    /// What is decided now about a text that was prepared earlier. `None` where that has to be waited for.
    pub fn replan(&mut self, text: &[u8]) -> Option<Held> {
        let (client, ahead) = (&mut *self.client, &mut self.flow.hand.ahead);
        if text.len() < LARGE {
            return Some(client.plan(text));
        }
        if let Some(made) = ahead.take() {
            return Some(made.of(text, client).unwrap_or_else(|| client.plan(text)));
        }
        let found = client.find_plan(text);
        if found.is_none() {
            *ahead = Ahead::wanted(text);
        }
        found
    }

    /// Waits until the plan that is wanted has been made.
    pub async fn await_plan(&mut self) {
        let Some(ahead) = &mut self.flow.hand.ahead else { return };
        // Boxed, since it is rare. Where it fails, the request makes the plan itself.
        let made = Box::pin(self.client.plan_aside(ahead.text.clone())).await;
        match made {
            Some(made) => ahead.made = Some(made),
            None => ahead.text = Arc::default(),
        }
    }
}
