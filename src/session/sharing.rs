//! Results outside of the process: looked for there when they are not in memory, and kept there when they have been read.
//! Where several processes share them they have names that mean the same to all, and are as of a position in the
//! server's WAL; otherwise names and stamps of this process' own.

use std::sync::Arc;
use std::time::Duration;

use super::batch::Batch;
use super::caching::{Asked, Caching};
use super::collected::Collecting;
use super::run::{Client, End};
use crate::cache::Entry;
use crate::cache::key::{self, Context, Form};
use crate::cache::l1::AsOf;
use crate::cache::outside::Outside;
use crate::cache::remote::{Found, Name, Remote, Ripening};
use crate::core::clock::Instant;
use crate::core::error::Severity;
use crate::plan::Held;
use crate::plan::kept::AsksSettings;
use crate::pool::settings::APPLICATION_NAME;

/// Pause before it is looked again whether another process has read what is asked for.
const AGAIN: Duration = Duration::from_millis(5);

/// Where a result is kept outside of the process.
pub(super) struct Outlet<'a> {
    remote: &'a Arc<Remote>,
    name: &'a Name,
    /// Who says which position it is as of, where others find it as well.
    outside: Option<&'a Arc<Outside>>,
    ttl: Duration,
}

impl<'a> Outlet<'a> {
    /// For what has been collected. `None` where it is not to be kept there.
    pub(super) fn of(caching: &'a Caching, collecting: &'a Collecting) -> Option<Outlet<'a>> {
        let terms = &collecting.asked.terms;
        let (remote, name) = (caching.cache.remote()?, collecting.name.as_ref()?);
        let outside = match name.epoch() {
            None => None,
            // Positions are of one time.
            Some(epoch) => {
                Some(caching.outside_of(terms.mode).filter(|o| o.epoch().as_ref() == Some(epoch))?)
            }
        };
        Some(Outlet { remote, name, outside, ttl: terms.ttl.saturating_add(terms.stale) })
    }

    /// Keeps it.
    pub(super) fn keep(self, entry: Arc<Entry>, as_of: &AsOf, born: Instant, unix_us: i64) {
        let ripening = self.outside.map(|outside| {
            let age = i64::try_from(born.elapsed().as_micros()).unwrap_or(i64::MAX);
            let (answered, outside) = (Instant::now(), outside.clone());
            Ripening { position: as_of.position, born_us: unix_us.saturating_sub(age), answered, outside }
        });
        if ripening.as_ref().is_none_or(|ripening| ripening.position > 0) {
            self.remote.keep(self.name.clone(), entry, self.ttl, ripening);
        }
    }
}

/// What there is outside of the process, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peeked {
    /// A result that may be given.
    There,
    /// One that may not, since something has been written, or may have been.
    Outdated,
    /// Something that nobody has kept.
    Broken,
    /// Nothing.
    Nothing,
}

impl Batch<'_> {
    /// What is found there is put where it is looked for; others who ask for it wait meanwhile.
    pub(super) async fn await_remote(&mut self, remote: Arc<Remote>) -> Result<(), End> {
        match self.look_outside(&remote).await {
            Err(End::Refused(e)) if e.severity == Severity::Error => self.fail_waiting(&e),
            looked => looked,
        }
    }

    /// Looks for it there, and again for a while where another process is reading it.
    async fn look_outside(&mut self, remote: &Arc<Remote>) -> Result<(), End> {
        let collecting = self.flow.hand.turn.as_ref();
        let Some(name) = collecting.and_then(|collecting| collecting.name.clone()) else { return Ok(()) };
        let mut until: Option<Instant> = None;
        loop {
            let found = self.wait_for(remote.clone().find(name.clone(), until.is_none())).await?;
            // Whoever has the turn may have had it, and left that: nothing else comes in its place.
            let broken = matches!(found, Some(Found::Broken));
            if broken || found.is_some_and(|found| self.take_in(remote, found, until.is_none())) {
                return Ok(());
            }
            match until {
                Some(until) if Instant::now() >= until => return Ok(()),
                Some(_) => {}
                None => {
                    let (Some(wait), Some(last)) = (remote.coalesces(), self.last_written()) else {
                        return Ok(());
                    };
                    if !self.wait_for(remote.clone().is_being_read(name.clone(), last)).await? {
                        return Ok(());
                    }
                    remote.stats.waited.add(1);
                    until = Some(Instant::now() + wait);
                }
            }
            self.wait_for(tokio::time::sleep(AGAIN)).await?;
        }
    }

    /// Where what is to be read was last written, where others can tell as well.
    fn last_written(&self) -> Option<u64> {
        let (collecting, caching) = (self.flow.hand.turn.as_ref()?, self.client.caching.as_ref()?);
        collecting.name.as_ref()?.epoch()?;
        Some(caching.outside_of(collecting.asked.terms.mode)?.last(collecting.plan.touches.reads.tables()))
    }

    /// Whether what was found is of use.
    fn take_in(&mut self, remote: &Remote, found: Found, counts: bool) -> bool {
        let (Some(collecting), Some(caching)) = (&self.flow.hand.turn, &self.client.caching) else {
            return false;
        };
        let Collecting { hash, key, plan, asked, name, .. } = &**collecting;
        let foreign = match found {
            Found::Own(entry) => {
                caching.cache.put_back(*hash, entry);
                return true;
            }
            Found::Foreign(foreign) => foreign,
            Found::Broken => return false,
        };
        let time = name.as_ref().and_then(|name| Some((&**name.epoch()?, name.flushes())));
        let (moment, unix_us) = (
            self.client.moment(caching, plan, asked.terms.mode, collecting.seen),
            self.client.shared.unix_micros(),
        );
        let taken = moment
            .zip(time)
            .is_some_and(|(moment, time)| caching.cache.adopt(*hash, key, foreign, time, &moment, unix_us));
        let counter = if taken { &remote.stats.hits } else { &remote.stats.outdated };
        counter.add(u64::from(taken || counts));
        taken
    }
}

