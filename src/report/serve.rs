//! From a report and its values to an answer: what is kept, or what a server says.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::access::Keys;
use super::ask::{self, Fault, Place};
use super::kept::{Answer, Kept, Key};
use super::params;
use super::render::Page;
use super::source::{self, Asked, Source};
use crate::config::{Config, Report, Reports};
use crate::core::clock::Instant;
use crate::core::ledger::Account;
use crate::pool::driver::Login;
use crate::session::shared::Shared;

/// Requests that wait for a turn, of all reports; more are told to come again.
const MAX_WAITING: usize = 256;

/// What follows from a configuration.
pub struct Current {
    config: Arc<Config>,
    /// Counts configurations.
    generation: u64,
    /// What proofs are held against, or why nothing is.
    pub keys: Result<Keys, String>,
}

impl Current {
    /// The report of that name.
    pub fn report(&self, name: &str) -> Option<&Report> {
        self.config.report_list().iter().find(|report| report.name == name)
    }
}

/// See the module.
pub struct Server {
    /// What all share.
    pub shared: Arc<Shared>,
    current: ArcSwap<Current>,
    turning: Mutex<()>,
    kept: Kept,
    sources: Mutex<HashMap<String, Source>>,
    running: Semaphore,
    waiting: Semaphore,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The server's or the query's doing.
    Fault(Fault),
    /// Too many wait.
    Busy,
}

fn current(shared: &Shared, generation: u64) -> Current {
    let config = shared.config.load_full();
    let keys = config.reports.as_ref().map_or_else(|| Ok(Keys::default()), Keys::load);
    if let Err(error) = &keys {
        tracing::error!(error, "reports that are not public are given to nobody");
    }
    Current { config, generation, keys }
}

impl Server {
    /// Under the configuration of now.
    pub fn new(shared: Arc<Shared>, reports: &Reports) -> Server {
        Server {
            current: ArcSwap::from_pointee(current(&shared, 0)),
            turning: Mutex::default(),
            kept: Kept::new(reports.memory),
            sources: Mutex::default(),
            running: Semaphore::new(reports.max_running),
            waiting: Semaphore::new(MAX_WAITING),
            shared,
        }
    }

    /// What follows from the configuration of now. Another one than before has the files of keys read again.
    pub fn current(&self) -> Arc<Current> {
        let known = self.current.load_full();
        if Arc::ptr_eq(&known.config, &self.shared.config.load()) {
            return known;
        }
        let _turn = self.turning.lock();
        let known = self.current.load_full();
        if Arc::ptr_eq(&known.config, &self.shared.config.load()) {
            return known;
        }
        let new = Arc::new(current(&self.shared, known.generation + 1));
        self.current.store(new.clone());
        self.sources.lock().clear();
        self.kept.forget();
        new
    }

    /// What a report is read from.
    async fn source(&self, report: &Report) -> Option<Source> {
        let known = self.sources.lock().get(&report.name).cloned();
        let found = match known {
            Some(known) if known.is_current(&self.shared) => return Some(known),
            // Objects have changed: what is not known of them yet nobody waits for.
            Some(_) => Source::look(&self.shared, report)?,
            None => Source::find(&self.shared, report).await?,
        };
        self.sources.lock().insert(report.name.clone(), found.clone());
        Some(found)
    }

    /// Whether a result that is kept may be given.
    pub async fn is_good(&self, report: &Report, source: &Source, answer: &Answer) -> bool {
        let is_young = Instant::now().since(answer.made) < report.ttl;
        match &answer.as_of {
            _ if !is_young || !report.purge => is_young,
            Some(as_of) => source.is_of_now(&self.shared, as_of).await,
            None => false,
        }
    }

    /// What is kept under a key, if it may be given.
    async fn good(&self, key: &Key, report: &Report, source: &Source) -> Option<Arc<Answer>> {
        let answer = self.kept.get(key)?;
        self.is_good(report, source, &answer).await.then_some(answer)
    }

