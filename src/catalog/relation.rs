//! Relations: tables, views, sequences and the like, with their columns, keys, triggers, rules and policies.

use std::sync::Arc;

use super::Oid;

/// What a relation is (`pg_class.relkind`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelationKind {
    /// Ordinary table.
    #[default]
    Table,
    /// Partitioned table: its rows are in its partitions.
    PartitionedTable,
    /// View.
    View,
    /// Materialized view.
    MaterializedView,
    /// Sequence.
    Sequence,
    /// Foreign table: its rows are on another server.
    ForeignTable,
    /// Index, of a partitioned table too. It has no columns here.
    Index,
    /// Composite type.
    Composite,
    /// Something that a newer server knows.
    Other,
}

impl RelationKind {
    /// From the letter that `pg_class` has.
    pub fn from_letter(letter: u8) -> RelationKind {
        match letter {
            b'r' => RelationKind::Table,
            b'p' => RelationKind::PartitionedTable,
            b'v' => RelationKind::View,
            b'm' => RelationKind::MaterializedView,
            b'S' => RelationKind::Sequence,
            b'f' => RelationKind::ForeignTable,
            b'i' | b'I' => RelationKind::Index,
            b'c' => RelationKind::Composite,
            _ => RelationKind::Other,
        }
    }
}

/// How long a relation's contents last (`pg_class.relpersistence`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// Written to the WAL, and so on replicas too.
    #[default]
    Permanent,
    /// Not written to the WAL: cannot be read on a replica.
    Unlogged,
    /// Of one session.
    Temporary,
}

impl Persistence {
    /// From the letter that `pg_class` has. An unknown one reads as unlogged, which promises least.
    pub fn from_letter(letter: u8) -> Persistence {
        match letter {
            b'p' => Persistence::Permanent,
            b't' => Persistence::Temporary,
            _ => Persistence::Unlogged,
        }
    }
}

/// What UPDATE and DELETE write to the WAL to identify a row (`pg_class.relreplident`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    #[default]
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// The columns of an index.
    Index,
}

impl ReplicaIdentity {
    /// From the letter that `pg_class` has. An unknown one reads as nothing.
    pub fn from_letter(letter: u8) -> ReplicaIdentity {
        match letter {
            b'd' => ReplicaIdentity::Default,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Nothing,
        }
    }
}

/// A relation. Lists that do not apply to its kind are empty.
#[derive(Clone, Debug, Default)]
pub struct Relation {
    /// `pg_class.oid`
    pub oid: Oid,
    /// The schema it is in.
    pub schema: Oid,
    /// Its name, without the schema.
    pub name: Arc<str>,
    /// What it is.
    pub kind: RelationKind,
    /// How long its contents last.
    pub persistence: Persistence,
    /// The role that owns it.
    pub owner: Oid,
    /// Whether row security is enabled.
    pub row_security: bool,
    /// Whether row security binds the owner too.
    pub row_security_forced: bool,
    /// What the WAL says of rows that change.
    pub replica_identity: ReplicaIdentity,
    /// Whether it is a partition of its one parent.
    pub is_partition: bool,
    /// Whether some expression of it (default, CHECK, policy, trigger condition, rule) or some list of it could not be
    /// read: for want of a privilege, or because a statement that changes it held a lock. What is missing may be
    /// anything, so nothing may be concluded from what is absent.
    pub incomplete: bool,
    /// Tables that it inherits from, or the one whose partition it is.
    pub parents: Box<[Oid]>,
    /// Tables that inherit from it, or its partitions; those directly below only.
    pub children: Box<[Oid]>,
    /// Its columns in order, without system columns and dropped ones.
    pub columns: Box<[Column]>,
    /// Primary key and unique indexes over plain columns.
    pub keys: Box<[Key]>,
    /// Foreign keys from it to other tables.
    pub foreign_keys: Box<[Arc<ForeignKey>]>,
    /// Foreign keys from other tables to it.
    pub referenced_by: Box<[Arc<ForeignKey>]>,
    /// CHECK constraints.
    pub checks: Box<[Check]>,
    /// Row security policies, also those that are not in force because row security is not enabled.
    pub policies: Box<[Policy]>,
    /// Triggers, but for those that enforce constraints.
    pub triggers: Box<[Trigger]>,
    /// Rewrite rules, but for a view's own.
    pub rules: Box<[Rule]>,
    /// What a view or materialized view says. `None` for other kinds.
    pub view: Option<Box<View>>,
}

impl Relation {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| &*c.name == name)
    }

    /// The column of this number (`pg_attribute.attnum`), as keys have it.
    pub fn column_numbered(&self, number: i16) -> Option<&Column> {
        self.columns.binary_search_by_key(&number, |c| c.number).ok().and_then(|i| self.columns.get(i))
    }

    /// The primary key.
    pub fn primary_key(&self) -> Option<&Key> {
        self.keys.iter().find(|k| k.primary)
    }
}

