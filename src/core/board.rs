//! What custom metrics (`[[metric]]`) have found: written by whoever runs their queries, read by `/metrics` and SHOW METRICS.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

/// One series: labels, in the order of the columns, and a value.
pub type Series = (Vec<(String, String)>, f64);

/// What one metric has found, and how its runs went.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// One sentence.
    pub help: String,
    /// Whether its values only grow.
    pub counter: bool,
    /// The database that it is asked of.
    pub database: String,
    /// Time between two runs.
    pub interval: Duration,
    /// What the last run that succeeded has found.
    pub series: Vec<Series>,
    /// Rows that were not kept: beyond `max_series`, or with the labels of another.
    pub dropped: u64,
    /// Runs ended.
    pub runs: u64,
    /// Of those, failed.
    pub failures: u64,
    /// When the last one succeeded, in seconds since the epoch; 0 for never.
    pub last_success: f64,
    /// How long the last one took.
    pub took: Duration,
    /// The backend that the last one asked.
    pub backend: String,
    /// Why the last one failed, if it did.
    pub error: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<String, Finding>>);

impl Board {
    /// Notes something of a metric, which is new if it is not known.
    pub fn note(&self, name: &str, note: impl FnOnce(&mut Finding)) {
        note(self.0.lock().entry(name.to_string()).or_default());
    }

    /// Forgets all but these.
    pub fn retain(&self, stays: impl Fn(&str) -> bool) {
        self.0.lock().retain(|name, _| stays(name));
    }

    /// Looks at all of them.
    pub fn look<T>(&self, look: impl FnOnce(&BTreeMap<String, Finding>) -> T) -> T {
        look(&self.0.lock())
    }
}
