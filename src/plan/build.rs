//! The one recipe for a plan: what the statements mean, what they may leave behind, who may serve them.

use std::sync::Arc;

use super::class::{self, Knowledge};
use super::rules::{About, Rules};
use super::store::Scope;
use super::{Names, Plan, Reading, Tie, explain, hint, kept, row, sameness};
use crate::core::clock::Instant;
use crate::sql::class::facts;
use crate::sql::effect::Traces;
use crate::sql::facts::{Effect, Facts};
use crate::sql::fingerprint::fingerprint;
use crate::sql::parse::Gap;
use crate::sql::shape::Shape;
use crate::sql::transaction::{self, Control};

/// What a plan is made under.
#[derive(Clone, Debug)]
pub struct Under<'a> {
    /// What it is judged by.
    pub known: Knowledge<'a>,
    /// The rules that it may match.
    pub rules: &'a Rules,
    /// What the text is read under.
    pub scope: Scope,
    /// How the text is read.
    pub reading: Reading,
    /// Which database it is for.
    pub names: Arc<Names>,
}

/// Encodings in which the second byte of a character may look like a backslash or a letter (documentation, "Character
/// Set Support": those that are no server encodings).
pub fn is_ambiguous(encoding: &str) -> bool {
    const NAMES: &[&str] = &[
        "big5",
        "gb18030",
        "gbk",
        "johab",
        "sjis",
        "shiftjis",
        "mskanji",
        "win932",
        "windows932",
        "shiftjis2004",
        "uhc",
        "win949",
        "windows949",
        "win936",
        "windows936",
        "win950",
        "windows950",
    ];
    let plain: String =
        encoding.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    NAMES.contains(&plain.as_str())
}

/// Whether a text may be about settings that speak to us. Those that are, are short.
fn speaks(normal: &[u8]) -> bool {
    const LONGEST: usize = 4096;
    let names = [&b"turnpike . "[..], b"\"turnpike\" . "];
    normal.len() <= LONGEST && names.iter().any(|name| normal.windows(name.len()).any(|w| w == *name))
}

/// What each statement means, as far as its bytes can be told apart.
fn meant(text: &[u8], shape: &Shape, reading: Reading) -> Vec<Facts> {
    let mut statements = facts(text, shape);
    if reading.is_ambiguous && !text.is_ascii() {
        statements.iter_mut().for_each(|s| s.gap = Some(Gap::Encoding));
    }
    statements.iter_mut().for_each(|facts| facts.shrink());
    statements.shrink_to_fit();
    statements
}

/// What is one query, and nothing else.
fn query(statements: &[Facts]) -> Option<&Facts> {
    statements.first().filter(|one| statements.len() == 1 && one.effect == Effect::Read)
}

/// What they do, and to which row, where that is all and somebody keeps results.
fn judge(statements: &[Facts], shape: &Shape, under: &Under<'_>) -> class::Judgement {
    let mut judgement = class::judge(statements, &shape.normal, under.known);
    let catalog = under.known.catalog.filter(|_| !under.rules.cache.is_empty());
    if let (Some(catalog), [one]) = (catalog, statements) {
        let touches = &mut judgement.touches;
        touches.row = row::written(one, &shape.normal, touches, catalog).map(Box::new);
    }
    judgement
}

/// Builds the plan of `text`, which `shape` was read from.
pub fn build(text: &[u8], shape: &Shape, under: Under<'_>) -> Plan {
    let began = Instant::now();
    let explains = explain::wanted(text, shape);
    // That is answered with another plan, and never sent as it is.
    let statements = if explains.is_some() { Vec::new() } else { meant(text, shape, under.reading) };
    let traces = statements.iter().fold(Traces::NONE, |all, s| all.and(s.traces));
    let judgement = judge(&statements, shape, &under);
    let class::Judgement { class, mut reasons, touches, tie, varies, fleeting, .. } = judgement;
    reasons.shrink_to_fit();
    let tie = if transaction::stays(shape) { Tie::Bound } else { tie };
    let fingerprint = fingerprint(&shape.normal);
    let about = About {
        statements: &statements,
        class,
        fingerprint,
        touches: &touches,
        catalog: under.known.catalog,
    };
    let kept = kept::About {
        text,
        normal: &shape.normal,
        fingerprint,
        class,
        reasons: &reasons,
        touches: &touches,
        fleeting,
        asks_settings: judgement.asks_settings,
        beyond: judgement.beyond,
        foreign: judgement.foreign,
        asks: hint::asks_cache(text, shape),
        query: query(&statements).filter(|_| explains.is_none()),
    };
    Plan {
        cache: kept::decide(kept, under.rules, under.known.catalog),
        rules: under.rules.routes.of_statement(&about),
        mirrors: under.rules.mirrors.of_statement(&about),
        sameness: sameness::of(shape, &statements, class, varies),
        serial: under.rules.serial,
        speaks: speaks(&shape.normal),
        asks: hint::directions(text, shape),
        normal: shape.normal.as_slice().into(),
        fingerprint,
        explains,
        home: under.names,
        gap: statements.iter().find_map(|facts| facts.gap),
        statements,
        traces,
        class,
        reasons,
        touches,
        tie,
        control: Control::of(shape),
        place: under.scope.place,
        generation: under.scope.generation,
        built: began,
        build_us: Instant::now().micros_since(began),
        parts: Default::default(),
        of_primary: Default::default(),
    }
}
