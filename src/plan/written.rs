//! What a statement may write besides the table that it names: by partitions, foreign keys, triggers, rules, views,
//! defaults and policies. What cannot be followed may write anything.

use super::class::Case;
use super::touch::Defines;
use crate::catalog::relation::{Relation, RelationKind, Trigger};
use crate::catalog::{Catalog, Resolved};
use crate::sql::facts::{Effect, Facts};

/// Whether a statement changes what there is, given whether it may write anything, and whether functions that it may call
/// then change that.
pub(super) fn defines(facts: &Facts, anything: bool, functions: bool) -> Defines {
    match facts.effect {
        Effect::Ddl => Defines::Objects,
        Effect::Transaction if !facts.verb.contains("PREPARED") => Defines::Nothing,
        Effect::Session | Effect::Utility if facts.gap.is_none() => Defines::Nothing,
        Effect::Read | Effect::Write | Effect::CopyIn | Effect::CopyOut | Effect::Cursor
            if facts.gap.is_none() && !functions =>
        {
            Defines::Nothing
        }
        // A procedure of which it is said what it does.
        Effect::Code if facts.verb == CALL && facts.gap.is_none() && !anything => Defines::Nothing,
        _ => Defines::Perhaps,
    }
}

/// The verb of what calls a procedure.
const CALL: &str = "CALL";

impl<'a> Case<'a> {
    /// Notes what a statement that is no plain read may write.
    pub(super) fn writes(&mut self, facts: &Facts) {
        match facts.effect {
            Effect::Read => return,
            // They leave the tables as they are; what a transaction wrote counts when it ends.
            Effect::Session => return,
            Effect::Utility if facts.verb == "LOCK" => return,
            // What a cursor's query may write is its functions' doing.
            Effect::Cursor if facts.verb != "DECLARE" => return,
            Effect::Transaction if !facts.verb.contains("PREPARED") => return,
            Effect::Write | Effect::CopyIn | Effect::CopyOut => {}
            Effect::Code if facts.verb == CALL => {}
            _ => return self.writes.add_anything(),
        }
        let named = facts.relations.iter().any(|relation| relation.written);
        let Some(catalog) = self.known.catalog.filter(|_| facts.gap.is_none()) else {
            return self.writes.add_anything();
        };
        let may_name_none = facts.locks || matches!(facts.effect, Effect::CopyOut | Effect::Code);
        if facts.verb.starts_with("TRUNCATE") || !named && !may_name_none {
            return self.writes.add_anything();
        }
        for relation in facts.relations.iter().filter(|relation| relation.written) {
            let found = self.known.path.map(|path| {
                catalog.relation(path, relation.name.schema.as_deref(), &relation.name.name, false)
            });
            match found {
                Some(Resolved::Known(known)) => self.written(catalog, known),
                // Nobody else sees it.
                Some(Resolved::Temporary) => {}
                Some(Resolved::Unknown) | None => self.writes.add_anything(),
            }
        }
        // What it reads and calls may write, too; why that keeps it from replicas is said already.
        self.silent = true;
        self.query(facts);
        self.silent = false;
    }

    /// A relation whose rows are written.
    pub(super) fn written(&mut self, catalog: &'a Catalog, relation: &'a Relation) {
        if !self.writes.add(relation.oid) {
            return;
        }
        let known = !relation.incomplete
            && relation.triggers.iter().all(|trigger| self.fires(catalog, trigger))
            && relation.rules.is_empty()
            && matches!(
                relation.kind,
                RelationKind::Table | RelationKind::PartitionedTable | RelationKind::View
            );
        if !known {
            return self.writes.add_anything();
        }
        // A view that can be written to writes to what it reads.
        let beneath = relation.view.iter().flat_map(|view| view.relations.iter());
        let keys =
            relation.referenced_by.iter().filter(|key| key.on_delete.writes() || key.on_update.writes());
        let further = relation.children.iter().chain(beneath).copied().chain(keys.map(|key| key.from));
        for oid in further {
            match catalog.relation_by_oid(oid) {
                Some(other) => self.written(catalog, other),
                None => self.writes.add_anything(),
            }
        }
        self.above(catalog, relation);
        self.expressions(relation);
        let silent = std::mem::replace(&mut self.silent, true);
        self.columns(catalog, relation);
        self.column_defaults(catalog, relation);
        self.silent = silent;
    }

    /// What a trigger writes. False where that is not known.
    fn fires(&mut self, catalog: &'a Catalog, trigger: &Trigger) -> bool {
        if catalog.is_teller(trigger.function) {
            return true;
        }
        // A condition may call anything.
        let function = catalog.function_by_oid(trigger.function).filter(|_| !trigger.conditional);
        let Some(said) = function.and_then(|f| self.declaration(catalog, f)?.ok()) else { return false };
        said.writes.into_iter().for_each(|relation| self.written(catalog, relation));
        true
    }

    /// Who reads a table reads its parts.
    fn above(&mut self, catalog: &Catalog, relation: &Relation) {
        for oid in &relation.parents {
            if self.writes.add(*oid)
                && let Some(parent) = catalog.relation_by_oid(*oid)
            {
                self.above(catalog, parent);
            }
        }
    }

    /// Expressions that are evaluated for each row.
    fn expressions(&mut self, relation: &'a Relation) {
        let defaults = relation.columns.iter().filter_map(|c| c.default.as_deref());
        let checks = relation.checks.iter().filter_map(|c| c.expression.as_deref());
        let policies = relation
            .policies
            .iter()
            .flat_map(|p| p.using.as_deref().into_iter().chain(p.with_check.as_deref()));
        // Constants and sequences are most of them.
        let calls = |text: &str| text.matches('(').count();
        let plain = |text: &&str| calls(text) > usize::from(text.starts_with("nextval("));
        let texts: Vec<&str> = defaults.chain(checks).chain(policies).filter(plain).collect();
        self.silent = true;
        for text in texts {
            self.inside(&format!("SELECT {text}"), "an expression of the table");
        }
        self.silent = false;
    }
}
