//! What the configuration says of functions: whether they only read, and what they read and write. Whoever says that is
//! taken at their word, as far as there is in the catalog what they speak of.

use std::collections::HashMap;

use super::class::Case;
use super::functions;
use super::kept::AsksSettings;
use crate::catalog::function::Function;
use crate::catalog::path::is_temporary;
use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::{Catalog, Oid};
use crate::config::{self, Named};
use crate::sql::facts::Name;

/// Functions that the configuration speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// By name, with or without schema: whether they only read.
    pub functions: HashMap<String, bool>,
    /// What they read and write.
    declared: HashMap<Named, config::Function>,
}

impl Marks {
    /// Those of a configuration.
    pub fn new(config: &config::Plan) -> Marks {
        let reads = config.read_functions.iter().map(|name| (name.clone(), true));
        // What is said both ways writes.
        let writes = config.write_functions.iter().map(|name| (name.clone(), false));
        let declared = config.functions.iter().map(|f| (f.name.clone(), f.clone()));
        Marks { functions: reads.chain(writes).collect(), declared: declared.collect() }
    }

    pub(super) fn of(&self, name: &Name) -> Option<bool> {
        let qualified = name.schema.as_ref().and_then(|_| self.functions.get(&name.to_string()));
        qualified.or_else(|| self.functions.get(&*name.name)).copied()
    }

    fn declared(&self, schema: &str, name: &str) -> Option<&config::Function> {
        if self.declared.is_empty() {
            return None;
        }
        let named = |schema: Option<&str>| Named { schema: schema.map(Into::into), name: name.into() };
        self.declared.get(&named(Some(schema))).or_else(|| self.declared.get(&named(None)))
    }
}

/// What is said of a function, in a database.
pub(super) struct Declared<'a> {
    /// What it reads.
    reads: Vec<&'a Relation>,
    /// What it writes to.
    pub(super) writes: Vec<&'a Relation>,
}

/// The one relation with rows that is meant, or why there is none.
fn meant<'a>(catalog: &'a Catalog, named: &Named) -> Result<&'a Relation, String> {
    let has_rows = |relation: &&Relation| {
        use RelationKind::{ForeignTable, MaterializedView, PartitionedTable, Table, View};
        matches!(relation.kind, Table | PartitionedTable | View | MaterializedView | ForeignTable)
    };
    let within = |schema: Oid| catalog.relation_in(schema, &named.name).filter(has_rows);
    let schemas = catalog.schemas().iter().filter(|schema| match &named.schema {
        Some(name) => *schema.name == **name,
        None => !is_temporary(&schema.name),
    });
    let mut found = schemas.filter_map(|schema| within(schema.oid));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!("table {named} is not known")),
        (Some(_), Some(_)) => Err(format!("there are several tables {named}")),
    }
}

