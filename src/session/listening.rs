//! A client's LISTEN: its channels are listened to by the database's hub, so that it needs no server connection of
//! its own; what comes is given to it between its transactions, as Postgres does.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::batch::{Batch, Next};
use super::expect::{Expect, Ours};
use super::run::{Client, End};
use crate::core::limits::FRAME_HEADER;
use crate::plan::Held;
use crate::pool::hub::{Channel, Hub, Mailbox, quoted};
use crate::sql::effect::Traces;
use crate::sql::listen::{Listen, STANDS_FOR};
use crate::wire::frame::Header;
use crate::wire::message::{TxStatus, cstr};
use crate::wire::reply;

/// What a client listens to.
#[derive(Debug)]
pub struct Listening {
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
    /// Channels that the hub puts into the mailbox.
    subscribed: HashSet<Channel>,
    /// Channels that the session listens to.
    active: HashSet<Channel>,
    /// What the open transaction will do to them if it commits.
    pending: Vec<Listen>,
    /// The portal that stands for a LISTEN of the extended protocol.
    portal: Option<(Box<[u8]>, Listen)>,
    /// A channel that the hub could not listen to: the session's own server connection does.
    refused: Option<Channel>,
    rolled_back: bool,
    /// The client has notified since it was last told that it is ready.
    notified: bool,
}

impl Listening {
    fn new(hub: Arc<Hub>) -> Listening {
        Listening {
            hub,
            mailbox: Arc::default(),
            subscribed: HashSet::new(),
            active: HashSet::new(),
            pending: Vec::new(),
            portal: None,
            refused: None,
            rolled_back: false,
            notified: false,
        }
    }

    fn apply(&mut self, listen: Listen) {
        match listen {
            Listen::To(channel) => drop(self.active.insert(channel)),
            Listen::NoMoreTo(channel) => self.end(&channel),
            Listen::ToNothing => self.clear(),
        }
    }

    fn end(&mut self, channel: &[u8]) {
        self.active.remove(channel);
        if self.subscribed.remove(channel) {
            self.hub.unsubscribe(channel, &self.mailbox);
        }
    }

    /// Listens to nothing any more.
    pub fn clear(&mut self) {
        self.active.clear();
        for channel in self.subscribed.drain() {
            self.hub.unsubscribe(&channel, &self.mailbox);
        }
    }

    /// The transaction is over: what it did to channels is done, or undone.
    fn settle(&mut self, committed: bool) {
        for listen in std::mem::take(&mut self.pending) {
            if committed {
                self.apply(listen);
            } else if let Listen::To(channel) = listen
                && !self.active.contains(&channel)
            {
                self.end(&channel);
            }
        }
    }

