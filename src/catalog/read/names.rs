//! Reads what names hang on: settings, roles, schemas, types, extensions.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::types::Type as WireType;

use super::super::{Extension, Oid, Role, Schema, Settings, Type, TypeKind, Usage, Volatility, query};
use super::relations::CheckRow;
use super::{Fields, Reader, Result};
use crate::core::limits::MAX_SCHEMA_USES;

/// The database's name, and the settings.
pub(super) async fn settings(reader: Reader<'_>) -> Result<(Box<str>, Settings)> {
    let row = |f: &mut Fields<'_>| {
        let database = f.name()?;
        let settings = Settings {
            in_hot_standby: f.take()?,
            server_version: f.take::<i32>()?.unsigned_abs(),
            search_path: f.text()?,
            search_paths: Vec::new(),
            directions: Vec::new(),
            standard_conforming_strings: f.text()?.as_deref() == Some("on"),
            server_encoding: f.text()?.unwrap_or_default(),
            default_transaction_read_only: f.text()?.as_deref() == Some("on"),
        };
        Ok((database, settings, f.take::<Option<Oid>>()?))
    };
    // Without these nothing else makes sense, so a refusal is an error.
    let rows = reader.all(query::SETTINGS, &[], &mut { row }).await?.pop();
    let (database, mut settings, role) = rows.unwrap_or_default();
    search_paths(reader, role, &mut settings).await?;
    settings.directions = directions(reader).await?;
    Ok((database, settings))
}

/// What roles have, beside what the role `own` has that asks.
async fn search_paths(reader: Reader<'_>, own: Option<Oid>, settings: &mut Settings) -> Result<()> {
    let row = |f: &mut Fields<'_>| Ok((f.take::<Oid>()?, f.text()?.unwrap_or_default()));
    let Some(rows) = reader.part(query::SEARCH_PATHS, &[], row).await? else {
        settings.search_path = None;
        return Ok(());
    };
    // What is said last of a role counts.
    let paths: BTreeMap<Oid, Box<str>> = rows.into_iter().collect();
    if let Some(all) = paths.get(&0) {
        settings.search_path = Some(all.clone());
    } else if own.is_none_or(|own| paths.contains_key(&own)) {
        settings.search_path = None;
    }
    settings.search_paths = paths.into_iter().filter(|(role, _)| *role != 0).collect();
    Ok(())
}

/// What speaks to us of what roles have.
async fn directions(reader: Reader<'_>) -> Result<Vec<(Oid, Box<str>, Box<str>)>> {
    let row = |f: &mut Fields<'_>| {
        let (role, name) = (f.take::<Oid>()?, f.text()?.unwrap_or_default().to_lowercase());
        Ok(((role, name.into_boxed_str()), f.text()?.unwrap_or_default()))
    };
    let rows = reader.part(query::DIRECTIONS, &[], row).await?.unwrap_or_default();
    // What is said last of a role counts.
    let last: BTreeMap<(Oid, Box<str>), Box<str>> = rows.into_iter().collect();
    Ok(last.into_iter().map(|((role, name), value)| (role, name, value)).collect())
}

/// Roles of the cluster.
pub(super) async fn roles(reader: Reader<'_>) -> Result<Vec<Role>> {
    let row = |f: &mut Fields<'_>| {
        Ok(Role { oid: f.take()?, name: f.name()?, superuser: f.take()?, bypasses_row_security: f.take()? })
    };
    Ok(reader.part(query::ROLES, &[], row).await?.unwrap_or_default())
}

/// Schemas, each with who may look into it.
pub(super) async fn schemas(reader: Reader<'_>, roles: usize) -> Result<Vec<Schema>> {
    let row = |f: &mut Fields<'_>| {
        let (oid, name, owner) = (f.take()?, f.name()?, f.take()?);
        let everyone = f.take::<Option<bool>>()? == Some(true);
        let usage = if everyone { Usage::Everyone } else { Usage::Unknown };
        Ok(Schema { oid, name, owner, usage })
    };
    let mut schemas = reader.part(query::SCHEMAS, &[], row).await?.unwrap_or_default();
    let closed = |s: &Schema| matches!(s.usage, Usage::Unknown) && !super::super::path::is_temporary(&s.name);
    let closed: Vec<Oid> = schemas.iter().filter(|s| closed(s)).map(|s| s.oid).collect();
    if closed.is_empty() || closed.len().saturating_mul(roles) > MAX_SCHEMA_USES {
        return Ok(schemas);
    }
    let row = |f: &mut Fields<'_>| Ok((f.take()?, f.list()?));
    let params: &[_] = &[(&closed as _, WireType::OID_ARRAY)];
    let Some(mut usage) =
        reader.part(query::USAGE, params, row).await?.map(HashMap::<Oid, Box<[Oid]>>::from_iter)
    else {
        return Ok(schemas);
    };
    for schema in schemas.iter_mut().filter(|s| closed.contains(&s.oid)) {
        schema.usage = Usage::Roles(usage.remove(&schema.oid).unwrap_or_default());
    }
    Ok(schemas)
}

/// Types, with the constraints of domains. Where those are not known, every domain counts as checked.
pub(super) async fn types(reader: Reader<'_>, checks: Option<&[CheckRow]>) -> Result<Vec<Type>> {
    let row = |f: &mut Fields<'_>| {
        Ok(Type {
            oid: f.take()?,
            schema: f.take()?,
            name: f.name()?,
            kind: TypeKind::from_letter(f.letter()?),
            category: f.letter()?,
            base: f.take()?,
            element: f.take()?,
            relation: f.take()?,
            not_null: f.take()?,
            default: f.text()?,
            checked: false,
            checks: Box::default(),
            text_volatility: Volatility::from_letter(f.letter()?).max(Volatility::from_letter(f.letter()?)),
        })
    };
    let mut types = reader.part(query::TYPES, &[], row).await?.unwrap_or_default();
    let mut texts: HashMap<Oid, Vec<Option<Box<str>>>> = HashMap::new();
    for check in checks.unwrap_or_default().iter().filter(|c| c.domain != 0) {
        texts.entry(check.domain).or_default().push(check.check.expression.clone());
    }
    for domain in types.iter_mut().filter(|t| t.kind == TypeKind::Domain) {
        let found = texts.remove(&domain.oid);
        domain.checked = found.is_some() || checks.is_none();
        domain.checks = found.into_iter().flatten().flatten().collect();
    }
    Ok(types)
}

/// Extensions.
pub(super) async fn extensions(reader: Reader<'_>) -> Result<Option<Vec<Extension>>> {
    let row = |f: &mut Fields<'_>| Ok(Extension { name: f.name()?, version: f.name()?, schema: f.take()? });
    reader.part(query::EXTENSIONS, &[], row).await
}
