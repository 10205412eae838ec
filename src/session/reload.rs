//! A new configuration without dropping a client: read, checked, and put into use as a whole, or not at all.

use std::path::Path;

use super::entry::Verdict;
use super::shared::Shared;
use super::tenancy::place;
use crate::config::show::Setting;
use crate::config::{Backend, Config, check};

impl Shared {
    /// Reads the configuration file again. Returns the keys whose new values wait for a restart.
    ///
    /// # Errors
    /// Why nothing has changed: every problem of the file, or a certificate that cannot be used.
    pub fn reload(&self) -> Result<Vec<String>, String> {
        let Some(path) = self.source.get() else {
            return Err("this process was started without a configuration file".into());
        };
        let outcome = self.reload_from(path);
        let totals = &self.totals;
        if outcome.is_ok() { &totals.reloads } else { &totals.reload_failures }.add(1);
        totals.reload_failed.set(u64::from(outcome.is_err()));
        if let Ok(waiting) = &outcome {
            totals.pending_restart.set(waiting.len() as u64);
        }
        match &outcome {
            Ok(waiting) if waiting.is_empty() => {
                tracing::info!(file = %path.display(), "configuration reloaded")
            }
            Ok(waiting) => {
                tracing::warn!(file = %path.display(), needs_restart = waiting.join(", "), "configuration reloaded");
            }
            Err(problems) => {
                tracing::error!(file = %path.display(), "configuration not reloaded, nothing has changed:\n{problems}");
            }
        }
        outcome
    }

    fn reload_from(&self, path: &Path) -> Result<Vec<String>, String> {
        // One at a time: the parts must not come from different files.
        let _turn = self.reloading.lock();
        let mut new = check::load(path).map_err(|problems| problems.to_string())?;
        let old = self.config.load_full();
        let waiting = waiting(&old, &new);
        keep_what_is_fixed(&old, &mut new);
        new.keep_found(&old);
        self.gate.reload(&new)?;
        self.pools.reload(&new)?;
        self.clusters.reload(&new, &self.pools);
        self.planner.reload(&new.plan, &new.rules, &new.mirrored(), &new.caches);
        self.shadows.reload(&new, self.planner.store.serial());
        self.config.store(std::sync::Arc::new(new));
        // Sessions that looked between the two look again.
        self.pools.tenants.touch();
        self.wake_moved(&old);
        // Last: who has seen the old configuration finds out again.
        if let Some(cache) = &self.cache {
            cache.flush();
        }
        Ok(waiting)
    }

    /// Sessions of tenants that are somewhere else now and may keep state where those were.
    fn wake_moved(&self, old: &Config) {
        let new = self.config.load();
        if old.tenants == new.tenants && old.backends == new.backends {
            return;
        }
        for entry in self.entries() {
            let (tenant, database) = (entry.tenant(), &entry.pool.purpose.database);
            let name = tenant.as_ref().map(|tenant| &*tenant.name);
            if name.is_some() && place(old, database, name) != place(&new, database, name) {
                entry.end(Verdict::Moved);
            }
        }
    }

    /// Puts servers into use that were found to be members of a cluster, in the place of those that were before.
    ///
    /// # Errors
    /// Why nothing has changed: certificates that cannot be used any more.
    pub fn found(&self, cluster: &str, members: Vec<Backend>) -> Result<(), String> {
        let _turn = self.reloading.lock();
        let new = self.config.load().with_found(cluster, members);
        self.pools.reload(&new)?;
        self.clusters.reload(&new, &self.pools);
        self.config.store(std::sync::Arc::new(new));
        Ok(())
    }
}

/// Keys that differ and are read only when the process starts.
fn waiting(old: &Config, new: &Config) -> Vec<String> {
    let old = old.show();
    let fixed = new.show().into_iter().filter(|s| !s.changeable);
    let same = |s: &Setting| old.iter().any(|o| o.key == s.key && o.value == s.value);
    fixed.filter(|s| !same(s)).map(|s| s.key).collect()
}

fn keep_what_is_fixed(old: &Config, new: &mut Config) {
    new.general.listen.clone_from(&old.general.listen);
    new.general.unix_socket_dir.clone_from(&old.general.unix_socket_dir);
    new.general.workers = old.general.workers;
    new.general.state_dir.clone_from(&old.general.state_dir);
    new.general.takeover_socket.clone_from(&old.general.takeover_socket);
    new.general.cache_memory = old.general.cache_memory;
    new.general.cache_warm_key_file.clone_from(&old.general.cache_warm_key_file);
    new.http = old.http;
    new.keep_reports(old);
    new.log.level.clone_from(&old.log.level);
    new.log.json = old.log.json;
}
