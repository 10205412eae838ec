//! Reads relations and everything that belongs to them: one list per question, each attached to its relation.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type as WireType;

use super::super::relation::{
    Action, Check, Column, Command, Enabled, ForeignKey, Generated, Key, Persistence, Policy, RelationKind,
    ReplicaIdentity, Rule, Trigger, View,
};
use super::super::{Oid, Relation, Schema, query};
use super::{Fields, Reader, Result};

/// Views whose definitions are asked for at once: each locks what it mentions until the answer is complete.
const VIEWS_AT_ONCE: usize = 250;

/// A column's number, and its default expression.
type DefaultRow = (i16, Option<Box<str>>);

/// Schemas whose views are the system's own.
const SYSTEM: &[&str] = &["pg_catalog", "information_schema"];

/// A CHECK constraint with the relation or the domain that it belongs to; the other is 0.
pub(super) struct CheckRow {
    relation: Oid,
    pub(super) domain: Oid,
    pub(super) check: Check,
}

/// CHECK constraints of tables and domains. `None` where they could not be read.
pub(super) async fn checks(reader: Reader<'_>, locked: &Vec<Oid>) -> Result<Option<Vec<CheckRow>>> {
    let row = |f: &mut Fields<'_>| {
        let (relation, domain) = (f.take()?, f.take()?);
        Ok(CheckRow { relation, domain, check: Check { name: f.name()?, expression: f.text()? } })
    };
    reader.part(query::CHECKS, &[(locked as _, WireType::OID_ARRAY)], row).await
}

/// Relations with all that belongs to them. Those `locked` are not waited for and remain incomplete.
pub(super) async fn relations(
    reader: Reader<'_>,
    schemas: &[Schema],
    locked: &Vec<Oid>,
    checks: Option<Vec<CheckRow>>,
) -> Result<Vec<Relation>> {
    let list = reader.part(query::RELATIONS, &[], relation).await?.unwrap_or_default();
    let index = list.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
    let mut all = Relations { list, index, complete: true };
    let locks: &[_] = &[(locked as _, WireType::OID_ARRAY)];

    all.attach(reader.part(query::COLUMNS, &[], column).await?, |r, columns| r.columns = columns);
    all.attach(reader.part(query::DEFAULTS, locks, default).await?, |r, defaults| {
        for (number, text) in defaults {
            if let Ok(i) = r.columns.binary_search_by_key(&number, |c| c.number) {
                r.columns[i].default = text;
            }
        }
    });
    all.attach(reader.part(query::KEYS, &[], key).await?, |r, keys| r.keys = keys);
    all.attach(reader.part(query::POLICIES, locks, policy).await?, |r, policies| r.policies = policies);
    all.attach(reader.part(query::TRIGGERS, locks, trigger).await?, |r, triggers| r.triggers = triggers);
    all.attach(reader.part(query::RULES, locks, rule).await?, |r, rules| r.rules = rules);
    let checks = checks.map(|rows| rows.into_iter().map(|c| (c.relation, c.check)).collect());
    all.attach(checks, |r, checks| r.checks = checks);
    all.inherit(reader.part(query::INHERITS, &[], |f| Ok((f.take()?, f.take()?))).await?);
    all.refer(reader.part(query::FOREIGN_KEYS, &[], foreign_key).await?);

    let mentions = reader.part(query::MENTIONS, &[], |f| Ok((f.take()?, (f.take()?, f.take()?)))).await?;
    all.attach(mentions, |r, mentions| mention(r, &mentions));
    let system: Vec<Oid> = schemas.iter().filter(|s| SYSTEM.contains(&&*s.name)).map(|s| s.oid).collect();
    for views in all.views_to_read(&system, locked).chunks(VIEWS_AT_ONCE) {
        let views: &[_] = &[(&views as _, WireType::OID_ARRAY)];
        let texts = reader.part(query::VIEWS, views, |f| Ok((f.take()?, f.code()?))).await?;
        all.attach(texts, |r, texts| {
            if let Some(view) = &mut r.view {
                view.definition = texts.into_iter().next().flatten();
            }
        });
    }
    Ok(all.finish(locked))
}

/// Relations while their parts come in.
struct Relations {
    list: Vec<Relation>,
    index: HashMap<Oid, usize>,
    /// Whether every list could be read.
    complete: bool,
}

impl Relations {
    fn get(&mut self, oid: Oid) -> Option<&mut Relation> {
        self.list.get_mut(*self.index.get(&oid)?)
    }

    /// Gives each relation its rows, which come sorted by relation.
    fn attach<T>(&mut self, rows: Option<Vec<(Oid, T)>>, give: impl Fn(&mut Relation, Box<[T]>)) {
        let Some(rows) = rows else {
            self.complete = false;
            return;
        };
        let mut rows = rows.into_iter().peekable();
        while let Some((oid, first)) = rows.next() {
            let mut own = vec![first];
            while let Some((_, next)) = rows.next_if(|(other, _)| *other == oid) {
                own.push(next);
            }
            if let Some(relation) = self.get(oid) {
                give(relation, own.into());
            }
        }
    }

    /// Child and parent.
    fn inherit(&mut self, pairs: Option<Vec<(Oid, Oid)>>) {
        let children = pairs.as_ref().map(|pairs| {
            let mut children: Vec<_> = pairs.iter().map(|(child, parent)| (*parent, *child)).collect();
            children.sort_unstable();
            children
        });
        self.attach(pairs, |r, parents| r.parents = parents);
        self.attach(children, |r, children| r.children = children);
    }