impl<'a> Case<'a> {
    fn said_of(&self, catalog: &Catalog, function: &Function) -> Option<&'a config::Function> {
        let schema = catalog.schema_by_oid(function.schema).filter(|schema| &*schema.name != "pg_catalog")?;
        self.known.marks.declared(&schema.name, &function.name)
    }

    /// What is said of a function; or why that does not count.
    pub(super) fn declaration(
        &self,
        catalog: &'a Catalog,
        function: &Function,
    ) -> Option<Result<Declared<'a>, String>> {
        let said = self.said_of(catalog, function)?;
        let all = |names: &[Named]| -> Result<Vec<&'a Relation>, String> {
            names.iter().map(|named| meant(catalog, named)).collect()
        };
        let tables = all(&said.reads).and_then(|reads| Ok(Declared { reads, writes: all(&said.writes)? }));
        Some(tables)
    }

    /// Goes by what is said of a function that is called. False where there is nothing to go by.
    pub(super) fn declared(&mut self, catalog: &'a Catalog, name: &Name, function: &'a Function) -> bool {
        let said = match self.declaration(catalog, function) {
            None => return false,
            Some(Ok(said)) => said,
            Some(Err(why)) => {
                let why = format!("what the configuration says of {name} does not count: {why}");
                self.fleeting(|| why.clone());
                // Whatever its volatility promises.
                if self.said_of(catalog, function).is_some_and(|said| !said.writes.is_empty()) {
                    self.unknown(why);
                    return true;
                }
                self.noted(why);
                return false;
            }
        };
        if !self.seen.insert(function.oid) {
            return true;
        }
        match said.writes.as_slice() {
            [] => self.noted(format!("the configuration says what {name} reads")),
            writes => {
                let names: Vec<_> = writes.iter().map(|table| &*table.name).collect();
                self.against(format!("the configuration says that {name} writes to {}", names.join(", ")));
            }
        }
        // What it asks of its session is not said, either.
        let by_name = function.body.as_deref().is_some_and(functions::asks_settings);
        let asks = if by_name { AsksSettings::Yes } else { AsksSettings::Perhaps };
        self.asks_settings = self.asks_settings.max(asks);
        // Which of their rows is not said.
        self.beyond |= !said.reads.is_empty();
        for relation in said.reads {
            let named = Name { schema: None, name: relation.name.as_ref().into() };
            self.reads(catalog, &named, relation);
        }
        said.writes.into_iter().for_each(|relation| self.written(catalog, relation));
        self.defaults(name, function);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::relation::{Persistence, Trigger, View};
    use crate::catalog::{Contents, Schema, SearchPath, Volatility};
    use crate::core::clock::Instant;
    use crate::plan::Class;
    use crate::plan::class::{Judgement, Knowledge, judge};
    use crate::plan::touch::{Defines, Reach};
    use crate::sql::class::facts;
    use crate::sql::shape::Shape;

    /// Tables 1 and 2 in public, and a view 3 of 2; 4 in app, which has the name of 1; 5 in public, whose trigger's
    /// function is 14. The functions `label` and `log` in app, and the procedure `work`.
    fn catalog() -> Catalog {
        let schema = |(oid, name): (Oid, &str)| Schema {
            oid,
            name: name.into(),
            usage: crate::catalog::Usage::Everyone,
            ..Schema::default()
        };
        let table = |oid, schema, name: &str| Relation {
            oid,
            schema,
            name: name.into(),
            kind: RelationKind::Table,
            persistence: Persistence::Permanent,
            ..Relation::default()
        };
        let definition = Some("SELECT 1 FROM public.two".into());
        let view = Some(Box::new(View { definition, relations: [2].into(), ..View::default() }));
        let triggers = [Trigger { function: 14, ..Trigger::default() }].into();
        let function = |oid, name: &str, kind| Function {
            oid,
            schema: 7,
            name: name.into(),
            kind,
            arguments: [23].into(),
            volatility: Volatility::Volatile,
            language: "plpgsql".into(),
            body: Some("BEGIN RETURN now(); END".into()),
            ..Function::default()
        };
        use crate::catalog::function::FunctionKind;
        let contents = Contents {
            schemas: [(6, "public"), (7, "app"), (8, "pg_catalog"), (9, "pg_temp_1")].map(schema).into(),
            relations: vec![
                table(1, 6, "one"),
                table(2, 6, "two"),
                Relation { kind: RelationKind::View, view, ..table(3, 6, "seen") },
                table(4, 7, "one"),
                Relation { triggers, ..table(5, 6, "five") },
                table(9, 9, "two"),
            ],
            functions: vec![
                function(11, "label", FunctionKind::Function),
                function(12, "log", FunctionKind::Function),
                function(13, "work", FunctionKind::Procedure),
                function(14, "fires", FunctionKind::Function),
            ],
            operators: Some(Vec::new()),
            casts: Some(Vec::new()),
            ..Contents::default()
        };
        Catalog::new(contents, Instant::now())
    }

    fn named(text: &str) -> Named {
        match text.split_once('.') {
            Some((schema, name)) => Named { schema: Some(schema.into()), name: name.into() },
            None => Named { schema: None, name: text.into() },
        }
    }

    /// What is made of a statement where that is said of functions: name, what it reads, what it writes.
    fn judged(sql: &str, said: &[(&str, &[&str], &[&str])]) -> Judgement {
        let all = |names: &[&str]| names.iter().map(|name| named(name)).collect();
        let functions = said.iter().map(|(name, reads, writes)| config::Function {
            name: named(name),
            reads: all(reads),
            writes: all(writes),
        });
        let plan = config::Plan { functions: functions.collect(), ..config::Plan::default() };
        let (marks, catalog) = (Marks::new(&plan), catalog());
        let path = SearchPath::parse("public, app", "somebody").expect("a path");
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        let known = Knowledge { marks: &marks, catalog: Some(&catalog), path: Some(&path) };
        judge(&facts(sql.as_bytes(), &shape), &shape.normal, known)
    }

    fn tables(oids: &[Oid]) -> Reach {
        Reach::Tables(oids.into())
    }

    #[test]
    fn what_is_read_is_what_is_said() {
        for (sql, said, want) in [
            ("SELECT label(1)", (&["two"][..], &[][..]), &[2][..]),
            ("SELECT app.label(1) FROM public.one", (&["two"], &[]), &[1, 2]),
            ("SELECT label(1)", (&["seen", "app.one"], &[]), &[2, 3, 4]),
            ("SELECT label(1)", (&[], &[]), &[]),
        ] {
            for name in ["label", "app.label"] {
                let found = judged(sql, &[(name, said.0, said.1)]);
                assert_eq!(found.class, Class::Read, "{sql}: {:?}", found.reasons);
                assert_eq!((&found.touches.reads, found.fleeting), (&tables(want), None), "{sql}");
                assert!(found.touches.is_nothing_but_reading(), "{sql}");
                assert_eq!(found.beyond, !said.0.is_empty(), "which rows of those is not known");
            }
        }
    }

    #[test]
    fn what_is_not_there_does_not_count() {
        for (table, why) in
            [("three", "three is not known"), ("one", "several tables one"), ("app.two", "app.two is not")]
        {
            for said in [("label", &[table][..], &[][..]), ("label", &[], &[table])] {
                let found = judged("SELECT label(1) FROM two", &[said]);
                assert_eq!(found.class, Class::Primary, "{table}");
                assert_eq!(
                    (found.touches.writes, found.touches.defines),
                    (Reach::Anything, Defines::Nothing)
                );
                assert!(found.fleeting.is_some_and(|fleeting| fleeting.contains(why)), "{table}");
                assert!(
                    found.reasons.iter().any(|reason| reason.text.contains(why)),
                    "{table}: {:?}",
                    found.reasons
                );
            }
        }
        // Nor does what is said of another.
        let found = judged("SELECT label(1) FROM two", &[("public.label", &["two"], &[])]);
        assert_eq!((found.class, found.touches.writes), (Class::Primary, Reach::Anything));
    }

    #[test]
    fn what_is_written_is_what_is_said() {
        let log: (&str, &[&str], &[&str]) = ("app.log", &[], &["public.one"]);
        let fires: (&str, &[&str], &[&str]) = ("fires", &[], &["two"]);
        let work: (&str, &[&str], &[&str]) = ("work", &[], &["app.one"]);
        for (sql, want) in [
            ("SELECT log(1) FROM two", &[1][..]),
            ("UPDATE two SET a = log(1)", &[1, 2]),
            ("INSERT INTO five VALUES (1)", &[2, 5]),
            ("CALL work(1)", &[4]),
            ("CALL app.work(log(2))", &[1, 4]),
        ] {
            let found = judged(sql, &[log, fires, work]);
            assert_eq!((found.class, found.touches.writes), (Class::Primary, tables(want)), "{sql}");
            assert_eq!(found.touches.defines, Defines::Nothing, "{sql}");
        }
        for sql in [
            "SELECT log(1) FROM two",
            "INSERT INTO five VALUES (1)",
            "CALL work(1)",
            "CALL nothing(1)",
            "DO 'BEGIN END'",
        ] {
            assert_eq!(judged(sql, &[]).touches.writes, Reach::Anything, "{sql}");
        }
        let found = judged("CALL work(unknown(2))", &[work]);
        assert_eq!((found.touches.writes, found.touches.defines), (Reach::Anything, Defines::Perhaps));
    }
}
