//! What a name means: relations, types and functions, by the rules of `RangeVarGetRelid` and `FuncnameGetCandidates`.
//! Where Postgres' answer depends on something that is not known here, the answer is "unknown".

use super::path::{Place, is_temporary};
use super::{Catalog, Function, Oid, Relation, Schema, SearchPath, Type, TypeKind, Usage, Volatility};

/// What a name means.
#[derive(Debug)]
pub enum Resolved<'a, T = Relation> {
    /// This one, or nothing if it has been dropped since.
    Known(&'a T),
    /// One that the session made for itself, or perhaps what that hides.
    Temporary,
    /// Something made since, something that could not be read, or nothing.
    Unknown,
}

impl<T> Clone for Resolved<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Resolved<'_, T> {}

impl<'a, T> Resolved<'a, T> {
    /// What is known.
    pub fn known(self) -> Option<&'a T> {
        match self {
            Resolved::Known(found) => Some(found),
            _ => None,
        }
    }
}

/// The functions that a call may mean.
#[derive(Clone, Debug, Default)]
pub struct Candidates<'a> {
    /// All of them, in no order. Empty where nothing is known of them.
    pub functions: Vec<&'a Function>,
    /// What a cast promises that the call may mean instead: `text(now())` is `now()::text`. `None` where it cannot be
    /// one. Only in question where nothing is known of a function whose argument has just the right type.
    pub cast: Option<Volatility>,
}

impl Candidates<'_> {
    /// The worst that any of them promises. `None` where nothing is known.
    pub fn worst_volatility(&self) -> Option<Volatility> {
        self.functions.iter().map(|f| f.volatility).chain(self.cast).max()
    }
}

/// Whether a role may look into a schema.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Usable {
    Yes,
    No,
    Unknown,
}