    /// The answer for these values, and whether an edge may keep it.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn answer(
        &self,
        current: &Current,
        report: &Report,
        values: &[Option<String>],
    ) -> Result<(Arc<Answer>, bool), Failed> {
        let gone = || Failed::Fault(Fault::Query("its database is gone".into()));
        let source = self.source(report).await.ok_or_else(gone)?;
        let key = (current.generation, report.name.clone(), params::key(values));
        let account = self.shared.ledger.report(&report.name);
        if let Some(answer) = self.good(&key, report, &source).await {
            account.kept.add(1);
            return Ok((answer, true));
        }
        let came = Instant::now();
        let turned = async {
            let _waiting = self.waiting.try_acquire().map_err(|_| Failed::Busy)?;
            let turn = self.kept.turn(&key).await;
            // What was asked for after this request came is as good as what it would be told itself.
            let shared = match turn.clone().filter(|answer| answer.made > came) {
                None => self.good(&key, report, &source).await,
                shared => shared,
            };
            let running = match &shared {
                Some(_) => None,
                None => Some(self.running.acquire().await.map_err(|_| Failed::Busy)?),
            };
            Ok((turn, running, shared))
        };
        // Who waits for a turn waits no longer than for an answer.
        let turned = tokio::time::timeout(report.timeout, turned).await.map_err(|_| Failed::Busy)?;
        let (mut turn, _running, shared) = turned?;
        if let Some(answer) = shared {
            account.kept.add(1);
            let good = self.is_good(report, &source, &answer).await;
            return Ok((answer, good));
        }
        // Objects may have changed while this waited: it may be read from other tables now.
        let source = self.source(report).await.ok_or_else(gone)?;
        let answer = Arc::new(self.run(report, &source, values, &account).await.map_err(Failed::Fault)?);
        *turn = Some(answer.clone());
        let good = self.is_good(report, &source, &answer).await;
        if good {
            self.kept.put(key, answer.clone());
        }
        Ok((answer, good))
    }

    /// Asks a server; where a replica cannot be asked after all, who has the newest.
    async fn run(
        &self,
        report: &Report,
        source: &Source,
        values: &[Option<String>],
        account: &Account,
    ) -> Result<Answer, Fault> {
        let began = Instant::now();
        // In this order: what was written before this has a fence that the server is past.
        let as_of = source.as_of().await;
        let config = self.shared.config.load_full();
        let login = config.user(&report.user).map(Login::of);
        let login = login.ok_or_else(|| Fault::Query("its user is gone".into()))?;
        let asked = source.target(&self.shared, report).map_err(Fault::Server)?;
        let mut outcome = self.ask(report, source, values, &login, &asked).await;
        let mut backend = asked.target().name().to_string();
        if let (Err(Fault::Server(_)), Asked::Replica(_)) = (&outcome, &asked) {
            let home = source.home(&self.shared, report).map_err(Fault::Server)?;
            backend = home.target().name().to_string();
            outcome = self.ask(report, source, values, &login, &home).await;
        }
        let error = outcome.as_ref().err().filter(|fault| !matches!(fault, Fault::Value(_)));
        account.ran(&backend, Instant::now().since(began), error.map(ToString::to_string));
        let tags = [vec![source::report_tag(&report.name)], source.tags.clone()].concat();
        account.last.lock().tags.clone_from(&tags);
        Ok(Answer::new(outcome?, began, as_of, tags))
    }

    async fn ask(
        &self,
        report: &Report,
        source: &Source,
        values: &[Option<String>],
        login: &Login,
        asked: &Asked,
    ) -> Result<Vec<u8>, Fault> {
        let place = Place { target: asked.target(), login, dbname: source.dbname() };
        let using = match asked {
            Asked::Replica(member) => Some(member.begin(Instant::now())),
            Asked::Home(_) => None,
        };
        let mut page = Page::new(report);
        let outcome = ask::ask(&place, report, values, &mut page).await;
        if let Some(using) = using {
            match &outcome {
                // Whether that is the server's fault is for probes and pools to find out.
                Err(Fault::Server(_) | Fault::Time) => drop(using),
                _ => using.answered(Instant::now()),
            }
        }
        outcome?;
        page.finish()
    }
}
