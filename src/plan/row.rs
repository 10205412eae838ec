//! Whether a statement reads one row of one table, by its primary key, and nothing else: then what becomes of other rows
//! does not matter to its result. And whether it writes one, and nothing else: then what was read from others stays true.
//!
//! What writes may be too much for it to be told by row in many ways; each that is not excluded here is one by which
//! something stale is given. So only what is written in one of three ways is looked at, UPDATE and DELETE with nothing but
//! their target to read from, and INSERT of VALUES, of a table without triggers, rules, parts, policies, or foreign keys that
//! carry changes on, by the system's own functions and operators alone. All else is by table.

use super::touch::{Defines, Touches};
use crate::cache::rows::{KeyColumn, Kind, RowKey};
use crate::catalog::relation::{Generated, Key, Relation, RelationKind};
use crate::catalog::{Catalog, Oid};
use crate::sql::facts::{Facts, Operand, Roles};
use crate::sql::lex::Kind as Token;
use crate::sql::normal::{Tok, tokens};

/// Where a statement that reads these tables has the key of the one row that it reads.
pub(super) fn of(facts: &Facts, normal: &[u8], tables: &[Oid], catalog: &Catalog) -> Option<RowKey> {
    // What it names is what it reads: behind a view there would be a second one.
    let (&[table], [_]) = (tables, facts.relations.as_slice()) else { return None };
    let (relation, key) = keyed(catalog.relation_by_oid(table)?)?;
    let tokens = tokens(normal);
    row_key(facts, relation, key, |operand, _| is_compared_as_it_is(operand, &tokens))
}

/// A table whose rows are all its own, and what they are known by.
fn keyed(relation: &Relation) -> Option<(&Relation, &Key)> {
    if relation.kind != RelationKind::Table || relation.incomplete || !relation.children.is_empty() {
        return None;
    }
    let key = relation.primary_key()?;
    (key.immediate && !key.partial && key.deterministic).then_some((relation, key))
}

/// The key, if each of its columns is compared with, or given, one value that `fits`.
fn row_key(
    facts: &Facts,
    relation: &Relation,
    key: &Key,
    fits: impl Fn(Operand, &str) -> bool,
) -> Option<RowKey> {
    let (mut columns, mut operands) = (Vec::new(), Vec::new());
    for number in &key.columns {
        let column = relation.column_numbered(*number)?;
        columns.push(KeyColumn { number: *number, kind: Kind::of(column.type_oid)? });
        let compared = facts.predicates.iter().filter(|p| *p.column == *column.name);
        let single = compared.filter_map(|p| match p.operands.as_slice() {
            [one] => Some(*one),
            _ => None,
        });
        operands.push(single.into_iter().find(|operand| fits(*operand, &column.name))?);
    }
    Some(RowKey { table: relation.oid, columns: columns.into(), operands: operands.into() })
}

/// Where a statement that touches that, and nothing else, has the key of the one row that it writes.
pub(super) fn written(facts: &Facts, normal: &[u8], touches: &Touches, catalog: &Catalog) -> Option<RowKey> {
    let (&[table], [named]) = (touches.writes.tables(), facts.relations.as_slice()) else { return None };
    let understood = facts.gap.is_none() && !facts.cursor && !touches.calls;
    if !understood || touches.defines != Defines::Nothing {
        return None;
    }
    let (relation, key) = keyed(catalog.relation_by_oid(table)?)?;
    if !keeps_to_itself(relation, catalog) {
        return None;
    }
    let tokens = tokens(normal);
    let way = Way::of(&tokens)?;
    let names = key.columns.iter().map(|number| Some(&*relation.column_numbered(*number)?.name));
    let names: Vec<&str> = names.collect::<Option<_>>()?;
    let assigned = |name: &str| {
        named.columns.iter().any(|(column, roles)| **column == *name && roles.any(Roles::WRITTEN))
    };
    match way {
        // Another key is another row.
        Way::Update if names.iter().any(|name| assigned(name)) => return None,
        Way::Update | Way::Delete if !has_own_equality(catalog) => return None,
        Way::Insert { conflict: Some(at) } if !updates_the_same(&tokens[at..], relation, key, &names) => {
            return None;
        }
        _ => {}
    }
    row_key(facts, relation, key, |operand, name| match way {
        Way::Insert { .. } => is_given_as_it_is(operand, &tokens),
        Way::Update | Way::Delete => {
            is_compared_as_it_is(operand, &tokens) && is_all_of_a_condition(operand, name, &tokens)
        }
    })
}

