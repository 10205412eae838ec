//! `[plan]` and `[[function]]`: what there is to know for planning that the catalog does not tell.

use std::fmt;

use super::raw::{Fault, Section};
use super::{User, people};

/// Default of `plan.max_memory`, in bytes.
pub const PLAN_MEMORY: u64 = 64 << 20;
/// Most `[[function]]`s.
const MOST: usize = 1000;

/// `[plan]` and `[[function]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// About how much memory plans may take, in bytes.
    pub max_memory: u64,
    /// Whether the catalogs of databases are read.
    pub catalog: bool,
    /// The `[[user]]` that reads them; `None` means the one whose statement first makes one matter.
    pub catalog_user: Option<String>,
    /// Functions that only read, whatever the catalog says: names, with or without schema.
    pub read_functions: Vec<String>,
    /// Functions that may write, whatever the catalog says.
    pub write_functions: Vec<String>,
    /// What functions read and write, where that is said.
    pub functions: Vec<Function>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            max_memory: PLAN_MEMORY,
            catalog: true,
            catalog_user: None,
            read_functions: Vec::new(),
            write_functions: Vec::new(),
            functions: Vec::new(),
        }
    }
}

/// One `[[function]]`: what a function, or a procedure, reads and writes, whatever its code seems to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name; without a schema, that of every function of that name.
    pub name: Named,
    /// The tables that its result depends on, besides its arguments.
    pub reads: Vec<Named>,
    /// The tables that it writes to.
    pub writes: Vec<Named>,
}

/// The name of something in a database, as Postgres stores it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Its schema, where that is said.
    pub schema: Option<Box<str>>,
    /// Its own name.
    pub name: Box<str>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Named {
    /// From `NAME` or `SCHEMA.NAME`.
    fn read(text: &str) -> Result<Named, Fault> {
        let mut parts = text.split('.');
        let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if third.is_some() || first.is_empty() || second == Some("") {
            return Err(Fault::from(format!("{text:?} is neither NAME nor SCHEMA.NAME")));
        }
        Ok(match second {
            Some(name) => Named { schema: Some(first.into()), name: name.into() },
            None => Named { schema: None, name: first.into() },
        })
    }
}

/// `[plan]` and `[[function]]`
pub(super) fn plan(section: &Section<'_>, functions: &[Section<'_>], users: &[User]) -> Plan {
    let names = |key: &str| section.texts(key).unwrap_or_default();
    let (read_functions, write_functions) = (names("read_functions"), names("write_functions"));
    if let Some(section) = functions.get(MOST) {
        section.report("", format!("there are more than {MOST} of them"));
    }
    for (key, listed) in [("read_functions", &read_functions), ("write_functions", &write_functions)] {
        for function in functions {
            if function.text_quietly("name").is_some_and(|name| listed.contains(&name)) {
                let fault = Fault::from(format!("plan.{key} speaks of it, too"));
                function.report("name", fault.hint("say it here, where more can be said"));
            }
        }
    }
    Plan {
        max_memory: section
            .size("max_memory", 1 << 20..=usize::MAX >> 1)
            .map_or(PLAN_MEMORY, |size| size as u64),
        catalog: section.flag("catalog").unwrap_or(true),
        catalog_user: people::own_login(section, "catalog_user", users),
        read_functions,
        write_functions,
        functions: functions.iter().filter_map(function).collect(),
    }
}

fn function(section: &Section<'_>) -> Option<Function> {
    let (reads, writes) = (section.parsed("reads", Named::read), section.parsed("writes", Named::read));
    if reads.is_none() && writes.is_none() {
        let fault = Fault::from("is missing: nothing is said of the function");
        section.report("reads", fault.hint("[] where its result depends on nothing but its arguments"));
    }
    if section.required("name").is_empty() {
        return None;
    }
    let name = section.parsed("name", Named::read)?.into_iter().next()?;
    if name.schema.as_deref() == Some("pg_catalog") {
        section.report("name", "is one of the system's own, which are known");
    }
    Some(Function { name, reads: reads.unwrap_or_default(), writes: writes.unwrap_or_default() })
}
