//! What has become of reports (`[[report]]`) and of what CDNs are told: written by whoever serves them, read by `/metrics`
//! and SHOW REPORTS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::latency::Latency;
use super::stats::Counter;

/// Statuses that are told apart; any other counts with the last.
pub const STATUSES: [u16; 9] = [200, 304, 400, 401, 403, 404, 503, 504, 500];

/// What has become of one report.
#[derive(Debug, Default)]
pub struct Account {
    answers: [Counter; STATUSES.len()],
    /// Of those with content, some that were kept here.
    pub kept: Counter,
    /// Queries run.
    pub runs: Counter,
    /// Of those, some that failed.
    pub failures: Counter,
    /// How long they took.
    pub took: Latency,
    /// Times that it was found to be outdated.
    pub outdated: Counter,
    /// What else is to be shown.
    pub last: Mutex<Last>,
}

/// The last of it.
#[derive(Clone, Debug, Default)]
pub struct Last {
    /// Who was asked.
    pub backend: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// The tags that it goes by.
    pub tags: Vec<String>,
}

impl Account {
    /// Counts an answer.
    pub fn answered(&self, status: u16) {
        let at = STATUSES.iter().position(|s| *s == status).unwrap_or(STATUSES.len() - 1);
        if let Some(counter) = self.answers.get(at) {
            counter.add(1);
        }
    }

    /// Answers, by status.
    pub fn answers(&self) -> impl Iterator<Item = (u16, u64)> {
        STATUSES.into_iter().zip(&self.answers).map(|(status, n)| (status, n.get()))
    }

    /// A query has been run by `backend`, and took so long; `error` is why it failed.
    pub fn ran(&self, backend: &str, took: Duration, error: Option<String>) {
        self.runs.add(1);
        if error.is_some() {
            self.failures.add(1);
        } else {
            self.took.record(took);
        }
        let mut last = self.last.lock();
        (last.backend, last.error) = (backend.to_string(), error);
    }
}

/// What one CDN has been told.
#[derive(Debug, Default)]
pub struct Told {
    /// Requests that it took.
    pub done: Counter,
    /// Those that it did not take; they are made again.
    pub failed: Counter,
    /// Tags that it was told.
    pub tags: Counter,
    /// From when something was found to be outdated to when it had taken that.
    pub took: Latency,
    /// Tags that it is to be told yet, and why the last request failed, if it did.
    pub now: Mutex<(usize, Option<String>)>,
}

type Named<T> = Mutex<BTreeMap<String, Arc<T>>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    reports: Named<Account>,
    cdns: Named<Told>,
}

fn of<T: Default>(all: &Named<T>, name: &str) -> Arc<T> {
    let mut all = all.lock();
    if let Some(known) = all.get(name) {
        return known.clone();
    }
    let new = Arc::<T>::default();
    all.insert(name.to_string(), new.clone());
    new
}

fn all<T>(named: &Named<T>) -> Vec<(String, Arc<T>)> {
    named.lock().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Ledger {
    /// The account of a report of the configuration: there are as many as that has names.
    pub fn report(&self, name: &str) -> Arc<Account> {
        of(&self.reports, name)
    }

    /// That of a CDN.
    pub fn cdn(&self, name: &str) -> Arc<Told> {
        of(&self.cdns, name)
    }

    /// Forgets all but these.
    pub fn retain(&self, reports: impl Fn(&str) -> bool, cdns: impl Fn(&str) -> bool) {
        self.reports.lock().retain(|name, _| reports(name));
        self.cdns.lock().retain(|name, _| cdns(name));
    }

    /// Of all reports.
    pub fn reports(&self) -> Vec<(String, Arc<Account>)> {
        all(&self.reports)
    }

    /// Of all CDNs.
    pub fn cdns(&self) -> Vec<(String, Arc<Told>)> {
        all(&self.cdns)
    }
}
