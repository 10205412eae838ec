//! What the comparison found, corpus by corpus, and what was not understood.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::panic;

use turnpike::sql::lex::{Kind, Lexer};

use crate::compare::{self, Fault};
use crate::corpus::{Corpus, Record};
use crate::ours;
use crate::truth::Truth;

/// What one corpus came to.
#[derive(Debug, Default)]
struct Totals {
    records: usize,
    valid: usize,
    understood: usize,
    /// Understood, though PostgreSQL's parser does not accept it.
    invalid_understood: usize,
    /// Taken for a write and none: no fault, but a share of what could go to a replica.
    needless: usize,
}

/// The findings of a whole run.
#[derive(Debug, Default)]
pub struct Report {
    corpora: Vec<(String, Totals)>,
    faults: BTreeMap<Fault, Vec<String>>,
    /// By their first two words: how many, and where the first one is.
    fallbacks: BTreeMap<String, (usize, String)>,
    /// What PostgreSQL's parser says to what it does not accept.
    invalid: Vec<String>,
}

impl Report {
    /// Compares every statement of every corpus.
    pub fn of(corpora: &[Corpus]) -> Self {
        let mut report = Report::default();
        for corpus in corpora {
            let mut totals = Totals::default();
            for record in &corpus.records {
                report.record(&corpus.name, record, &mut totals);
            }
            report.corpora.push((corpus.name.clone(), totals));
        }
        report
    }

    fn record(&mut self, file: &str, record: &Record, totals: &mut Totals) {
        let truth = Truth::of(&record.sql);
        let place = || format!("{file}:{}", record.line);
        totals.records += 1;
        totals.valid += usize::from(truth.is_ok());
        let Ok(ours) = panic::catch_unwind(|| ours::ours(&record.sql)) else {
            self.fault(Fault::Panic, &place(), record, "");
            return;
        };
        let understood = ours.as_ref().is_some_and(|o| o.understood);
        totals.understood += usize::from(understood && truth.is_ok());
        totals.invalid_understood += usize::from(understood && truth.is_err());
        let truth = match truth {
            Ok(truth) => truth,
            Err(error) => {
                self.invalid.push(format!("{}: {error}: {}", place(), short(record)));
                return;
            }
        };
        if !understood {
            let entry = self.fallbacks.entry(first_words(&record.sql)).or_insert_with(|| (0, place()));
            entry.0 += 1;
        }
        if let Some(ours) = ours {
            totals.needless += usize::from(understood && ours.writes && !truth.writes());
            for (fault, what) in compare::faults(&truth, &ours) {
                self.fault(fault, &place(), record, &what);
            }
        }
    }

    fn fault(&mut self, fault: Fault, place: &str, record: &Record, what: &str) {
        self.faults.entry(fault).or_default().push(format!("{place}: {what}: {}", short(record)));
    }

    /// Whether any statement could go where it must not.
    pub fn is_fatal(&self) -> bool {
        self.faults.keys().any(|f| f.is_fatal())
    }

    /// Writes tables and the first `most` of each kind of fault. Many small corpora, such as a regression suite's files,
    /// are one line unless `each`.
    pub fn write(&self, out: &mut impl Write, most: usize, each: bool) -> io::Result<()> {
        writeln!(
            out,
            "{:<28} {:>8} {:>8} {:>18} {:>9} {:>9}",
            "corpus", "texts", "valid", "understood", "needless", "invalid"
        )?;
        let mut sum = Totals::default();
        for (name, t) in &self.corpora {
            sum.add(t);
            if each {
                t.write(out, name)?;
            }
        }
        sum.write(out, &format!("all {} files", self.corpora.len()))?;
        for fault in Fault::ALL {
            let list = self.faults.get(&fault).map_or(&[][..], Vec::as_slice);
            writeln!(out, "\n{}: {}", fault.title(), list.len())?;
            for line in list.iter().take(most) {
                writeln!(out, "  {line}")?;
            }
        }
        Ok(())
    }

    /// Writes what PostgreSQL's parser does not accept, and why.
    pub fn write_invalid(&self, out: &mut impl Write) -> io::Result<()> {
        self.invalid.iter().try_for_each(|line| writeln!(out, "{line}"))
    }

    /// Writes what was not understood, by its first two words, the most frequent first.
    pub fn write_fallbacks(&self, out: &mut impl Write) -> io::Result<()> {
        let mut list: Vec<_> = self.fallbacks.iter().collect();
        list.sort_by_key(|(words, (count, _))| (usize::MAX - count, words.as_str()));
        for (words, (count, place)) in list {
            writeln!(out, "{count:>7}  {words:<40} first at {place}")?;
        }
        Ok(())
    }
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.records += other.records;
        self.valid += other.valid;
        self.understood += other.understood;
        self.invalid_understood += other.invalid_understood;
        self.needless += other.needless;
    }

    fn write(&self, out: &mut impl Write, name: &str) -> io::Result<()> {
        let permille = (self.understood * 1000).checked_div(self.valid).unwrap_or(0);
        let share = format!("{} ({}.{}%)", self.understood, permille / 10, permille % 10);
        writeln!(
            out,
            "{name:<28} {:>8} {:>8} {share:>18} {:>9} {:>9}",
            self.records, self.valid, self.needless, self.invalid_understood
        )
    }
}

/// A statement's beginning in one line.
fn short(record: &Record) -> String {
    let text = String::from_utf8_lossy(&record.sql);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(160).collect()
}

/// The first two words of a statement in upper case, or what else it begins with.
fn first_words(sql: &[u8]) -> String {
    let mut words = Vec::new();
    for token in Lexer::new(sql, true).take(2) {
        let text = String::from_utf8_lossy(&sql[token.start..token.end]);
        match token.kind {
            Kind::Word => words.push(text.to_ascii_uppercase()),
            Kind::Punct | Kind::Operator => words.push(text.into_owned()),
            other => words.push(format!("<{other:?}>")),
        }
    }
    words.join(" ")
}