/// How a column gets values of its own accord.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generated {
    /// It does not, or by its default expression.
    #[default]
    No,
    /// `GENERATED ALWAYS AS IDENTITY`
    AlwaysIdentity,
    /// `GENERATED BY DEFAULT AS IDENTITY`
    DefaultIdentity,
    /// `GENERATED ALWAYS AS (...)`, stored or virtual: the expression is the column's default.
    Expression,
}

impl Generated {
    /// From the letters that `pg_attribute` has for identity and for generated.
    pub fn from_letters(identity: u8, generated: u8) -> Generated {
        match (identity, generated) {
            (b'a', _) => Generated::AlwaysIdentity,
            (b'd', _) => Generated::DefaultIdentity,
            (_, 0) => Generated::No,
            _ => Generated::Expression,
        }
    }
}

/// A column.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// `pg_attribute.attnum`: from 1, with gaps where columns were dropped.
    pub number: i16,
    /// Its name.
    pub name: Box<str>,
    /// Its type; [`super::Catalog::type_by_oid`] has the name.
    pub type_oid: Oid,
    /// `pg_attribute.atttypmod`: length or precision as the type encodes it, -1 for none.
    pub type_modifier: i32,
    /// Whether the column itself refuses NULL; its domain may, too.
    pub not_null: bool,
    /// Whether and how it is generated.
    pub generated: Generated,
    /// Whether there is a default or generation expression, known or not. The type's default is not meant.
    pub has_default: bool,
    /// The text of that expression, every name qualified that is not in pg_catalog. `None` where there is none or it
    /// could not be read.
    pub default: Option<Box<str>>,
}

/// A primary key or unique index over plain columns.
#[derive(Clone, Debug, Default)]
pub struct Key {
    /// Name of the index, which is that of the constraint where there is one.
    pub name: Box<str>,
    /// Whether it is the primary key.
    pub primary: bool,
    /// Whether it covers only rows that meet a condition: then it identifies no row by itself.
    pub partial: bool,
    /// Whether it is checked at once. Deferred keys may be violated within a transaction.
    pub immediate: bool,
    /// Whether texts are equal in it only where they are the same.
    pub deterministic: bool,
    /// Numbers of its columns, without included ones.
    pub columns: Box<[i16]>,
}

/// What a foreign key does to referencing rows when the row that they refer to changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// `NO ACTION`: an error at the latest when the transaction ends.
    #[default]
    NoAction,
    /// `RESTRICT`: an error at once.
    Restrict,
    /// `CASCADE`: the same change.
    Cascade,
    /// `SET NULL`
    SetNull,
    /// `SET DEFAULT`
    SetDefault,
    /// Something that a newer server knows.
    Other,
}

impl Action {
    /// From the letter that `pg_constraint` has.
    pub fn from_letter(letter: u8) -> Action {
        match letter {
            b'a' => Action::NoAction,
            b'r' => Action::Restrict,
            b'c' => Action::Cascade,
            b'n' => Action::SetNull,
            b'd' => Action::SetDefault,
            _ => Action::Other,
        }
    }

    /// Whether it writes to the referencing table.
    pub fn writes(self) -> bool {
        !matches!(self, Action::NoAction | Action::Restrict)
    }
}

/// A foreign key. Those of partitions are listed with each partition too, as `pg_constraint` does.
#[derive(Clone, Debug, Default)]
pub struct ForeignKey {
    /// Name of the constraint.
    pub name: Box<str>,
    /// The referencing table.
    pub from: Oid,
    /// Numbers of its columns.
    pub from_columns: Box<[i16]>,
    /// The referenced table.
    pub to: Oid,
    /// Numbers of the columns there, in the same order.
    pub to_columns: Box<[i16]>,
    /// What deleting a referenced row does.
    pub on_delete: Action,
    /// What changing a referenced key does.
    pub on_update: Action,
    /// Whether it may be checked as late as at commit.
    pub deferrable: bool,
    /// Whether existing rows are known to meet it.
    pub validated: bool,
}

/// A CHECK constraint.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Name of the constraint.
    pub name: Box<str>,
    /// Its expression; `None` where it could not be read.
    pub expression: Option<Box<str>>,
}

/// The statements that a policy is for, or that fire a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// Every statement.
    #[default]
    All,
    /// `SELECT`
    Select,
    /// `INSERT`
    Insert,
    /// `UPDATE`
    Update,
    /// `DELETE`
    Delete,
}

