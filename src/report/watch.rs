//! Looks again and again whether the tables of reports have been written, through this process or as others tell, and has CDNs
//! told of those that have. Writers do not wait for this, nor do they know of it: what they leave are the versions of tables
//! ([`crate::fence::versions`]), which move when the fate of a write is known, and before its client hears of that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::purge::Line;
use super::source::{Source, report_tag};
use crate::cache::strict;
use crate::config::{Config, Report};
use crate::core::clock::Instant;
use crate::pool::term::Term;
use crate::session::shared::Shared;

/// How often it is looked.
const ROUND: Duration = Duration::from_millis(100);

/// A task that tells one CDN; ends with the value.
struct Teller {
    line: Arc<Line>,
    task: JoinHandle<()>,
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was last seen of a report.
struct Seen {
    report: Report,
    source: Source,
    moves: (Vec<u64>, Option<Term>),
    /// What other processes had written by then, as far as that was known.
    marks: Option<strict::Seen>,
}

/// See the module.
struct Watch {
    shared: Arc<Shared>,
    config: Option<Arc<Config>>,
    tellers: Vec<Teller>,
    seen: HashMap<String, Seen>,
}

/// Watches for as long as it is polled.
pub async fn run(shared: Arc<Shared>) {
    let mut watch = Watch { shared, config: None, tellers: Vec::new(), seen: HashMap::new() };
    let mut round = tokio::time::interval(ROUND);
    loop {
        round.tick().await;
        watch.look().await;
    }
}

impl Watch {
    fn tell(&self, tag: &str) {
        let now = Instant::now();
        self.tellers.iter().for_each(|teller| teller.line.tell(tag, now));
    }

    async fn look(&mut self) {
        let config = self.shared.config.load_full();
        if !self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, &config)) {
            self.renew(&config);
            self.config = Some(config.clone());
        }
        let reports = || config.report_list().iter().filter(|report| report.purge);
        let seen = |report: &Report| self.seen.get(&report.name);
        let marks = reports().map(|report| async move { seen(report)?.source.marks().await });
        let marks = futures_util::future::join_all(marks).await;
        for (report, marks) in reports().zip(marks) {
            self.look_at(report, marks);
        }
    }

    /// Another configuration: reports that are others now, or none any more, are outdated.
    fn renew(&mut self, config: &Config) {
        let cdns = config.reports.as_ref().map_or(&[][..], |reports| &reports.cdns);
        self.tellers.retain(|teller| cdns.contains(&teller.line.cdn));
        for cdn in cdns {
            if !self.tellers.iter().any(|teller| teller.line.cdn == *cdn) {
                let line = Line::new(cdn.clone(), self.shared.ledger.cdn(&cdn.name));
                let task = tokio::spawn(line.clone().run());
                self.tellers.push(Teller { line, task });
            }
        }
        let list = config.report_list();
        let gone = self.seen.iter().filter(|(_, seen)| !list.contains(&seen.report));
        let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.seen.remove(&name);
            self.tell(&report_tag(&name));
        }
        // What was written before we came is not known, nor what those without `purge` were before.
        for report in list.iter().filter(|report| !self.seen.contains_key(&report.name)) {
            self.tell(&report_tag(&report.name));
        }
        let (is_report, is_cdn) = (
            |name: &str| list.iter().any(|report| report.name == name),
            |name: &str| cdns.iter().any(|cdn| cdn.name == name),
        );
        self.shared.ledger.retain(is_report, is_cdn);
    }

    fn look_at(&mut self, report: &Report, marks: Option<strict::Seen>) {
        let Some(seen) = self.seen.get_mut(&report.name).filter(|seen| seen.source.is_current(&self.shared))
        else {
            // It may be read from other tables now.
            if let Some(source) = Source::look(&self.shared, report) {
                let (moves, marks) = (source.moves(), None);
                let seen = Seen { report: report.clone(), source, moves, marks };
                self.seen.insert(report.name.clone(), seen);
                self.tell(&report_tag(&report.name));
            }
            return;
        };
        seen.source.nudge();
        let now = seen.source.moves();
        // What others have written while that was not known counts as well.
        let marked = marks.is_some() && marks != seen.marks;
        seen.marks = marks.or(seen.marks);
        if now == seen.moves && !marked {
            return;
        }
        let before = std::mem::replace(&mut seen.moves, now.clone());
        let tags: Vec<String> = if before.1 == now.1 && !marked {
            let moved = before.0.iter().zip(&now.0).zip(&seen.source.tags).filter(|((a, b), _)| a != b);
            moved.map(|(_, tag)| tag.clone()).collect()
        } else {
            // What another primary knows may be something else, and which table others have written to is not told.
            vec![report_tag(&report.name)]
        };
        self.shared.ledger.report(&report.name).outdated.add(1);
        tags.iter().for_each(|tag| self.tell(tag));
    }
}