impl Client {
    /// What a result is found by outside of the process. `None` where it is not to be looked for.
    pub(super) fn name_in(
        &self,
        remote: &Remote,
        (_, plan, asked): (Form, &Held, Asked),
        hash: u128,
        own: &[u8],
    ) -> Option<Name> {
        let caching = self.caching.as_ref()?;
        let flushes = caching.cache.flushes();
        let outside = caching.outside_of(asked.terms.mode).filter(|_| remote.is_shared());
        let Some(epoch) = outside.and_then(|outside| outside.epoch()) else {
            return Some(remote.own(hash, caching.cache.epoch(), own));
        };
        // From now on it is noted when writes end.
        caching.versions.ended(&[]);
        let text = self.means_the_same(own, plan.cache.asks_settings > AsksSettings::No)?;
        remote.common(flushes, epoch, text, plan.touches.reads.tables())
    }

    /// Whether it is worth looking outside of the process for what EXPLAIN (ROUTE) is about.
    pub(super) fn peeks(&mut self) -> bool {
        self.settle_caching();
        let Some(caching) = &mut self.caching else { return false };
        caching.peeked = None;
        caching.is_wanted() && caching.cache.remote().is_some_and(|remote| remote.is_there())
    }

    /// Looks there for the result of a simple Query, and leaves it where it is.
    pub(super) async fn peek(&mut self, text: &[u8]) {
        let plan = self.plan(text);
        let Some(asked) = self.asks_for(&plan).filter(|asked| asked.terms.remote) else { return };
        let Some(cache) = self.caching.as_ref().map(|caching| caching.cache.clone()) else { return };
        let Some(remote) = cache.remote() else { return };
        let mut own = Vec::new();
        key::begin(&mut own, Form::Simple, asked.context, text);
        let hash = cache.hash(&own);
        let Some(name) = self.name_in(remote, (Form::Simple, &plan, asked), hash, &own) else { return };
        let Some(found) = remote.peek(&name).await else { return };
        let Some(caching) = &self.caching else { return };
        let of_use = self.moment(caching, &plan, asked.terms.mode, None).is_some_and(|moment| match &found {
            Some(Found::Own(entry)) => cache.holds(entry.as_of(), &moment),
            Some(Found::Foreign(foreign)) => {
                let time = name.epoch().map(|epoch| (&**epoch, name.flushes()));
                time.is_some_and(|time| cache.vouches(foreign, time, &moment).is_some())
            }
            Some(Found::Broken) | None => false,
        });
        let peeked = match (found, of_use) {
            (None, _) => Peeked::Nothing,
            (Some(Found::Broken), _) => Peeked::Broken,
            (Some(_), false) => Peeked::Outdated,
            (Some(_), true) => Peeked::There,
        };
        if let Some(caching) = &mut self.caching {
            caching.peeked = Some((hash, peeked));
        }
    }

    /// A key of ours with all that it stands for in the place of the number that is its context.
    fn means_the_same(&self, own: &[u8], named: bool) -> Option<Vec<u8>> {
        let (form, rest) = own.split_first()?;
        let (_, rest) = rest.split_at_checked(size_of::<Context>())?;
        let mut text = vec![*form];
        self.whose().into_iter().for_each(|part| key::add(&mut text, part.as_bytes()));
        // What is not carried is what servers have by default.
        let defaults = self.pool.welcomes.defaults()?;
        let counts = |name: &str| !matches!(name, "in_hot_standby" | APPLICATION_NAME);
        for (name, value) in defaults.iter().filter(|(name, _)| counts(name)) {
            [name, value].into_iter().for_each(|part| key::add(&mut text, part.as_bytes()));
        }
        key::add(&mut text, b"");
        if named {
            self.by_name().into_iter().for_each(|part| key::add(&mut text, part.as_bytes()));
        }
        key::add(&mut text, rest);
        Some(text)
    }
}
