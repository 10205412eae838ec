//! The file as it is: typed reads that remember where each value stands. Whatever is wrong
//! is collected, so that one run tells an operator all of it.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::SECTIONS;
use super::problem::{Problem, Problems};
use super::units;
use super::words::{Words, nearest};

/// What is wrong with a value, without where.
#[derive(Debug)]
pub struct Fault {
    message: String,
    hint: Option<String>,
}

impl Fault {
    /// Adds what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Fault {
        Fault { hint: Some(hint.into()), ..self }
    }
}

impl<S: Into<String>> From<S> for Fault {
    fn from(message: S) -> Fault {
        Fault { message: message.into(), hint: None }
    }
}

/// A place in the file.
pub type At = usize;

/// The text, and what has been found wrong with it so far.
pub struct Source<'t> {
    text: &'t str,
    file: &'t Path,
    /// Where each line starts, the first left out: a file may have as many problems as lines.
    lines: Vec<At>,
    problems: RefCell<Vec<(At, Problem)>>,
}

impl<'t> Source<'t> {
    /// Starts with no problems.
    pub fn new(text: &'t str, file: &'t Path) -> Source<'t> {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Source { text, file, lines, problems: RefCell::default() }
    }

    /// Reads the syntax; what is wrong with it is reported.
    pub fn document(&self) -> DeTable<'t> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let span = error.span().unwrap_or_default();
            // A key is no secret, other parts of the text may be one.
            let named = error.message() == "duplicate key" && self.is_key(&span);
            let key = self.text.get(span.clone()).filter(|_| named).unwrap_or_default();
            self.report(span.start, key, error.message());
        }
        table.into_inner()
    }

    /// Whether that is a key: `=` or `]` follows, and nothing before it on its line.
    fn is_key(&self, span: &Range<At>) -> bool {
        let follows = self.text.get(span.end..).unwrap_or_default().trim_start();
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let text = self.text.get(span.clone()).unwrap_or_default();
        follows.starts_with(['=', '.', ']']) && !text.is_empty() && text.chars().all(bare)
    }

    /// Line of a place, from 1.
    pub fn line(&self, at: At) -> usize {
        self.position(at).0
    }

    /// Remembers a problem.
    pub fn report(&self, at: At, key: impl Into<String>, fault: impl Into<Fault>) {
        let Fault { message, hint } = fault.into();
        let (line, column) = self.position(at);
        let file = self.file.to_path_buf();
        self.problems.borrow_mut().push((at, Problem { file, line, column, key: key.into(), message, hint }));
    }

    /// Whether there is any problem so far.
    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// The problems, in the order of the file.
    pub fn into_problems(self) -> Problems {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(at, _)| *at);
        Problems(problems.into_iter().map(|(_, problem)| problem).collect())
    }

    fn position(&self, at: At) -> (usize, usize) {
        let before = self.lines.partition_point(|start| *start <= at);
        let start = before.checked_sub(1).and_then(|i| self.lines.get(i)).copied().unwrap_or(0);
        let bytes = self.text.as_bytes();
        let line = bytes.get(start..at).unwrap_or_else(|| bytes.get(start..).unwrap_or_default());
        (before + 1, String::from_utf8_lossy(line).chars().count() + 1)
    }

    /// A path in the file is relative to the file's directory.
    fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// The sections of a document.
pub struct Sections<'d> {
    source: &'d Source<'d>,
    root: &'d DeTable<'d>,
}