impl Catalog {
    /// The relation that a statement's name means, CTEs aside. Names are as Postgres stores them: folded and cut off.
    ///
    /// `has_temporary` says whether the session may have temporary relations. Such a session may also have given a
    /// table a temporary child.
    pub fn relation(
        &self,
        path: &SearchPath,
        schema: Option<&str>,
        name: &str,
        has_temporary: bool,
    ) -> Resolved<'_> {
        self.find(path, schema, has_temporary, |schema| self.relation_in(schema, name))
    }

    /// The type that a statement's name means, as the catalog has it: `int4` for `integer`. Temporary relations have
    /// row types, which `has_temporary` stands for here.
    pub fn data_type(
        &self,
        path: &SearchPath,
        schema: Option<&str>,
        name: &str,
        has_temporary: bool,
    ) -> Resolved<'_, Type> {
        let types = self.types_named(name);
        self.find(path, schema, has_temporary, |schema| types.iter().find(|t| t.schema == schema))
    }

    /// What `at` finds in the schema, or in the first one of the path where it finds something.
    fn find<'a, T>(
        &'a self,
        path: &SearchPath,
        schema: Option<&str>,
        has_temporary: bool,
        at: impl Fn(Oid) -> Option<&'a T>,
    ) -> Resolved<'a, T> {
        let Some(schema) = schema else { return self.search(path, has_temporary, at) };
        if is_temporary(schema) {
            return Resolved::Temporary;
        }
        self.schema(schema).and_then(|s| at(s.oid)).map_or(Resolved::Unknown, Resolved::Known)
    }

    fn search<'a, T>(
        &'a self,
        path: &SearchPath,
        has_temporary: bool,
        at: impl Fn(Oid) -> Option<&'a T>,
    ) -> Resolved<'a, T> {
        // Found in a schema that the role may perhaps not use: then the search goes on without it.
        let mut doubtful = None;
        for place in &path.places {
            if *place == Place::Temporary && has_temporary {
                return Resolved::Temporary;
            }
            let Some(schema) = self.schema_at(place) else { continue };
            let Some(found) = at(schema.oid) else { continue };
            match self.usable(path, place, schema) {
                Usable::No => (),
                Usable::Yes if doubtful.is_none() => return Resolved::Known(found),
                Usable::Unknown if doubtful.is_none() => doubtful = Some(found),
                Usable::Yes | Usable::Unknown => return Resolved::Unknown,
            }
        }
        doubtful.map_or(Resolved::Unknown, Resolved::Known)
    }

    fn schema_at(&self, place: &Place) -> Option<&Schema> {
        match place {
            Place::Temporary => None,
            Place::Catalog => self.schema("pg_catalog"),
            Place::Schema(name) => self.schema(name),
        }
    }

    fn usable(&self, path: &SearchPath, place: &Place, schema: &Schema) -> Usable {
        match (&schema.usage, self.role(&path.role)) {
            _ if *place == Place::Catalog => Usable::Yes,
            (Usage::Everyone, _) => Usable::Yes,
            (Usage::Roles(roles), Some(role)) if roles.binary_search(&role.oid).is_ok() => Usable::Yes,
            (Usage::Roles(_), Some(_)) => Usable::No,
            (Usage::Roles(_) | Usage::Unknown, _) => Usable::Unknown,
        }
    }

    /// Every function that a call with this many arguments may mean, whatever their types. Positional, named and mixed
    /// notation count alike; for an ordered-set aggregate, what it is ordered by counts too, and so does an argument
    /// after `VARIADIC`.
    ///
    /// Schemas of the path that the role may not use are not left out. Nothing is known of temporary functions
    /// (`pg_temp.f()`), which no unqualified name means.
    pub fn functions(
        &self,
        path: &SearchPath,
        schema: Option<&str>,
        name: &str,
        arguments: usize,
    ) -> Candidates<'_> {
        let schemas: Vec<_> = match schema {
            Some(schema) => self.schema(schema).filter(|_| !is_temporary(schema)).into_iter().collect(),
            None => path.places.iter().filter_map(|place| self.schema_at(place)).collect(),
        };
        let found = |oid| schemas.iter().any(|s| s.oid == oid);
        let named = self.functions_named(name).iter();
        let functions: Vec<_> = named.filter(|f| found(f.schema) && f.accepts(arguments)).collect();
        let cast = if arguments == 1 && !functions.is_empty() {
            let types = self.types_named(name).iter().filter(|t| found(t.schema));
            types.map(|t| self.cast_volatility(t)).max()
        } else {
            None
        };
        Candidates { functions, cast }
    }

    /// What any cast to a type may promise at worst.
    fn cast_volatility(&self, to: &Type) -> Volatility {
        // Values go by way of text, which depends on settings for types such as timestamptz.
        let simple =
            matches!(to.kind, TypeKind::Base | TypeKind::Enum | TypeKind::Range | TypeKind::Multirange);
        let Some(casts) = self.casts().filter(|_| simple) else { return Volatility::Volatile };
        let casts = casts.iter().filter(|c| c.target == to.oid).map(|c| c.volatility);
        casts.chain([to.text_volatility]).fold(Volatility::Stable, Ord::max)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Contents, Role};
    use super::*;
    use crate::core::clock::Instant;

    /// Schemas: pg_catalog 11, public 20, closed 21 (role 1 only), doubtful 22; roles me 1, other 2.
    fn catalog() -> Catalog {
        let schema = |oid, name: &str, usage| Schema { oid, name: name.into(), owner: 10, usage };
        let relation =
            |oid, schema, name: &str| Relation { oid, schema, name: name.into(), ..Relation::default() };
        let role = |oid, name: &str| Role { oid, name: name.into(), ..Role::default() };
        let function = |oid, schema, name: &str, arguments: &[u32], volatility| Function {
            oid,
            schema,
            name: name.into(),
            arguments: arguments.into(),
            volatility,
            ..Function::default()
        };
        let contents = Contents {
            roles: vec![role(1, "me"), role(2, "other")],
            schemas: vec![
                schema(11, "pg_catalog", Usage::Everyone),
                schema(20, "public", Usage::Everyone),
                schema(21, "closed", Usage::Roles([1].into())),
                schema(22, "doubtful", Usage::Unknown),
            ],
            relations: vec![
                relation(100, 11, "pg_class"),
                relation(101, 20, "pg_class"),
                relation(102, 20, "t"),
                relation(103, 21, "t"),
                relation(104, 22, "t"),
                relation(105, 22, "only"),
            ],
            functions: vec![
                function(200, 20, "f", &[23], Volatility::Volatile),
                function(201, 11, "f", &[25], Volatility::Immutable),
                function(202, 11, "f", &[25, 25], Volatility::Stable),
                function(203, 21, "f", &[25, 25], Volatility::Volatile),
                function(204, 11, "text", &[16], Volatility::Immutable),
            ],
            casts: Some(Vec::new()),
            types: vec![Type {
                oid: 25,
                schema: 11,
                name: "text".into(),
                text_volatility: Volatility::Immutable,
                ..Type::default()
            }],
            ..Contents::default()
        };
        Catalog::new(contents, Instant::now())
    }

    fn path(text: &str, role: &str) -> SearchPath {
        SearchPath::parse(text, role).expect("a path")
    }

    #[test]
    fn relations() {
        let catalog = catalog();
        let check = |text: &str, role: &str, name: &str, temporary, want: &str| {
            let (schema, name) = name.split_once('.').map_or((None, name), |(s, n)| (Some(s), n));
            let found = match catalog.relation(&path(text, role), schema, name, temporary) {
                Resolved::Known(relation) => relation.oid.to_string(),
                other => format!("{other:?}"),
            };
            assert_eq!(found, want, "{text} as {role}: {name}");
        };
        check("public", "me", "t", false, "102");
        check("public", "me", "nothing", false, "Unknown");
        check("nowhere, public", "me", "t", false, "102");
        check("", "me", "t", false, "Unknown");
        // pg_catalog comes first unless it is listed.
        check("public", "me", "pg_class", false, "100");
        check("public, pg_catalog", "me", "pg_class", false, "101");
        // A temporary table hides what comes after it.
        check("public", "me", "t", true, "Temporary");
        check("public, pg_temp", "me", "t", true, "102");
        check("public, pg_temp", "me", "nothing", true, "Temporary");
        check("public", "me", "public.t", true, "102");
        check("public", "me", "pg_temp.t", false, "Temporary");
        check("public", "me", "pg_temp_3.t", false, "Temporary");
        check("public", "me", "nowhere.t", false, "Unknown");
        // Schemas that the role may not use are passed over.
        check("closed, public", "me", "t", false, "103");
        check("closed, public", "other", "t", false, "102");
        check("closed, public", "new", "t", false, "Unknown");
        check("doubtful, public", "me", "t", false, "Unknown");
        check("doubtful, public", "me", "only", false, "105");
        check("public, doubtful", "me", "t", false, "102");
        check("doubtful, closed", "other", "t", false, "104");
        check("\"$user\", public", "closed", "t", false, "Unknown");
    }

    #[test]
    fn types() {
        let catalog = catalog();
        let check = |schema, temporary, want: Option<u32>| {
            let found = catalog.data_type(&path("public", "me"), schema, "text", temporary);
            assert_eq!(found.known().map(|t| t.oid), want);
        };
        check(None, false, Some(25));
        check(None, true, None);
        check(Some("pg_catalog"), true, Some(25));
        check(Some("public"), false, None);
    }

    #[test]
    fn it_can_be_shared() {
        fn shared<T: Send + Sync>(_: &T) {}
        shared(&catalog());
    }

    #[test]
    fn functions() {
        let catalog = catalog();
        let check = |text: &str, schema: Option<&str>, name: &str, arguments, want: &[u32], worst| {
            let found = catalog.functions(&path(text, "me"), schema, name, arguments);
            assert_eq!(found.functions.iter().map(|f| f.oid).collect::<Vec<_>>(), want, "{text}: {name}");
            assert_eq!(found.worst_volatility(), worst, "{text}: {name}");
        };
        let (immutable, stable, volatile) =
            (Some(Volatility::Immutable), Some(Volatility::Stable), Some(Volatility::Volatile));
        check("public", None, "f", 1, &[200, 201], volatile);
        check("", None, "f", 1, &[201], immutable);
        check("public", None, "f", 2, &[202], stable);
        check("closed", None, "f", 2, &[202, 203], volatile);
        check("public", Some("pg_catalog"), "f", 1, &[201], immutable);
        check("public", Some("pg_temp"), "f", 1, &[], None);
        check("public", None, "f", 3, &[], None);
        check("public", None, "g", 1, &[], None);
        check("public", None, "text", 1, &[204], stable);
    }
}