/// A row security policy.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Its name.
    pub name: Box<str>,
    /// The statements that it is for.
    pub command: Command,
    /// Whether any one such policy suffices; restrictive ones must all hold.
    pub permissive: bool,
    /// The roles that it is for; 0 stands for every role.
    pub roles: Box<[Oid]>,
    /// Which rows may be seen. `None` where there is no such expression, or the relation is incomplete.
    pub using: Option<Box<str>>,
    /// Which rows may be written. `None` likewise.
    pub with_check: Option<Box<str>>,
}

/// In which sessions a trigger or rule fires, by `session_replication_role`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enabled {
    /// In ordinary ones.
    #[default]
    Origin,
    /// In none.
    Disabled,
    /// In those of replication.
    Replica,
    /// In all.
    Always,
}

impl Enabled {
    /// From the letter that `pg_trigger` and `pg_rewrite` have. An unknown one reads as always.
    pub fn from_letter(letter: u8) -> Enabled {
        match letter {
            b'O' => Enabled::Origin,
            b'D' => Enabled::Disabled,
            b'R' => Enabled::Replica,
            _ => Enabled::Always,
        }
    }
}

/// When a trigger fires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// `BEFORE`
    Before,
    /// `AFTER`
    #[default]
    After,
    /// `INSTEAD OF`
    InsteadOf,
}

/// A trigger.
#[derive(Clone, Debug, Default)]
pub struct Trigger {
    /// Its name.
    pub name: Box<str>,
    /// The function that it calls.
    pub function: Oid,
    /// When it fires.
    pub timing: Timing,
    /// Whether it fires for each row; otherwise once for each statement.
    pub each_row: bool,
    /// Whether INSERT fires it.
    pub insert: bool,
    /// Whether UPDATE fires it.
    pub update: bool,
    /// Whether DELETE fires it.
    pub delete: bool,
    /// Whether TRUNCATE fires it.
    pub truncate: bool,
    /// In which sessions it fires.
    pub enabled: Enabled,
    /// Whether it is a constraint trigger that may fire as late as at commit.
    pub deferrable: bool,
    /// Whether it has a `WHEN` condition.
    pub conditional: bool,
    /// The whole `CREATE TRIGGER` where it has a condition; `None` where it has none or it could not be read.
    pub definition: Option<Box<str>>,
}

impl Trigger {
    /// With the time and the events that `pg_trigger.tgtype` encodes.
    pub fn of_type(bits: i16) -> Trigger {
        let has = |bit: i16| bits & bit != 0;
        let timing = match (has(2), has(64)) {
            (_, true) => Timing::InsteadOf,
            (true, _) => Timing::Before,
            _ => Timing::After,
        };
        Trigger {
            timing,
            each_row: has(1),
            insert: has(4),
            delete: has(8),
            update: has(16),
            truncate: has(32),
            ..Trigger::default()
        }
    }
}

/// A rewrite rule.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Its name.
    pub name: Box<str>,
    /// The statements that it rewrites.
    pub command: Command,
    /// Whether its actions replace the statement rather than come with it.
    pub instead: bool,
    /// In which sessions it applies.
    pub enabled: Enabled,
    /// The whole `CREATE RULE`; `None` where it could not be read or is too long.
    pub definition: Option<Box<str>>,
}

/// What is behind a view or a materialized view.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Its SELECT, every name qualified that is not in pg_catalog. `None` where it could not be read, is too long, or
    /// the view is the system's own.
    pub definition: Option<Box<str>>,
    /// The relations that the view and its rules mention, other than the system's own. Views among them mention others
    /// in turn.
    pub relations: Box<[Oid]>,
    /// The functions that they mention, other than the system's own.
    pub functions: Box<[Oid]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigger_types() {
        let trigger = Trigger::of_type(1 | 2 | 4 | 16);
        assert!(trigger.each_row && trigger.insert && trigger.update && !trigger.delete && !trigger.truncate);
        assert_eq!(trigger.timing, Timing::Before);
        let trigger = Trigger::of_type(8 | 32);
        assert!(!trigger.each_row && trigger.delete && trigger.truncate);
        assert_eq!(trigger.timing, Timing::After);
        assert_eq!(Trigger::of_type(64 | 1 | 4).timing, Timing::InsteadOf);
    }

    #[test]
    fn columns_are_found_by_name_and_number() {
        let column = |number, name: &str| Column { number, name: name.into(), ..Column::default() };
        let relation = Relation { columns: [column(1, "a"), column(4, "b")].into(), ..Relation::default() };
        assert_eq!(relation.column("b").map(|c| c.number), Some(4));
        assert_eq!(relation.column_numbered(4).map(|c| &*c.name), Some("b"));
        assert!(relation.column_numbered(2).is_none() && relation.column("B").is_none());
    }
}