/// Whether writing a row of it writes no other, here or elsewhere, and its key says which it is.
fn keeps_to_itself(relation: &Relation, catalog: &Catalog) -> bool {
    let carries = relation.referenced_by.iter().any(|key| key.on_delete.writes() || key.on_update.writes());
    let fires = relation.triggers.iter().any(|trigger| !catalog.is_teller(trigger.function));
    let made = relation.primary_key().is_none_or(|key| {
        key.columns.iter().any(|number| {
            relation.column_numbered(*number).is_none_or(|c| c.generated == Generated::Expression)
        })
    });
    // A policy only leaves rows out, but what it calls may write.
    let plain = relation.rules.is_empty() && relation.policies.is_empty() && relation.parents.is_empty();
    plain && !carries && !fires && !made
}

/// Whether `=` of what keys are of is the system's.
fn has_own_equality(catalog: &Catalog) -> bool {
    let system = catalog.schema("pg_catalog").map(|schema| schema.oid);
    let others = |name: &str, schema: Oid| name == "=" && Some(schema) != system;
    catalog.operators().is_some_and(|all| !all.iter().any(|o| others(&o.name, o.schema)))
}

/// How a statement writes that reads nothing but what it writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Update,
    Delete,
    /// What is said of rows that are there stands there, where it is to change them.
    Insert {
        conflict: Option<usize>,
    },
}

