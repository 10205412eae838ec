//! Domains: whatever turns something into a value of one evaluates its constraints, and these may call anything.

use std::collections::{HashMap, HashSet};

use super::{Contents, Oid, Type, TypeKind};

/// The first number that objects of somebody's own have (`FirstNormalObjectId`): the system's domains call nothing else.
const FIRST_OWN: Oid = 16384;

/// Types with the domains that their values contain, or are of, as far as those have constraints or a default.
pub(super) fn contained(contents: &Contents) -> HashMap<Oid, Box<[Oid]>> {
    let counts =
        |t: &&Type| t.kind == TypeKind::Domain && t.oid >= FIRST_OWN && (t.checked || t.default.is_some());
    let domains: Vec<Oid> = contents.types.iter().filter(counts).map(|t| t.oid).collect();
    if domains.is_empty() {
        return HashMap::new();
    }
    let containers = containers(contents, &domains);
    let mut found: HashMap<Oid, Vec<Oid>> = HashMap::new();
    for domain in domains {
        let (mut seen, mut next) = (HashSet::from([domain]), vec![domain]);
        while let Some(oid) = next.pop() {
            found.entry(oid).or_default().push(domain);
            next.extend(containers.get(&oid).into_iter().flatten().copied().filter(|oid| seen.insert(*oid)));
        }
    }
    found.into_iter().map(|(oid, domains)| (oid, domains.into())).collect()
}

/// What is directly made of a type: domains over it, arrays, rows. What ranges are of is not known: of any domain.
fn containers(contents: &Contents, domains: &[Oid]) -> HashMap<Oid, Vec<Oid>> {
    let mut all: HashMap<Oid, Vec<Oid>> = HashMap::new();
    let mut rows: HashMap<Oid, Oid> = HashMap::new();
    for t in &contents.types {
        if t.relation != 0 {
            rows.insert(t.relation, t.oid);
        }
        for part in [t.base, t.element].into_iter().filter(|part| *part != 0) {
            all.entry(part).or_default().push(t.oid);
        }
        if matches!(t.kind, TypeKind::Range | TypeKind::Multirange) && t.oid >= FIRST_OWN {
            domains.iter().for_each(|domain| all.entry(*domain).or_default().push(t.oid));
        }
    }
    for relation in &contents.relations {
        let Some(row) = rows.get(&relation.oid) else { continue };
        relation.columns.iter().for_each(|column| all.entry(column.type_oid).or_default().push(*row));
    }
    all
}