    /// A request is about to be sent that may commit: what came before it is not for the channels that it begins to
    /// listen to.
    fn mark(&self) {
        let begun: Vec<Channel> = self
            .pending
            .iter()
            .filter_map(|listen| match listen {
                Listen::To(channel) if !self.active.contains(channel) => Some(channel.clone()),
                _ => None,
            })
            .collect();
        if !begun.is_empty() {
            self.mailbox.forget(&begun);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Client {
    /// Whether something has come for it; otherwise the task of `cx` is woken when it does.
    pub fn poll_mail(&self, cx: &Context<'_>) -> bool {
        self.listening.as_ref().is_some_and(|l| l.mailbox.poll(cx))
    }

    fn listening(&mut self) -> &mut Listening {
        self.listening.get_or_insert_with(|| Box::new(Listening::new(self.shared.pools.hub(&self.pool))))
    }

    /// What a text says to listen to, if the hub can do that for the session: in its own words, since a notification
    /// is sent in the encoding of whoever listens.
    fn shared_listen(&self, text: &[u8]) -> Option<Listen> {
        let listen = Listen::parse(text)?;
        let own = |name: &str| self.settings.get(name).or_else(|| self.wish.class.get(name));
        let refused =
            |channel: &Channel| self.listening.as_ref().is_some_and(|l| l.refused.as_ref() == Some(channel));
        let shared = !self.pins.contains(Traces::SESSION)
            && !self.pins.contains(Traces::LISTEN)
            && self.told() != TxStatus::Failed
            && own("client_encoding").is_none()
            // What is begun after a savepoint may end with it: the server knows.
            && !matches!(&listen, Listen::To(channel) if refused(channel) || self.savepoints);
        shared.then_some(listen)
    }
}

/// Longest time that ReadyForQuery is held for what a client has told itself.
const HEARING: Duration = Duration::from_millis(250);

impl Client {
    /// Notes that a statement notifies.
    pub fn notifies(&mut self) {
        if let Some(listening) = &mut self.listening {
            listening.notified = true;
        }
    }

    /// Whether it will hear itself: Postgres delivers that before ReadyForQuery.
    pub fn hears_itself(&self) -> bool {
        self.listening.as_ref().is_some_and(|l| l.notified && !l.active.is_empty())
    }

    /// The channel by which it is told that all before has come.
    fn echo(&self) -> Channel {
        format!("__turnpike_{}", self.entry.id).into_bytes().into()
    }
}

impl Batch<'_> {
    /// Has the server send something after what the client has told itself, and waits until it is here.
    pub async fn hear_oneself(&mut self) -> Result<(), End> {
        let channel = self.client.echo();
        let Some(listening) = &mut self.client.listening else { return Ok(()) };
        listening.notified = false;
        let (hub, mailbox) = (listening.hub.clone(), listening.mailbox.clone());
        if !listening.subscribed.contains(&channel) {
            if hub.subscribe(&channel, &mailbox).await.is_err() {
                return Ok(());
            }
            listening.subscribed.insert(channel.clone());
        }
        let name = String::from_utf8_lossy(&channel);
        reply::query(self.flow.up.insert(), &format!("NOTIFY \"{name}\""));
        self.flow.expected.push(Expect::OurQuery(Ours::Echo));
        self.server()?.unnamed = None;
        let heard = poll_fn(|cx| {
            if let Some(server) = &mut self.client.lease
                && self.flow.up.poll_write(cx, &mut server.stream).is_ready()
                && mailbox.poll_for(&channel, cx)
            {
                return Poll::Ready(());
            }
            Poll::Pending
        });
        // Late is better than never.
        let _ = tokio::time::timeout(HEARING, heard).await;
        Ok(())
    }

    /// What the client has been told, before it is told that it is ready.
    pub fn deliver_before_ready(&mut self) -> Result<(), End> {
        if let Some(listening) = &self.client.listening {
            let active = &listening.active;
            listening.mailbox.take(|channel| active.contains(channel), self.flow.down.insert())?;
        }
        Ok(())
    }

    /// A session that asks what it listens to does so by itself from now on.
    pub fn listen_by_itself(&mut self) -> Result<(), End> {
        let Some(listening) = self.client.listening.take() else { return Ok(()) };
        if listening.active.is_empty() {
            return Ok(());
        }
        let mut sql = Vec::new();
        for channel in &listening.active {
            sql.extend_from_slice(b"LISTEN ");
            sql.extend_from_slice(&quoted(channel));
            sql.push(b';');
        }
        reply::query_bytes(self.flow.up.insert(), &sql);
        self.flow.expected.push(Expect::OurQuery(Ours::Echo));
        self.server()?.unnamed = None;
        self.client.pins.add(Traces::LISTEN);
        Ok(())
    }

    /// Whether a request may be LISTEN or UNLISTEN: most are told by their first letter.
    #[inline]
    pub fn says_listen(&self, header: Header, whole: bool) -> bool {
        whole && matches!(header.kind, b'Q' | b'P') && self.listen_in(header, whole).is_some()
    }

    /// A channel that a request wants listened to and nobody listens to yet.
    pub fn wants_subscription(&self, header: Header, whole: bool) -> Option<Next> {
        let listen = self.listen_in(header, whole)?;
        let Listen::To(channel) = listen else { return None };
        let known = self.client.listening.as_ref().is_some_and(|l| l.subscribed.contains(&channel));
        (!known).then_some(Next::Subscribe(channel))
    }

    fn listen_in(&self, header: Header, whole: bool) -> Option<Listen> {
        if !whole || !matches!(header.kind, b'Q' | b'P') {
            return None;
        }
        let body = &self.flow.up.window()[FRAME_HEADER..header.len];
        let text = if header.kind == b'P' { cstr(body)?.1 } else { body };
        // This is on the way of every statement, and most are told by their first letter.
        if !matches!(
            text.first().map(|b| b | 0x20),
            Some(b'l' | b'u' | b'/' | b'-' | b' ' | b'\t' | b'\n' | b'*')
        ) {
            return None;
        }
        self.client.shared_listen(cstr(text)?.0)
    }

    /// Has the hub listen.
    pub async fn subscribe(&mut self, channel: Channel) {
        let listening = self.client.listening();
        let (hub, mailbox) = (listening.hub.clone(), listening.mailbox.clone());
        match hub.subscribe(&channel, &mailbox).await {
            Ok(()) => drop(self.client.listening().subscribed.insert(channel)),
            Err(e) => {
                tracing::warn!(error = %e, "a client listens on a server connection of its own");
                self.client.listening().refused = Some(channel);
            }
        }
    }

    /// Answers LISTEN or UNLISTEN of the simple protocol. False when it is something else.
    pub fn take_listen(&mut self, header: Header, whole: bool) -> bool {
        if header.kind != b'Q' {
            return false;
        }
        let Some(listen) = self.listen_in(header, whole) else { return false };
        self.flow.up.omit_frame(header.len);
        self.client.names.unnamed = None;
        self.client.pool.traffic.work.own().queries.add(1);
        let told = self.client.told();
        let idle = told == TxStatus::Idle;
        reply::command_complete(self.flow.down.insert(), listen.tag());
        reply::ready(self.flow.down.insert(), told);
        let listening = self.client.listening();
        if idle {
            listening.apply(listen)
        } else {
            listening.pending.push(listen)
        }
        true
    }

    /// The body of Parse, after the name, that stands for a LISTEN of the extended protocol.
    pub fn listen_stand_in(&self, header: Header, whole: bool) -> Option<Vec<u8>> {
        let mut body = self.listen_in(header, whole)?.stand_in();
        body.extend_from_slice(&[0, 0, 0]);
        Some(body)
    }

    /// Remembers that a portal stands for LISTEN, if the statement that it is bound to does.
    pub fn bind_listen(&mut self, portal: &[u8], body: Option<&[u8]>) {
        let Some(body) = body.filter(|body| body.starts_with(STANDS_FOR)) else { return };
        if let Some(listen) = cstr(body).and_then(|(text, _)| Listen::stood_for(text)) {
            self.client.listening().portal = Some((portal.into(), listen));
        }
    }

    /// What executing this portal answers.
    pub fn executed(&mut self, portal: &[u8], plan: Option<Held>, most: u32) -> Expect {
        match &self.client.listening {
            Some(l) => match &l.portal {
                Some((name, listen)) if **name == *portal => Expect::Listen(Box::new(listen.clone())),
                _ => Expect::Execute(plan, most),
            },
            None => Expect::Execute(plan, most),
        }
    }

    /// The statement that stood for LISTEN has been carried out.
    pub fn listened(&mut self, listen: Listen, len: usize) {
        self.flow.down.omit_frame(len);
        reply::command_complete(self.flow.down.insert(), listen.tag());
        self.client.listening().pending.push(listen);
    }

    /// See [`Listening::mark`].
    pub fn mark_listening(&self) {
        if let Some(listening) = &self.client.listening {
            listening.mark();
        }
    }

    /// Notes that something was undone: a transaction, or what an error has aborted.
    pub fn note_rollback(&mut self) {
        if let Some(doubts) = &mut self.client.doubts {
            doubts.failed = true;
        }
        if let Some(listening) = &mut self.client.listening {
            listening.rolled_back = true;
        }
    }

    /// Notes that the client has been told that it is ready.
    pub fn settle_listening(&mut self) {
        let idle = self.client.is_idle();
        if let Some(listening) = &mut self.client.listening {
            let rolled_back = std::mem::take(&mut listening.rolled_back);
            if idle {
                listening.settle(!rolled_back);
            }
        }
    }

    /// Gives the client what has come for it, if it is between transactions.
    pub fn deliver(&mut self) -> Result<(), End> {
        let Some(listening) = &self.client.listening else { return Ok(()) };
        let between = self.client.is_idle()
            && self.flow.expected.is_empty()
            && self.flow.down.streaming() == 0
            && !self.flow.down.is_full();
        if between {
            let active = &listening.active;
            listening.mailbox.take(|channel| active.contains(channel), self.flow.down.insert())?;
        }
        Ok(())
    }
}