impl Way {
    /// Of its tokens, if it is written in such a way.
    fn of(tokens: &[Tok<'_>]) -> Option<Way> {
        // Whatever may bring in other rows, or another value than the one that is given.
        const MORE: &[&str] =
            &["select", "with", "from", "using", "table", "merge", "for", "overriding", "current"];
        let (first, rest) = tokens.split_first()?;
        let count = |word: &str| rest.iter().filter(|t| t.is(word)).count();
        let is_plain = |rest: &[Tok<'_>]| !rest.iter().any(|t| t.is_any(MORE));
        if first.is("update") {
            return (is_plain(rest) && count("values") == 0).then_some(Way::Update);
        }
        if first.is("delete") {
            let (from, rest) = rest.split_first()?;
            return (from.is("from") && is_plain(rest) && count("values") == 0).then_some(Way::Delete);
        }
        if !first.is("insert") || !is_plain(rest) || count("values") != 1 {
            return None;
        }
        let conflict = match (count("update"), count("conflict")) {
            (0, _) => None,
            (1, 1) => Some(1 + rest.iter().position(|t| t.is("conflict"))?),
            _ => return None,
        };
        Some(Way::Insert { conflict })
    }
}

/// Whether `CONFLICT (key) DO UPDATE SET ...` changes the row that has the key which is given, and leaves it that. No other
/// index may be meant by these columns.
fn updates_the_same(tokens: &[Tok<'_>], relation: &Relation, key: &Key, names: &[&str]) -> bool {
    let same = |other: &&Key| {
        other.columns.len() == key.columns.len() && other.columns.iter().all(|c| key.columns.contains(c))
    };
    if relation.keys.iter().filter(same).count() != 1 || !tokens.get(1).is_some_and(|t| t.is_punct(b'(')) {
        return false;
    }
    let Some(end) = tokens.iter().position(|t| t.is_punct(b')')) else { return false };
    let (columns, rest) = tokens.split_at(end);
    let listed: Vec<&[u8]> = columns[2..].iter().map(|t| t.text).filter(|text| *text != b",").collect();
    let is_key = |text: &[u8]| names.iter().any(|name| name.as_bytes() == text);
    let whole = listed.len() == names.len()
        && columns[2..].iter().all(|t| t.is_punct(b',') || t.kind == Token::Word && is_key(t.text))
        && names.iter().all(|name| listed.contains(&name.as_bytes()));
    let does = ["do", "update", "set"].iter().zip(&rest[1..]).filter(|(word, t)| t.is(word)).count() == 3;
    // Names in quotes are not compared: they may be written in several ways.
    let set = rest.get(4..).unwrap_or_default();
    let assigns = set.iter().enumerate().any(|(i, t)| {
        let qualified = i.checked_sub(1).is_some_and(|before| set[before].is_punct(b'.'));
        t.kind == Token::Quoted || t.kind == Token::Word && is_key(t.text) && !qualified
    });
    whole && does && !assigns
}

/// Where a value stands in the statement, if that is once.
fn place(operand: Operand, tokens: &[Tok<'_>]) -> Option<usize> {
    let is_it = |token: &Tok<'_>| match operand {
        Operand::Mark(mark) => token.mark == Some(mark),
        Operand::Param(number) => {
            token.kind == Token::Param && token.text.strip_prefix(b"$") == Some(number.to_string().as_bytes())
        }
    };
    let mut places = tokens.iter().enumerate().filter(|(_, token)| is_it(token));
    let (Some((at, _)), None) = (places.next(), places.next()) else { return None };
    Some(at)
}

/// Whether a value is one of VALUES as it stands there.
fn is_given_as_it_is(operand: Operand, tokens: &[Tok<'_>]) -> bool {
    let Some(at) = place(operand, tokens) else { return false };
    let opens = |t: &Tok<'_>| t.is_punct(b'(') || t.is_punct(b',');
    let closes = |t: &Tok<'_>| t.is_punct(b')') || t.is_punct(b',');
    at.checked_sub(1).is_some_and(|before| opens(&tokens[before])) && tokens.get(at + 1).is_some_and(closes)
}

/// Whether `column = value` is all that stands between two words of a condition, or parentheses.
fn is_all_of_a_condition(operand: Operand, column: &str, tokens: &[Tok<'_>]) -> bool {
    let Some(at) = place(operand, tokens) else { return false };
    let ends = tokens
        .get(at + 1)
        .is_none_or(|next| next.is_any(&["and", "returning"]) || next.is_punct(b')') || next.is_punct(b';'));
    let Some(name) = at.checked_sub(2).and_then(|i| tokens.get(i)) else { return false };
    let quoted = name.text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    ends && match name.kind {
        Token::Word => name.text == column.as_bytes(),
        Token::Quoted => quoted == Some(column.as_bytes()),
        _ => false,
    }
}

/// Whether a value stands in the statement once, right behind `=`, and no cast behind it: its type is then the column's, or
/// what the client has declared.
fn is_compared_as_it_is(operand: Operand, tokens: &[Tok<'_>]) -> bool {
    let Some(at) = place(operand, tokens) else { return false };
    let follows = at.checked_sub(1).is_some_and(|before| tokens[before].text == b"=");
    follows && !tokens.get(at + 1).is_some_and(|next| next.is_punct(b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::relation::{Action, Column, ForeignKey, Policy, Rule, Trigger};
    use crate::catalog::{Contents, Operator, Volatility};
    use crate::core::clock::Instant;
    use crate::plan::touch::Reach;
    use crate::sql::class::facts;
    use crate::sql::shape::Shape;
    use proptest::prelude::*;

    fn table(oid: Oid, columns: &[(i16, &str, Oid)], key: &[i16]) -> Relation {
        let column = |(number, name, type_oid): &(i16, &str, Oid)| Column {
            number: *number,
            name: (*name).into(),
            type_oid: *type_oid,
            ..Column::default()
        };
        let key = Key {
            primary: true,
            immediate: true,
            deterministic: true,
            columns: key.into(),
            ..Key::default()
        };
        Relation {
            oid,
            kind: RelationKind::Table,
            columns: columns.iter().map(column).collect(),
            keys: [key].into(),
            ..Relation::default()
        }
    }

    fn ids(oid: Oid) -> Relation {
        table(oid, &[(1, "id", 20), (2, "v", 20)], &[1])
    }

    /// Tables 1 with `id`, 2 with `a` and `b` by both of which its rows are known, and 3 that has a child.
    fn relations() -> Vec<Relation> {
        let pair = table(2, &[(1, "a", 20), (2, "b", 20), (3, "v", 20)], &[2, 1]);
        vec![ids(1), pair, Relation { children: [9].into(), ..ids(3) }]
    }

    fn of_relations(relations: Vec<Relation>) -> Catalog {
        let operators = Some(Vec::new());
        Catalog::new(Contents { relations, operators, ..Contents::default() }, Instant::now())
    }

    fn read(sql: &str) -> (Shape, Vec<Facts>) {
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        let statements = facts(sql.as_bytes(), &shape);
        (shape, statements)
    }

    fn operands(sql: &str, tables: &[Oid]) -> Option<Vec<Operand>> {
        let (shape, statements) = read(sql);
        let [one] = statements.as_slice() else { return None };
        of(one, &shape.normal, tables, &of_relations(relations())).map(|key| key.operands.to_vec())
    }

    fn writes(table: Oid) -> Touches {
        Touches { writes: Reach::Tables([table].into()), ..Touches::default() }
    }

    fn key_of(sql: &str, touches: &Touches, catalog: &Catalog) -> Option<RowKey> {
        let (shape, statements) = read(sql);
        let [one] = statements.as_slice() else { return None };
        written(one, &shape.normal, touches, catalog)
    }

    fn written_by(sql: &str, table: Oid) -> Option<Vec<Operand>> {
        key_of(sql, &writes(table), &of_relations(relations())).map(|key| key.operands.to_vec())
    }

    #[test]
    fn what_reads_one_row() {
        use Operand::{Mark, Param};
        for (sql, table, want) in [
            ("SELECT * FROM t WHERE id = $1", 1, vec![Param(1)]),
            ("SELECT v FROM t WHERE v > 3 AND (id = 42) ORDER BY 1 LIMIT 1", 1, vec![Mark(1)]),
            ("SELECT x.v FROM s.t AS x WHERE x.id = '42'", 1, vec![Mark(0)]),
            ("SELECT EXISTS (SELECT FROM t WHERE id = $2)", 1, vec![Param(2)]),
            ("SELECT * FROM t WHERE a = 1 AND b = $1", 2, vec![Param(1), Mark(0)]),
        ] {
            assert_eq!(operands(sql, &[table]), Some(want), "{sql}");
        }
        for (sql, table) in [
            ("SELECT * FROM t", 1),
            ("SELECT * FROM t WHERE v = 1", 1),
            ("SELECT * FROM t WHERE id > 1", 1),
            ("SELECT * FROM t WHERE id = 1 OR v = 2", 1),
            ("SELECT * FROM t WHERE id IN (1, 2)", 1),
            ("SELECT * FROM t WHERE id = 1::float8", 1),
            ("SELECT * FROM t WHERE id = CAST($1 AS float8)", 1),
            ("SELECT * FROM t WHERE id = float8 '1'", 1),
            ("SELECT $1::float8 FROM t WHERE id = $1", 1),
            ("SELECT * FROM t WHERE id = $1 + 1", 1),
            ("SELECT * FROM t WHERE id = 1 UNION SELECT * FROM t", 1),
            ("SELECT * FROM t, u WHERE t.id = 1", 1),
            ("SELECT * FROM t WHERE a = 1", 2),
            ("SELECT * FROM t WHERE id = 1", 3),
        ] {
            assert_eq!(operands(sql, &[table]), None, "{sql}");
        }
        assert_eq!(operands("SELECT * FROM view WHERE id = 1", &[1, 7]), None);
    }
    #[test]
    fn what_writes_one_row() {
        use Operand::{Mark, Param};
        for (sql, table, want) in [
            ("UPDATE t SET v = $1 WHERE id = $2", 1, vec![Param(2)]),
            ("update only t set v = v + 1 where (id = 42) and v > 3 returning *", 1, vec![Mark(1)]),
            ("UPDATE s.t AS x SET v = 7 WHERE x.id = '42';", 1, vec![Mark(1)]),
            ("UPDATE t SET (v) = ROW(1) WHERE \"id\" = 1", 1, vec![Mark(1)]),
            ("DELETE FROM t WHERE id = $1", 1, vec![Param(1)]),
            ("DELETE FROM t x WHERE v = 1 AND x.id = 5 RETURNING v", 1, vec![Mark(1)]),
            ("UPDATE t SET v = 1 WHERE a = 1 AND b = $1", 2, vec![Param(1), Mark(1)]),
            ("INSERT INTO t (id, v) VALUES ($1, 5)", 1, vec![Mark(0)]),
            ("INSERT INTO t AS x (v, id) VALUES (5, '7') RETURNING v", 1, vec![Mark(1)]),
            ("INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT DO NOTHING", 1, vec![Mark(0)]),
            ("INSERT INTO t (id, v) VALUES (1, f(2)) ON CONFLICT (v) DO NOTHING", 1, vec![Mark(0)]),
            (
                "INSERT INTO t (id, v) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = excluded.v WHERE t.id > 0",
                1,
                vec![Mark(0)],
            ),
            (
                "INSERT INTO t (a, b, v) VALUES (1, 2, 3) ON CONFLICT (a, b) DO UPDATE SET v = 4",
                2,
                vec![Mark(1), Mark(0)],
            ),
        ] {
            assert_eq!(written_by(sql, table), Some(want), "{sql}");
        }
    }

    #[test]
    fn what_may_write_more_than_one_row() {
        for sql in [
            "UPDATE t SET v = 1",
            "UPDATE t SET v = 1 WHERE v = 1",
            "UPDATE t SET v = 1 WHERE id > 1",
            "UPDATE t SET v = 1 WHERE id = 1 OR v = 2",
            "UPDATE t SET v = 1 WHERE NOT id = 1",
            "UPDATE t SET v = 1 WHERE (id = 1) IS NOT TRUE",
            "UPDATE t SET v = 1 WHERE (id = 1) = (v = 2)",
            "UPDATE t SET v = 1 WHERE id IN (1, 2)",
            "UPDATE t SET v = 1 WHERE id = ANY ($1)",
            "UPDATE t SET v = 1 WHERE id = $1::float8",
            "UPDATE t SET v = 1 WHERE id = $1 + 1",
            "UPDATE t SET v = 1 WHERE id = - 1",
            "UPDATE t SET v = 1 WHERE id = $1 COLLATE \"c\"",
            "UPDATE t SET v = 1 WHERE id = 1 OPERATOR(pg_catalog.+) 1",
            "UPDATE t SET v = 1 WHERE id OPERATOR(mine.=) 1",
            "UPDATE t SET v = $1 WHERE id = $1",
            "UPDATE t SET v = (id = 1)::int",
            "UPDATE t SET v = 1 WHERE CURRENT OF c",
            // Another key is another row.
            "UPDATE t SET id = 2 WHERE id = 1",
            "UPDATE t SET (v, id) = (1, 2) WHERE id = 1",
            "UPDATE t SET v = 1, \"id\" = 3 WHERE id = 1",
            // What it reads besides may multiply what is found, or be what the condition is about.
            "UPDATE t SET v = x.v FROM t AS x WHERE x.id = 1",
            "UPDATE t SET v = x.v FROM t AS x WHERE t.id = 1",
            "UPDATE t SET v = u.v FROM u WHERE t.id = 1",
            "UPDATE t SET v = 1 WHERE EXISTS (SELECT FROM t WHERE id = 1)",
            "UPDATE t SET v = (SELECT max(v) FROM t x WHERE x.id = 1)",
            "WITH x AS (SELECT 1) UPDATE t SET v = 1 WHERE id = 1",
            "WITH x AS (UPDATE t SET v = 1 WHERE id = 1 RETURNING v) SELECT * FROM x",
            "UPDATE t FOR PORTION OF valid FROM 1 TO 2 SET v = 1 WHERE id = 1",
            "DELETE FROM t",
            "DELETE FROM t USING t x WHERE x.id = 1",
            "DELETE FROM t WHERE id = 1 OR true",
            "MERGE INTO t USING t x ON t.id = 1 WHEN MATCHED THEN DELETE",
            "SELECT v FROM t WHERE id = 1 FOR UPDATE",
            "EXPLAIN ANALYZE UPDATE t SET v = 1 WHERE id = 1",
            "TRUNCATE t",
            "INSERT INTO t VALUES (1, 2)",
            "INSERT INTO t (v) VALUES (2)",
            "INSERT INTO t (id, v) VALUES (1, 2), (3, f(4))",
            "INSERT INTO t (id, v) VALUES (DEFAULT, 2)",
            "INSERT INTO t (id, v) VALUES (CAST(1.6 AS int), 2)",
            "INSERT INTO t (id, v) VALUES ($1::float8, 2)",
            "INSERT INTO t (id, v) VALUES (-1, 2)",
            "INSERT INTO t (id, v) OVERRIDING USER VALUE VALUES (1, 2)",
            "INSERT INTO t (id, v) SELECT 1, 2",
            "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT (v) DO UPDATE SET v = 3",
            "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT (id, v) DO UPDATE SET v = 3",
            "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT ON CONSTRAINT c DO UPDATE SET v = 3",
            "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT (id) WHERE v > 0 DO UPDATE SET v = 3",
            "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET id = 3",
            "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET (v, id) = (3, 4)",
            "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET \"id\" = 3",
            "UPDATE t SET v = 1 WHERE id = 1; UPDATE t SET v = 1 WHERE id = 2",
        ] {
            assert_eq!(written_by(sql, 1), None, "{sql}");
        }
        for sql in ["UPDATE t SET v = 1 WHERE a = 1", "INSERT INTO t (a, v) VALUES (1, 2)"] {
            assert_eq!(written_by(sql, 2), None, "{sql}");
        }
    }

    /// Equal rows of VALUES are one in the plan: the values tell how many there are.
    #[test]
    fn of_several_rows_the_values_say_so() {
        use crate::cache::key::{self, Form};
        let row = |sql: &str| {
            let mut bytes = Vec::new();
            key::begin(&mut bytes, Form::Simple, 0, sql.as_bytes());
            key_of(sql, &writes(1), &of_relations(relations()))?.row(&bytes)
        };
        let one = row("INSERT INTO t (id, v) VALUES (1, 2)");
        assert!(one.is_some() && one == row("INSERT INTO t (v, id) VALUES (7, '01')"));
        assert_eq!(one, row("DELETE FROM t WHERE id = '1'"));
        for sql in [
            "INSERT INTO t (id, v) VALUES (1, 2), (3, 4)",
            "INSERT INTO t (id, v) VALUES (1, 2), (3, 4), (5, 6)",
            "INSERT INTO t (id, v) VALUES (1, 2) /**/ , (3, 4)",
            "INSERT INTO t (id, v) VALUES (1, $1), (3, $1)",
            "INSERT INTO t (id, v) VALUES (1.6, 2)",
            "DELETE FROM t WHERE id = E'1'",
            "DELETE FROM t WHERE id = '1'\n'2'",
        ] {
            assert_eq!(row(sql), None, "{sql}");
        }
    }

    #[test]
    fn tables_that_do_not_keep_to_themselves() {
        const SQL: &str = "UPDATE t SET v = 1 WHERE id = 1";
        let found = |relation: Relation| key_of(SQL, &writes(1), &of_relations(vec![relation])).is_some();
        assert!(found(ids(1)));
        let carries = ForeignKey { from: 1, to: 1, on_delete: Action::Cascade, ..ForeignKey::default() };
        let generated = Column { generated: Generated::Expression, ..ids(1).columns[0].clone() };
        let rest = ids(1).columns[1].clone();
        let key = ids(1).keys[0].clone();
        for relation in [
            Relation { referenced_by: [carries.into()].into(), ..ids(1) },
            Relation { triggers: [Trigger::default()].into(), ..ids(1) },
            Relation { rules: [Rule::default()].into(), ..ids(1) },
            Relation { policies: [Policy::default()].into(), ..ids(1) },
            Relation { children: [2].into(), ..ids(1) },
            Relation { parents: [2].into(), ..ids(1) },
            Relation { kind: RelationKind::PartitionedTable, ..ids(1) },
            Relation { incomplete: true, ..ids(1) },
            Relation { columns: [generated, rest].into(), ..ids(1) },
            Relation { keys: [Key { deterministic: false, ..key.clone() }].into(), ..ids(1) },
            Relation { keys: [Key { immediate: false, ..key.clone() }].into(), ..ids(1) },
            Relation { keys: [Key { primary: false, ..key.clone() }].into(), ..ids(1) },
            table(1, &[(1, "id", 701), (2, "v", 20)], &[1]),
        ] {
            assert!(!found(relation));
        }
        let refers = ForeignKey { from: 1, to: 1, ..ForeignKey::default() };
        assert!(found(Relation { referenced_by: [refers.into()].into(), ..ids(1) }));
        // A second index over the key's columns may call others equal.
        let twice = of_relations(vec![Relation { keys: [key.clone(), key].into(), ..ids(1) }]);
        let upsert = "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET v = 3";
        assert_eq!(key_of(upsert, &writes(1), &twice), None);
    }

    #[test]
    fn statements_that_do_more() {
        const SQL: &str = "UPDATE t SET v = 1 WHERE id = 1";
        let catalog = of_relations(relations());
        let more = [
            Touches { calls: true, ..writes(1) },
            Touches { defines: Defines::Perhaps, ..writes(1) },
            Touches { writes: Reach::Tables([1, 2].into()), ..Touches::default() },
            Touches { writes: Reach::Anything, ..Touches::default() },
            Touches::default(),
        ];
        assert!(key_of(SQL, &writes(1), &catalog).is_some());
        assert!(more.iter().all(|touches| key_of(SQL, touches, &catalog).is_none()));
        let operator = Operator {
            oid: 20_000,
            schema: 7,
            name: "=".into(),
            left: 20,
            right: 20,
            function: 20_001,
            volatility: Volatility::Immutable,
        };
        for operators in [None, Some(vec![operator])] {
            let contents = Contents { relations: relations(), operators, ..Contents::default() };
            let catalog = Catalog::new(contents, Instant::now());
            assert_eq!(key_of(SQL, &writes(1), &catalog), None);
        }
    }

    /// A condition over `id` and `v`, as SQL and as what it means.
    #[derive(Clone, Debug)]
    enum Condition {
        Is(bool, u8),
        Not(Box<Condition>),
        And(Box<Condition>, Box<Condition>),
        Or(Box<Condition>, Box<Condition>),
    }

    impl Condition {
        fn sql(&self) -> String {
            match self {
                Condition::Is(id, n) => format!("{} = {n}", if *id { "id" } else { "v" }),
                Condition::Not(of) => format!("NOT ({})", of.sql()),
                Condition::And(a, b) => format!("{} AND {}", a.inner(), b.inner()),
                Condition::Or(a, b) => format!("{} OR {}", a.sql(), b.sql()),
            }
        }

        /// Within AND.
        fn inner(&self) -> String {
            if matches!(self, Condition::Or(..)) { format!("({})", self.sql()) } else { self.sql() }
        }

        fn holds(&self, id: u8, v: u8) -> bool {
            match self {
                Condition::Is(of_id, n) => *n == if *of_id { id } else { v },
                Condition::Not(of) => !of.holds(id, v),
                Condition::And(a, b) => a.holds(id, v) && b.holds(id, v),
                Condition::Or(a, b) => a.holds(id, v) || b.holds(id, v),
            }
        }
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let leaf = (any::<bool>(), 0u8..3).prop_map(|(id, n)| Condition::Is(id, n));
        leaf.prop_recursive(4, 12, 2, |inner| {
            let two = (inner.clone(), inner.clone());
            prop_oneof![
                inner.prop_map(|of| Condition::Not(of.into())),
                two.clone().prop_map(|(a, b)| Condition::And(a.into(), b.into())),
                two.prop_map(|(a, b)| Condition::Or(a.into(), b.into())),
            ]
        })
    }

    proptest! {
        /// Where a condition names a row, no other meets it.
        #[test]
        fn no_other_row_meets_the_condition(condition in condition(), deletes: bool) {
            use crate::cache::key::{self, Form};
            let head = if deletes { "DELETE FROM t" } else { "UPDATE t SET v = 9" };
            let sql = format!("{head} WHERE {}", condition.sql());
            let row = |sql: &str| {
                let mut bytes = Vec::new();
                key::begin(&mut bytes, Form::Simple, 0, sql.as_bytes());
                key_of(sql, &writes(1), &of_relations(relations()))?.row(&bytes)
            };
            let Some(named) = row(&sql) else { return Ok(()) };
            for id in (0..3).filter(|id| (0..3).any(|v| condition.holds(*id, v))) {
                prop_assert_eq!(Some(named), row(&format!("DELETE FROM t WHERE id = {id}")), "{}", sql);
            }
        }

        #[test]
        fn nothing_panics(words in prop::collection::vec(prop::sample::select(WORDS), 0..24)) {
            let sql = words.join(" ");
            let _ = written_by(&sql, 1);
            let _ = written_by(&format!("INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT {sql}"), 1);
        }
    }

    const WORDS: &[&str] = &[
        "UPDATE",
        "DELETE",
        "INSERT",
        "INTO",
        "FROM",
        "t",
        "SET",
        "v",
        "id",
        "=",
        "1",
        "$1",
        "WHERE",
        "AND",
        "(",
        ")",
        ",",
        "VALUES",
        "ON",
        "CONFLICT",
        "DO",
        "NOTHING",
        "RETURNING",
        "\"id\"",
        ".",
        "'x'",
        ";",
    ];
}
