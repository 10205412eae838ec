//! What a pool finds out about its database: what sessions have without setting anything, and which functions leave
//! something behind. Asked by the sweep, on a connection at rest, when a client's statements have made it matter.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::Guard;

use super::pool::Pool;
use super::server::Server;
use super::settings::Settings;
use super::suspects::{self, Suspects};
use crate::core::clock::Instant;

/// Age at which what is known of a database's functions is asked again: others may have changed them.
const SUSPECTS_AGE: Duration = Duration::from_secs(60);

impl Pool {
    /// What a session has without setting anything, where that is known.
    pub fn default(&self, name: &str) -> Option<&str> {
        self.defaults.get()?.get(name)
    }

    /// Has the next sweep find out.
    pub fn want_defaults(&self) {
        self.defaults_wanted.store(true, Relaxed);
    }

    /// Which functions leave something behind, as far as is known; asked again where that is old.
    pub fn suspects(&self, now: Instant) -> Guard<Option<Arc<Suspects>>> {
        let known = self.suspects.load();
        let old = known.as_ref().is_none_or(|s| s.asked().is_none_or(|at| now.since(at) >= SUSPECTS_AGE));
        if old && !self.suspects_wanted.load(Relaxed) {
            self.suspects_wanted.store(true, Relaxed);
        }
        known
    }

    /// Functions have changed: what is known of them is no longer true.
    pub fn forget_suspects(&self) {
        self.suspects.store(None);
    }

    /// Notes which functions leave something behind.
    pub(super) fn learn_suspects(&self, found: Suspects) {
        self.suspects_wanted.store(false, Relaxed);
        self.suspects.store(Some(Arc::new(found)));
    }

    /// Finds out what someone wants to know, if a connection is at hand that shows it.
    pub(super) fn ask_around(self: &Arc<Self>) {
        let defaults = self.defaults_wanted.load(Relaxed) && self.defaults.get().is_none();
        let suspects = self.suspects_wanted.load(Relaxed);
        if !defaults && !suspects {
            return;
        }
        let bare =
            |s: &Server| s.class.is_empty() && s.settings.is_empty() || !defaults && !s.settings.has_role();
        let server = {
            let mut state = self.state.lock();
            let at = state.idle.iter().position(|s| bare(s));
            at.filter(|_| !state.paused).map(|i| state.idle.remove(i))
        };
        let Some(server) = server else { return };
        let pool = self.clone();
        tokio::spawn(async move {
            if defaults {
                super::defaults::learn(&pool, server).await
            } else {
                suspects::learn(&pool, server).await
            }
        });
    }

    /// Notes what sessions have without setting anything; most pools of a backend have the same.
    pub(super) fn learn_defaults(&self, found: Settings) {
        // Whoever was first has said the same.
        let _ = self.defaults.set(self.target.shared_defaults(found));
    }
}