impl<'d> Sections<'d> {
    /// Reports every section and key that does not exist.
    pub fn new(source: &'d Source<'d>, root: &'d DeTable<'d>) -> Sections<'d> {
        for (name, _) in root {
            let (at, name) = (name.span().start, name.get_ref());
            if SECTIONS.iter().any(|s| s.name == name.as_ref()) {
                continue;
            }
            let owner = SECTIONS.iter().find(|s| s.names().any(|k| k == name.as_ref()));
            let near = nearest(name, SECTIONS.iter().map(|s| s.name));
            let near = near.and_then(|n| SECTIONS.iter().find(|s| s.name == n));
            let fault = Fault::from("there is no such section");
            source.report(
                at,
                name.as_ref(),
                match (near, owner) {
                    (Some(spec), _) => fault.hint(format!("did you mean {}?", spec.header())),
                    (None, Some(spec)) => {
                        fault.hint(format!("a key of that name belongs in {}", spec.header()))
                    }
                    (None, None) => fault,
                },
            );
        }
        Sections { source, root }
    }

    /// A section that occurs once; one that is absent has no keys.
    pub fn table(&self, name: &'static str) -> Section<'d> {
        let absent = Section { source: self.source, name, at: 0, table: None };
        let Some(value) = self.value(name) else { return absent };
        let at = value.span().start;
        match value.get_ref() {
            DeValue::Table(table) => self.section(name, at, table),
            other => {
                let fault = wrong_type("a table", other).hint(format!("write [{name}]"));
                self.source.report(at, name, fault);
                absent
            }
        }
    }

    /// A section that may occur many times.
    pub fn list(&self, name: &'static str) -> Vec<Section<'d>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let wrong = |at: At, value: &DeValue<'_>| {
            self.source.report(
                at,
                name,
                wrong_type("a list of tables", value).hint(format!("write [[{name}]]")),
            );
        };
        let DeValue::Array(items) = value.get_ref() else {
            wrong(value.span().start, value.get_ref());
            return Vec::new();
        };
        let section = |item: &'d Spanned<DeValue<'d>>| match item.get_ref() {
            DeValue::Table(table) => Some(self.section(name, item.span().start, table)),
            other => {
                wrong(item.span().start, other);
                None
            }
        };
        items.iter().filter_map(section).collect()
    }

    /// Whether the section is there, right or wrong.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn value(&self, name: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.root.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
    }

    fn section(&self, name: &'static str, at: At, table: &'d DeTable<'d>) -> Section<'d> {
        let section = Section { source: self.source, name, at, table: Some(table) };
        let Some(spec) = SECTIONS.iter().find(|s| s.name == name) else { return section };
        for (key, _) in table {
            let (at, key) = (key.span().start, key.get_ref().as_ref());
            if spec.names().any(|k| k == key) {
                continue;
            }
            let fault = Fault::from("there is no such key");
            let owner = SECTIONS.iter().find(|s| s.names().any(|k| k == key));
            let fault = match (nearest(key, spec.names()), owner) {
                (Some(near), _) => fault.hint(format!("did you mean {near}?")),
                (None, Some(owner)) => fault.hint(format!("it belongs in {}", owner.header())),
                (None, None) => fault,
            };
            self.source.report(at, format!("{name}.{key}"), fault);
        }
        section
    }
}

fn wrong_type(want: &str, value: &DeValue<'_>) -> Fault {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("must be {want}, not {article} {kind}").into()
}

/// A section: typed reads of its keys. A read gives `None` for a key that is absent, and for one that is wrong,
/// once that is reported.
#[derive(Clone, Copy)]
pub struct Section<'d> {
    source: &'d Source<'d>,
    name: &'static str,
    at: At,
    table: Option<&'d DeTable<'d>>,
}

