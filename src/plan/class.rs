//! Who may serve a statement, and why: any server only where nothing is left to doubt.

use std::collections::HashMap;

use super::functions::{self, Known};
use super::{Class, Reason};
use crate::sql::effect::Traces;
use crate::sql::facts::{Call, Effect, Facts, Name};

/// Functions that the configuration speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// By name, with or without schema: whether they only read.
    pub functions: HashMap<String, bool>,
}

impl Marks {
    /// Those of a configuration.
    pub fn new(config: &crate::config::Plan) -> Marks {
        let reads = config.read_functions.iter().map(|name| (name.clone(), true));
        // What is said both ways writes.
        let writes = config.write_functions.iter().map(|name| (name.clone(), false));
        Marks { functions: reads.chain(writes).collect() }
    }

    fn of(&self, name: &Name) -> Option<bool> {
        let qualified = name.schema.as_ref().and_then(|_| self.functions.get(&name.to_string()));
        qualified.or_else(|| self.functions.get(&*name.name)).copied()
    }
}

/// What speaks for and against, as it is found.
#[derive(Default)]
struct Case {
    reasons: Vec<Reason>,
}

/// Reasons above which more say nothing new.
const MOST: usize = 16;

impl Case {
    fn against(&mut self, text: impl Into<String>) {
        self.note(true, text.into());
    }

    fn for_read(&mut self, text: impl Into<String>) {
        self.note(false, text.into());
    }

    fn note(&mut self, against: bool, text: String) {
        let reason = Reason { against, text };
        if self.reasons.len() < MOST && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// Judges what a string of statements does.
pub fn judge(statements: &[Facts], marks: &Marks) -> (Class, Vec<Reason>) {
    let mut case = Case::default();
    match statements {
        [] => case.against("there is no statement"),
        [one] => judge_one(one, marks, &mut case),
        several => {
            case.against(format!("{} statements in one string run as one transaction", several.len()));
            several.iter().for_each(|one| judge_one(one, marks, &mut case));
        }
    }
    let class = if case.reasons.iter().any(|r| r.against) { Class::Primary } else { Class::Read };
    if class == Class::Read {
        case.for_read("it reads, and everything that it calls only reads");
    }
    (class, case.reasons)
}

fn judge_one(facts: &Facts, marks: &Marks, case: &mut Case) {
    if facts.effect != Effect::Read {
        let verb = if facts.verb.is_empty() { "an unknown statement" } else { &facts.verb };
        return case.against(match facts.effect {
            Effect::Write if facts.locks => format!("{verb} locks rows"),
            Effect::Write => format!("{verb} writes"),
            other => format!("{verb} is no query ({})", other.label()),
        });
    }
    if let Some(gap) = facts.gap {
        return case.against(format!("it is not understood ({})", gap.label()));
    }
    if facts.cursor {
        case.against("it works at a cursor's position");
    }
    for label in facts.traces.of(Traces::ASKABLE.and(Traces::CERTAIN)).labels() {
        case.against(format!("it may leave something in its session: {label}"));
    }
    for call in &facts.calls {
        judge_call(call, marks, case);
    }
    for relation in &facts.relations {
        let system = relation.name.schema.as_deref().is_none_or(|s| s == "pg_catalog");
        if system && functions::is_of_server(&relation.name.name) {
            case.against(format!("{} speaks of the server that is asked", relation.name));
        } else {
            case.against(format!("what {} is is not known without the catalog", relation.name));
        }
    }
}

fn judge_call(call: &Call, marks: &Marks, case: &mut Case) {
    let name = &call.name;
    match marks.of(name) {
        Some(true) => return case.for_read(format!("the configuration says that {name} only reads")),
        Some(false) => return case.against(format!("the configuration says that {name} may write")),
        None => {}
    }
    match functions::known(&name.name) {
        Some(Known::Primary) => case.against(format!("{name} belongs to the primary")),
        Some(Known::Read) => case.for_read(format!("{name} differs from call to call anyway")),
        None => case.against(format!("what {name} does is not known without the catalog")),
    }
}
