//! What a client is told of its session's parameters at login, without asking a server each time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::settings::Settings;

/// Parameters that servers report, in the order they came.
pub type Params = Vec<(String, String)>;

/// What a session with certain startup settings is told, and what it carries.
#[derive(Debug)]
pub struct Welcome {
    /// ParameterStatus, but for `application_name`.
    pub params: Params,
    /// The settings as the server spells them, without those that change nothing and without `application_name`.
    pub settings: Settings,
}

/// Welcomes by startup settings. Bounded.
#[derive(Debug, Default)]
pub struct Welcomes {
    base: Mutex<Option<Arc<Params>>>,
    known: Mutex<HashMap<Settings, Arc<Welcome>>>,
}

/// Different startup settings remembered per pool.
const MAX_KNOWN: usize = 512;

impl Welcomes {
    /// Notes what a fresh server reports. When that has changed, what was known is stale.
    pub fn base(&self, params: &Params) {
        let mut base = self.base.lock();
        if base.as_deref() != Some(params) {
            *base = Some(Arc::new(params.clone()));
            self.known.lock().clear();
        }
    }

    /// What a fresh server reports, once one has been seen.
    pub fn defaults(&self) -> Option<Arc<Params>> {
        self.base.lock().clone()
    }

    /// What a fresh server reports for a setting, if it does.
    pub fn reports(&self, name: &str) -> Option<String> {
        let base = self.base.lock();
        base.iter().flat_map(|p| p.iter()).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone())
    }

    /// The welcome of sessions with these settings, if one has been worked out; `settings` must not have
    /// `application_name`.
    pub fn find(&self, settings: &Settings) -> Option<Arc<Welcome>> {
        if settings.is_empty() {
            let base = self.defaults()?;
            return Some(self.learn(settings, &base, &[]));
        }
        self.known.lock().get(settings).cloned()
    }

    /// Works out the welcome from what a neutral server reported when the settings were applied to it.
    pub fn learn(&self, settings: &Settings, base: &Params, reported: &[(String, String)]) -> Arc<Welcome> {
        let mut known = self.known.lock();
        if let Some(found) = known.get(settings) {
            return found.clone();
        }
        let welcome = Arc::new(Welcome::new(settings, base, reported));
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(settings.clone(), welcome.clone());
        welcome
    }
}

impl Welcome {
    fn new(settings: &Settings, base: &Params, reported: &[(String, String)]) -> Welcome {
        let mut carried = settings.clone();
        let mut params = Params::new();
        for (name, default) in base.iter().filter(|(name, _)| name != super::settings::APPLICATION_NAME) {
            let now = reported.iter().rev().find(|(n, _)| n == name).map_or(default, |(_, value)| value);
            if carried.get(&name.to_ascii_lowercase()).is_some() {
                if now == default { carried.remove(name) } else { carried.set(name, now) }
            }
            params.push((name.clone(), now.clone()));
        }
        Welcome { params, settings: carried }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_change_nothing_are_not_carried() {
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        let base =
            vec![pair("TimeZone", "UTC"), pair("client_encoding", "UTF8"), pair("application_name", "")];
        let wanted =
            Settings::from_pairs([("client_encoding", "utf8"), ("timezone", "cet"), ("work_mem", "1MB")]);
        let welcome = Welcome::new(&wanted, &base, &[pair("TimeZone", "CET")]);
        assert_eq!(welcome.params, [pair("TimeZone", "CET"), pair("client_encoding", "UTF8")]);
        assert_eq!(welcome.settings, Settings::from_pairs([("timezone", "CET"), ("work_mem", "1MB")]));
    }
}