    fn refer(&mut self, keys: Option<Vec<(Oid, Arc<ForeignKey>)>>) {
        let referenced = keys.as_ref().map(|keys| {
            let mut keys: Vec<_> = keys.iter().map(|(_, key)| (key.to, key.clone())).collect();
            keys.sort_by_key(|(to, _)| *to);
            keys
        });
        self.attach(keys, |r, keys| r.foreign_keys = keys);
        self.attach(referenced, |r, keys| r.referenced_by = keys);
    }

    /// Views whose definition can be printed without waiting for a lock, but for the system's own.
    fn views_to_read(&self, system: &[Oid], locked: &[Oid]) -> Vec<Oid> {
        let views = self.list.iter().filter(|r| r.view.is_some() && !system.contains(&r.schema));
        views.map(|r| r.oid).filter(|oid| !locked.contains(oid)).collect()
    }

    fn finish(mut self, locked: &[Oid]) -> Vec<Relation> {
        let complete = self.complete;
        self.list.iter_mut().for_each(|r| r.incomplete = !complete || locked.contains(&r.oid));
        self.list
    }
}

fn relation(f: &mut Fields<'_>) -> Result<Relation> {
    let (oid, schema, name) = (f.take()?, f.take()?, f.name()?);
    let kind = RelationKind::from_letter(f.letter()?);
    let is_view = matches!(kind, RelationKind::View | RelationKind::MaterializedView);
    Ok(Relation {
        oid,
        schema,
        name,
        kind,
        persistence: Persistence::from_letter(f.letter()?),
        owner: f.take()?,
        row_security: f.take()?,
        row_security_forced: f.take()?,
        replica_identity: ReplicaIdentity::from_letter(f.letter()?),
        is_partition: f.take()?,
        view: is_view.then(Box::<View>::default),
        ..Relation::default()
    })
}

fn column(f: &mut Fields<'_>) -> Result<(Oid, Column)> {
    let relation = f.take()?;
    let column = Column {
        number: f.take()?,
        name: f.name()?,
        type_oid: f.take()?,
        type_modifier: f.take()?,
        not_null: f.take()?,
        generated: Generated::from_letters(f.letter()?, f.letter()?),
        has_default: f.take()?,
        default: None,
    };
    Ok((relation, column))
}

fn default(f: &mut Fields<'_>) -> Result<(Oid, DefaultRow)> {
    Ok((f.take()?, (f.take()?, f.text()?)))
}

fn key(f: &mut Fields<'_>) -> Result<(Oid, Key)> {
    let relation = f.take()?;
    let (name, primary, partial, immediate) = (f.name()?, f.take()?, f.take()?, f.take()?);
    let mut columns: Vec<i16> = f.take()?;
    columns.truncate(usize::from(f.count()?));
    let deterministic = f.take()?;
    Ok((relation, Key { name, primary, partial, immediate, deterministic, columns: columns.into() }))
}

fn foreign_key(f: &mut Fields<'_>) -> Result<(Oid, Arc<ForeignKey>)> {
    let from = f.take()?;
    let key = ForeignKey {
        from,
        name: f.name()?,
        from_columns: f.list()?,
        to: f.take()?,
        to_columns: f.list()?,
        on_delete: Action::from_letter(f.letter()?),
        on_update: Action::from_letter(f.letter()?),
        deferrable: f.take()?,
        validated: f.take()?,
    };
    Ok((from, Arc::new(key)))
}

fn policy(f: &mut Fields<'_>) -> Result<(Oid, Policy)> {
    let relation = f.take()?;
    let policy = Policy {
        name: f.name()?,
        command: match f.letter()? {
            b'r' => Command::Select,
            b'a' => Command::Insert,
            b'w' => Command::Update,
            b'd' => Command::Delete,
            _ => Command::All,
        },
        permissive: f.take()?,
        roles: f.list()?,
        using: f.text()?,
        with_check: f.text()?,
    };
    Ok((relation, policy))
}

fn trigger(f: &mut Fields<'_>) -> Result<(Oid, Trigger)> {
    let relation = f.take()?;
    let (name, function) = (f.name()?, f.take()?);
    let trigger = Trigger { name, function, ..Trigger::of_type(f.take()?) };
    let trigger = Trigger {
        enabled: Enabled::from_letter(f.letter()?),
        deferrable: f.take()?,
        conditional: f.take()?,
        definition: f.text()?,
        ..trigger
    };
    Ok((relation, trigger))
}

fn rule(f: &mut Fields<'_>) -> Result<(Oid, Rule)> {
    let relation = f.take()?;
    let rule = Rule {
        name: f.name()?,
        command: match f.letter()? {
            b'1' => Command::Select,
            b'2' => Command::Update,
            b'3' => Command::Insert,
            b'4' => Command::Delete,
            _ => Command::All,
        },
        instead: f.take()?,
        enabled: Enabled::from_letter(f.letter()?),
        definition: f.code()?,
    };
    Ok((relation, rule))
}

/// Relations and functions that a view mentions.
fn mention(relation: &mut Relation, mentions: &[(Oid, bool)]) {
    let Some(view) = &mut relation.view else { return };
    let of = |relations: bool| mentions.iter().filter(|m| m.1 == relations).map(|m| m.0).collect();
    view.relations = of(true);
    view.functions = of(false);
}