impl Section<'_> {
    /// Whether the key is there, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether the key is there and a text.
    pub fn is_text(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().is_str())
    }

    /// Where the key's value stands, or the section if it is absent.
    pub fn at(&self, key: &str) -> At {
        self.value(key).map_or(self.at, |v| v.span().start)
    }

    /// Line of the file that it begins on, from 1.
    pub fn line(&self) -> usize {
        self.source.line(self.at)
    }

    /// Reports a problem with a key, or with the lack of it; without a name, with the section.
    pub fn report(&self, key: &str, fault: impl Into<Fault>) {
        let dot = if key.is_empty() { "" } else { "." };
        self.source.report(self.at(key), format!("{}{dot}{key}", self.name), fault);
    }

    /// A text that is not empty.
    pub fn text(&self, key: &str) -> Option<String> {
        self.read(key, text)
    }

    /// A text, where a wrong one has been or will be reported by another read.
    pub fn text_quietly(&self, key: &str) -> Option<String> {
        self.value(key).and_then(|value| text(value.get_ref()).ok())
    }

    /// How many texts there are, in a list or alone.
    pub fn count(&self, key: &str) -> Option<usize> {
        self.value(key).map(|value| value.get_ref().as_array().map_or(1, |items| items.len()))
    }

    /// A text that must be there; empty if it is not, which is reported.
    pub fn required(&self, key: &str) -> String {
        if !self.has(key) {
            self.report(key, "is missing");
        }
        self.text(key).unwrap_or_default()
    }

    /// A text, or a list of texts.
    pub fn texts(&self, key: &str) -> Option<Vec<String>> {
        self.parsed(key, |text| Ok(text.to_string()))
    }

    /// A text or a list of texts, each read by `parse`.
    pub fn parsed<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let single = std::slice::from_ref(value);
        let items = value.get_ref().as_array().map_or(single, |items| items.as_ref());
        let parsed = items.iter().filter_map(|item| {
            let parsed = text(item.get_ref()).and_then(|text| parse(&text));
            parsed.map_err(|fault| self.report_at(item.span().start, key, fault)).ok()
        });
        Some(parsed.collect())
    }

    /// One of some words.
    pub fn word<T: Copy>(&self, key: &str, words: Words<T>) -> Option<T> {
        self.read(key, |value| {
            let text = text(value)?;
            let names = || words.iter().map(|(word, _)| *word);
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let all = names().collect::<Vec<_>>().join(", ");
                let fault = Fault::from(format!("{text:?} is not one of {all}"));
                nearest(&text, names())
                    .map(|near| format!("did you mean {near}?"))
                    .into_iter()
                    .fold(fault, Fault::hint)
            })
        })
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.read(key, |value| value.as_bool().ok_or_else(|| wrong_type("true or false", value)))
    }

    /// A whole number in a range.
    pub fn number<T>(&self, key: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        self.read(key, |value| {
            let number = integer(value).ok_or_else(|| wrong_type("a whole number", value))?;
            in_range(number.and_then(|n| T::try_from(n).ok()), &range, T::to_string)
        })
    }

    /// A duration in a range: a text with a unit, or seconds.
    pub fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.read(key, |value| {
            let duration = match integer(value) {
                Some(seconds) => seconds.map(Duration::from_secs),
                None if value.is_str() => {
                    let text = text(value)?;
                    Some(units::duration(&text).map_err(|fault| format!("{text:?} {fault}"))?)
                }
                None => return Err(wrong_type("a duration such as \"30s\"", value)),
            };
            in_range(duration, &range, |d| units::show_duration(*d))
        })
    }

    /// A size in a range: a text with a unit, or bytes.
    pub fn size(&self, key: &str, range: RangeInclusive<usize>) -> Option<usize> {
        self.read(key, |value| {
            let size = match integer(value) {
                Some(bytes) => bytes,
                None if value.is_str() => {
                    let text = text(value)?;
                    Some(units::size(&text).map_err(|fault| format!("{text:?} {fault}"))?)
                }
                None => return Err(wrong_type("a size such as \"64KiB\"", value)),
            };
            in_range(size.and_then(|n| usize::try_from(n).ok()), &range, |n| units::show_size(*n as u64))
        })
    }

    /// A path, relative to the file.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(|path| self.source.resolve(&path))
    }

    fn report_at(&self, at: At, key: &str, fault: Fault) {
        self.source.report(at, format!("{}.{key}", self.name), fault);
    }

    fn read<T>(&self, key: &str, read: impl FnOnce(&DeValue<'_>) -> Result<T, Fault>) -> Option<T> {
        let value = self.value(key)?;
        read(value.get_ref()).map_err(|fault| self.report_at(value.span().start, key, fault)).ok()
    }

    fn value(&self, key: &str) -> Option<&Spanned<DeValue<'_>>> {
        self.table?.iter().find(|(k, _)| k.get_ref() == key).map(|(_, value)| value)
    }
}

fn text(value: &DeValue<'_>) -> Result<String, Fault> {
    match value.as_str() {
        None => Err(wrong_type("a string", value)),
        Some("") => Err("must not be empty".into()),
        Some(text) if text.contains('\0') => Err("must not have a zero byte in it".into()),
        Some(text) => Ok(text.to_string()),
    }
}

/// `None` for what is no integer, `Some(None)` for one that is negative or too large.
fn integer(value: &DeValue<'_>) -> Option<Option<u64>> {
    value.as_integer().map(|i| u64::from_str_radix(i.as_str(), i.radix()).ok())
}

fn in_range<T: PartialOrd>(
    value: Option<T>,
    range: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, Fault> {
    value
        .filter(|value| range.contains(value))
        .ok_or_else(|| format!("must be from {} to {}", show(range.start()), show(range.end())).into())
}
