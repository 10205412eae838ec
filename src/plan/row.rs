//! Whether a statement reads one row of one table, by its primary key, and nothing else: then what becomes of other rows
//! does not matter to its result.

use crate::cache::rows::{KeyColumn, Kind, RowKey};
use crate::catalog::relation::RelationKind;
use crate::catalog::{Catalog, Oid};
use crate::sql::facts::{Facts, Operand};
use crate::sql::lex::Kind as Token;
use crate::sql::normal::{Tok, tokens};

/// Where a statement that reads these tables has the key of the one row that it reads.
pub(super) fn of(facts: &Facts, normal: &[u8], tables: &[Oid], catalog: &Catalog) -> Option<RowKey> {
    // What it names is what it reads: behind a view there would be a second one.
    let (&[table], [_]) = (tables, facts.relations.as_slice()) else { return None };
    let relation = catalog.relation_by_oid(table)?;
    if relation.kind != RelationKind::Table || relation.incomplete || !relation.children.is_empty() {
        return None;
    }
    let key = relation.primary_key().filter(|key| key.immediate && !key.partial)?;
    let tokens = tokens(normal);
    let (mut columns, mut operands) = (Vec::new(), Vec::new());
    for number in &key.columns {
        let column = relation.column_numbered(*number)?;
        columns.push(KeyColumn { number: *number, kind: Kind::of(column.type_oid)? });
        let compared = facts.predicates.iter().filter(|p| *p.column == *column.name);
        let single = compared.filter_map(|p| match p.operands.as_slice() {
            [one] => Some(*one),
            _ => None,
        });
        operands.push(single.into_iter().find(|operand| is_compared_as_it_is(*operand, &tokens))?);
    }
    Some(RowKey { table, columns: columns.into(), operands: operands.into() })
}

/// Whether a value stands in the statement once, right behind `=`, and no cast behind it: its type is then the column's, or
/// what the client has declared.
fn is_compared_as_it_is(operand: Operand, tokens: &[Tok<'_>]) -> bool {
    let is_it = |token: &Tok<'_>| match operand {
        Operand::Mark(mark) => token.mark == Some(mark),
        Operand::Param(number) => {
            token.kind == Token::Param && token.text.strip_prefix(b"$") == Some(number.to_string().as_bytes())
        }
    };
    let mut places = tokens.iter().enumerate().filter(|(_, token)| is_it(token));
    let (Some((at, _)), None) = (places.next(), places.next()) else { return false };
    let follows = at.checked_sub(1).is_some_and(|before| tokens[before].text == b"=");
    follows && !tokens.get(at + 1).is_some_and(|next| next.is_punct(b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Contents;
    use crate::catalog::relation::{Column, Key, Relation};
    use crate::core::clock::Instant;
    use crate::sql::class::facts;
    use crate::sql::shape::Shape;

    /// Tables 1 with `id`, 2 with `a` and `b` by both of which its rows are known, and 3 that has a child.
    fn catalog() -> Catalog {
        let column = |(number, name): (i16, &str), type_oid| Column {
            number,
            name: name.into(),
            type_oid,
            ..Column::default()
        };
        let key = |columns: &[i16]| Key {
            primary: true,
            immediate: true,
            columns: columns.into(),
            ..Key::default()
        };
        let table = |oid, columns: &[(i16, &str)], keys: &[i16], children: &[Oid]| Relation {
            oid,
            kind: RelationKind::Table,
            columns: columns.iter().map(|named| column(*named, 20)).collect(),
            keys: [key(keys)].into(),
            children: children.into(),
            ..Relation::default()
        };
        let relations = vec![
            table(1, &[(1, "id"), (2, "v")], &[1], &[]),
            table(2, &[(1, "a"), (2, "b"), (3, "v")], &[2, 1], &[]),
            table(3, &[(1, "id")], &[1], &[9]),
        ];
        Catalog::new(Contents { relations, ..Contents::default() }, Instant::now())
    }

    fn operands(sql: &str, tables: &[Oid]) -> Option<Vec<Operand>> {
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        let statements = facts(sql.as_bytes(), &shape);
        let [one] = statements.as_slice() else { return None };
        of(one, &shape.normal, tables, &catalog()).map(|key| key.operands.to_vec())
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
}
