//! Connections that are closed for what clients have left in the memory of their processes: the next session gets a
//! fresh one.

use super::pool::{Pool, retire};

impl Pool {
    /// A client has gone whose statements left much in the memory of the process that it had last: that connection is
    /// closed, not lent to others; the next session gets a fresh one.
    pub fn retire_held_for(&self, client: u64) {
        let server = {
            let mut state = self.state.lock();
            let held = state.idle.iter().position(|s| s.held_for == client);
            state.replacements = (state.replacements + u32::from(held.is_some())).min(self.settings().most());
            let server = held.map(|i| state.idle.remove(i));
            for other in state.idle.iter_mut().filter(|s| s.held_for == client) {
                other.held_for = 0;
            }
            server
        };
        if let Some(server) = server {
            tracing::debug!(
                client,
                pid = server.link.pid,
                "server connection is replaced: its client left much in it"
            );
            retire(server);
        }
    }

    /// A connection is being closed for what is left in its process: the next session gets a fresh one.
    pub fn will_replace(&self) {
        let mut state = self.state.lock();
        state.replacements = (state.replacements + 1).min(self.settings().most());
    }
}
