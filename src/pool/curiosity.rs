//! What a pool finds out about its database: what sessions have without setting anything, and which functions leave
//! something behind. Asked by the sweep, on a connection at rest, when a client's statements have made it matter.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::pool::Pool;
use super::server::Server;
use super::settings::Settings;
use super::suspects;

/// What sessions of a database and user have without setting anything, on all servers of a cluster.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    known: OnceLock<Arc<Settings>>,
    wanted: AtomicBool,
}

impl Pool {
    /// What a session has without setting anything, where that is known.
    pub fn default(&self, name: &str) -> Option<&str> {
        self.defaults.known.get()?.get(name)
    }

    /// Has the next sweep find out.
    pub fn want_defaults(&self) {
        self.defaults.wanted.store(true, Relaxed);
    }

    /// Finds out what someone wants to know, if a connection is at hand that shows it.
    pub(super) fn ask_around(self: &Arc<Self>) {
        let defaults = self.defaults.wanted.load(Relaxed) && self.defaults.known.get().is_none();
        // Where the catalog is current, so is what it says of them.
        let functions = &self.schema.functions;
        let suspects = functions.is_old() && !(functions.are_read_along() && self.schema.is_known());
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
                suspects::ask_again(&pool, server).await
            }
        });
    }

    /// Notes what sessions have without setting anything; most pools of a backend have the same.
    pub(super) fn learn_defaults(&self, found: Settings) {
        // Whoever was first has said the same.
        let _ = self.defaults.known.set(self.target.shared_defaults(found));
    }
}
