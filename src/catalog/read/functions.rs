//! Reads functions, and the operators and casts that call them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::types::Type as WireType;

use super::super::function::{CastContext, FunctionKind};
use super::super::{Cast, Function, Oid, Operator, Volatility, query};
use super::{Fields, Raw, Reader, Result};
use crate::core::limits::MAX_KEPT_CODE;

/// Functions of every schema; without the code that mentions relations that are locked.
pub(super) async fn functions(
    reader: Reader<'_>,
    server_version: u32,
    locked: &Vec<Oid>,
) -> Result<Vec<Function>> {
    let mut languages = HashSet::new();
    let longest = i32::try_from(MAX_KEPT_CODE).unwrap_or(i32::MAX);
    let params: &[_] = &[(&longest as _, WireType::INT4)];
    let rows = reader.part(query::FUNCTIONS, params, |f| function(f, &mut languages)).await?;
    let mut functions = rows.unwrap_or_default();
    let index: HashMap<Oid, usize> = functions.iter().enumerate().map(|(i, f)| (f.oid, i)).collect();
    if server_version >= 140_000 {
        sql_bodies(reader, &mut functions, &index, locked).await?;
    }
    aggregates(reader, &mut functions, &index).await?;
    Ok(functions)
}

fn function(f: &mut Fields<'_>, languages: &mut HashSet<Arc<str>>) -> Result<Function> {
    Ok(Function {
        oid: f.take()?,
        schema: f.take()?,
        name: f.name()?,
        kind: FunctionKind::from_letter(f.letter()?),
        owner: f.take()?,
        arguments: f.list()?,
        defaults: f.count()?,
        default_texts: f.text()?,
        out_arguments: {
            let modes: Box<[i8]> = f.list()?;
            let out = modes.iter().filter(|mode| mode.cast_unsigned() == b'o').count();
            u16::try_from(out).unwrap_or(u16::MAX)
        },
        variadic: f.take()?,
        returns: f.take()?,
        returns_set: f.take()?,
        volatility: Volatility::from_letter(f.letter()?),
        strict: f.take()?,
        security_definer: f.take()?,
        language: {
            let name = f.text()?.unwrap_or_default();
            languages.get(&*name).cloned().unwrap_or_else(|| {
                let name: Arc<str> = name.into();
                languages.insert(name.clone());
                name
            })
        },
        settings: {
            let settings: Box<[Raw]> = f.list()?;
            settings.iter().map(|Raw(bytes)| String::from_utf8_lossy(bytes).into()).collect()
        },
        body: f.code()?,
        all_arguments: f.list()?,
        support: Box::default(),
    })
}

/// Where a body is SQL-standard, `prosrc` is empty.
async fn sql_bodies(
    reader: Reader<'_>,
    functions: &mut [Function],
    index: &HashMap<Oid, usize>,
    locked: &Vec<Oid>,
) -> Result<()> {
    let row = |f: &mut Fields<'_>| Ok((f.take()?, f.code()?));
    let bodies: Option<Vec<(Oid, _)>> =
        reader.part(query::SQL_BODIES, &[(locked as _, WireType::OID_ARRAY)], row).await?;
    let Some(bodies) = bodies else {
        let empty = functions.iter_mut().filter(|f| &*f.language == "sql" && f.body.as_deref() == Some(""));
        empty.for_each(|f| f.body = None);
        return Ok(());
    };
    for (oid, body) in bodies {
        if let Some(function) = index.get(&oid).and_then(|i| functions.get_mut(*i)) {
            function.body = body;
        }
    }
    Ok(())
}

/// An aggregate is always declared immutable: what counts is what it is made of.
async fn aggregates(
    reader: Reader<'_>,
    functions: &mut [Function],
    index: &HashMap<Oid, usize>,
) -> Result<()> {
    let row = |f: &mut Fields<'_>| Ok((f.take()?, f.list::<Oid>()?));
    let made_of = reader.part(query::AGGREGATES, &[], row).await?.unwrap_or_default();
    let made_of: HashMap<Oid, Box<[Oid]>> = made_of.into_iter().collect();
    let promise = |oid: &Oid| index.get(oid).and_then(|i| functions.get(*i)).map(|f| f.volatility);
    let aggregates = functions.iter().enumerate().filter(|(_, f)| f.kind == FunctionKind::Aggregate);
    let worst = aggregates.map(|(i, aggregate)| {
        let support: Box<[Oid]> =
            made_of.get(&aggregate.oid).into_iter().flatten().copied().filter(|oid| *oid != 0).collect();
        let worst = support.iter().map(|oid| promise(oid).unwrap_or_default()).max().unwrap_or_default();
        (i, support, worst)
    });
    for (i, support, worst) in worst.collect::<Vec<_>>() {
        if let Some(aggregate) = functions.get_mut(i) {
            aggregate.volatility = aggregate.volatility.max(worst);
            aggregate.support = support;
        }
    }
    Ok(())
}

/// Operators whose function is not immutable, or somebody's own.
pub(super) async fn operators(reader: Reader<'_>) -> Result<Option<Vec<Operator>>> {
    let row = |f: &mut Fields<'_>| {
        Ok(Operator {
            oid: f.take()?,
            schema: f.take()?,
            name: f.name()?,
            left: f.take()?,
            right: f.take()?,
            function: f.take()?,
            volatility: Volatility::from_letter(f.letter()?),
        })
    };
    reader.part(query::OPERATORS, &[], row).await
}

/// Casts of the same kind.
pub(super) async fn casts(reader: Reader<'_>) -> Result<Option<Vec<Cast>>> {
    let row = |f: &mut Fields<'_>| {
        Ok(Cast {
            source: f.take()?,
            target: f.take()?,
            function: f.take()?,
            context: CastContext::from_letter(f.letter()?),
            volatility: Volatility::from_letter(f.letter()?),
        })
    };
    reader.part(query::CASTS, &[], row).await
}
