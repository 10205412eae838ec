//! Which tables somebody tells of when they are written to, which others hold the same rows, and what rows are known by.

use std::collections::{HashMap, HashSet};

use super::rows::KeyColumn;

/// See the module. Never changes.
#[derive(Debug, Default)]
pub struct Watched {
    covered: HashSet<u32>,
    beside: HashMap<u32, Box<[u32]>>,
    keys: HashMap<u32, Key>,
    parts: HashMap<u32, Box<[u32]>>,
}

/// A table's primary key, in order: of each column what is known, and its name.
pub type Key = Box<[(KeyColumn, Box<str>)]>;

impl Watched {
    /// Of these tables each write is told, by oid; `families` are children (partitions, heirs) with their parents. Where
    /// `whole`, a write that is told of a parent may be one to its children.
    /// `keys` are those of tables whose rows are told by them.
    pub fn new(told: HashSet<u32>, families: &[(u32, u32)], keys: HashMap<u32, Key>, whole: bool) -> Watched {
        let (mut up, mut down) = (HashMap::<u32, Vec<u32>>::new(), HashMap::<u32, Vec<u32>>::new());
        for (child, parent) in families {
            up.entry(*child).or_default().push(*parent);
            down.entry(*parent).or_default().push(*child);
        }
        let (mut beside, mut parts) = (HashMap::new(), HashMap::new());
        let members: HashSet<u32> = families.iter().flat_map(|(child, parent)| [*child, *parent]).collect();
        let mut covered = told;
        let untold: Vec<u32> = members.iter().copied().filter(|table| !covered.contains(table)).collect();
        for table in untold.into_iter().flat_map(|table| reach(table, &up)) {
            covered.remove(&table);
        }
        for table in members {
            let (mut others, below) = (reach(table, &up), reach(table, &down));
            if whole {
                others.extend(&below);
            }
            if !below.is_empty() {
                parts.insert(table, below.into_iter().collect());
            }
            if !others.is_empty() {
                beside.insert(table, others.into_iter().collect());
            }
        }
        Watched { covered, beside, parts, keys }
    }

    /// Whether every write to what is read from this table is told.
    pub fn covers(&self, table: u32) -> bool {
        self.covered.contains(&table)
    }

    /// The tables that a write to this one is a write to, besides.
    pub fn beside(&self, table: u32) -> &[u32] {
        self.beside.get(&table).map_or(&[], |others| others)
    }

    /// What a table's rows are known by, if they are.
    pub fn key(&self, table: u32) -> Option<&Key> {
        self.keys.get(&table)
    }

    /// The tables whose rows are rows of this one, besides.
    pub fn parts(&self, table: u32) -> &[u32] {
        self.parts.get(&table).map_or(&[], |parts| parts)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.covered.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.covered.is_empty()
    }
}

/// What can be reached from a table by these steps, however far; a table may be there by several ways.
fn reach(from: u32, steps: &HashMap<u32, Vec<u32>>) -> HashSet<u32> {
    let (mut found, mut todo) = (HashSet::new(), vec![from]);
    while let Some(table) = todo.pop() {
        let next = steps.get(&table).into_iter().flatten();
        todo.extend(next.filter(|table| found.insert(**table)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(tables: &[u32]) -> Vec<u32> {
        let mut tables = tables.to_vec();
        tables.sort_unstable();
        tables
    }

    #[test]
    fn families() {
        // 1 has 2 and 3, and 3 has 4; 5 is by itself; 6 inherits from 5 and 7, and nobody tells of it.
        let families = [(2, 1), (3, 1), (4, 3), (6, 5), (6, 7)];
        let told = HashSet::from([1, 2, 3, 4, 5, 7, 8]);
        let rows = Watched::new(told.clone(), &families, HashMap::new(), false);
        assert!([1, 2, 3, 4, 8].iter().all(|table| rows.covers(*table)));
        assert!([5, 6, 7, 9].iter().all(|table| !rows.covers(*table)));
        assert_eq!((sorted(rows.beside(4)), rows.beside(1)), (vec![1, 3], &[][..]));
        let statements = Watched::new(told, &families, HashMap::new(), true);
        assert_eq!((sorted(statements.beside(1)), sorted(statements.beside(3))), (vec![2, 3, 4], vec![1, 4]));
        assert_eq!(statements.len(), 5);
    }
}
