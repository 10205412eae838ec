//! What is asked of a server. Every function, operator, type and relation is qualified, so that nobody who can write
//! to a schema can have something else called in their place.

/// Begins a transaction whose snapshot all of the questions share. Expressions are printed with every name qualified
/// that is not in pg_catalog. Tables that are being altered are not waited for. A server without an encoding refuses to
/// send what is not UTF-8, unless it is told to send what it has. Each question is undone to the savepoint.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL search_path = pg_catalog, pg_temp; \
    SET LOCAL quote_all_identifiers = off; \
    SET LOCAL jit = off; \
    SET LOCAL lock_timeout = '500ms'; \
    SET LOCAL statement_timeout = '60s'; \
    SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', true) \
        WHERE pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.=) 'SQL_ASCII'; \
    SAVEPOINT part";

/// Of the database and the server. `reset_val` is what a new session has, whatever this one has set.
pub(super) const SETTINGS: &str = "SELECT pg_catalog.current_database(), pg_catalog.pg_is_in_recovery(), \
    pg_catalog.current_setting('server_version_num')::pg_catalog.int4, \
    (SELECT s.reset_val FROM pg_catalog.pg_settings s WHERE s.name OPERATOR(pg_catalog.=) 'search_path'), \
    (SELECT s.reset_val FROM pg_catalog.pg_settings s \
        WHERE s.name OPERATOR(pg_catalog.=) 'standard_conforming_strings'), \
    pg_catalog.current_setting('server_encoding'), \
    (SELECT s.reset_val FROM pg_catalog.pg_settings s \
        WHERE s.name OPERATOR(pg_catalog.=) 'default_transaction_read_only'), \
    pg_catalog.quote_ident(SESSION_USER::pg_catalog.text)::pg_catalog.regrole::pg_catalog.oid";

/// The search paths of ALTER ROLE and ALTER DATABASE, by role, 0 for all; what is said of this database stands last.
pub(super) const SEARCH_PATHS: &str = "SELECT s.setrole, pg_catalog.substr(c, 13) \
    FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) c \
    WHERE pg_catalog.left(c, 12) OPERATOR(pg_catalog.=) 'search_path=' \
    AND (s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid \
        OR s.setdatabase OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d \
            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())) \
    ORDER BY s.setrole, s.setdatabase";

/// What ALTER ROLE and ALTER DATABASE have set that speaks to us, in the same order.
pub(super) const DIRECTIONS: &str = "SELECT s.setrole, pg_catalog.split_part(c, '=', 1), \
    pg_catalog.substr(c, pg_catalog.strpos(c, '=') OPERATOR(pg_catalog.+) 1) \
    FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) c \
    WHERE pg_catalog.lower(pg_catalog.left(c, 9)) OPERATOR(pg_catalog.=) 'turnpike.' \
    AND (s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid \
        OR s.setdatabase OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d \
            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())) \
    ORDER BY s.setrole, s.setdatabase";

/// Roles of the cluster.
pub(super) const ROLES: &str =
    "SELECT r.oid, r.rolname, r.rolsuper, r.rolbypassrls FROM pg_catalog.pg_roles r";

/// Schemas, and whether everybody may look into them.
pub(super) const SCHEMAS: &str = "SELECT n.oid, n.nspname, n.nspowner, \
    pg_catalog.has_schema_privilege('public'::pg_catalog.name, n.oid, 'USAGE') \
    FROM pg_catalog.pg_namespace n \
    WHERE pg_catalog.left(n.nspname::pg_catalog.text, 8) OPERATOR(pg_catalog.<>) 'pg_toast'";

/// Which roles may look into the schemas `$1`.
pub(super) const USAGE: &str = "SELECT n.oid, pg_catalog.array_agg(r.oid ORDER BY r.oid) \
    FROM pg_catalog.pg_namespace n CROSS JOIN pg_catalog.pg_roles r \
    WHERE n.oid OPERATOR(pg_catalog.=) ANY ($1) AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE') \
    GROUP BY n.oid";

/// Relations whose expressions cannot be printed without waiting: somebody is altering them or waits to, or a rule or
/// policy of theirs mentions one that somebody is altering.
pub(super) const LOCKED: &str = "WITH held AS (SELECT DISTINCT l.relation FROM pg_catalog.pg_locks l \
        WHERE l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock' AND l.relation IS NOT NULL \
        AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d \
            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
        AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()), \
    mentioning AS (SELECT d.classid, d.objid FROM pg_catalog.pg_depend d \
        WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
        AND d.refobjid OPERATOR(pg_catalog.=) ANY (SELECT h.relation FROM held h)) \
    SELECT h.relation FROM held h \
    UNION SELECT r.ev_class FROM pg_catalog.pg_rewrite r CROSS JOIN mentioning m \
    WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid \
    AND m.objid OPERATOR(pg_catalog.=) r.oid \
    UNION SELECT p.polrelid FROM pg_catalog.pg_policy p CROSS JOIN mentioning m \
    WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass::pg_catalog.oid \
    AND m.objid OPERATOR(pg_catalog.=) p.oid";

/// Relations but for TOAST.
pub(super) const RELATIONS: &str = "SELECT c.oid, c.relnamespace, c.relname, c.relkind, c.relpersistence, c.relowner, \
    c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition \
    FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE pg_catalog.left(n.nspname::pg_catalog.text, 8) OPERATOR(pg_catalog.<>) 'pg_toast' \
    ORDER BY c.oid";

/// Who inherits from whom.
pub(super) const INHERITS: &str = "SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i \
    ORDER BY i.inhrelid, i.inhseqno";

/// Columns of everything that has any, but for indexes and TOAST.
pub(super) const COLUMNS: &str = "SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, \
    a.attidentity, a.attgenerated, a.atthasdef \
    FROM pg_catalog.pg_attribute a \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
    WHERE a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped \
    AND c.relkind OPERATOR(pg_catalog.<>) ALL (ARRAY['i', 'I', 't']::pg_catalog.\"char\"[]) \
    ORDER BY a.attrelid, a.attnum";

/// Default and generation expressions.
pub(super) const DEFAULTS: &str = "SELECT d.adrelid, d.adnum, pg_catalog.pg_get_expr(d.adbin, d.adrelid) \
    FROM pg_catalog.pg_attrdef d WHERE d.adrelid OPERATOR(pg_catalog.<>) ALL ($1) ORDER BY d.adrelid";

/// Primary keys and unique indexes over plain columns.
pub(super) const KEYS: &str = "SELECT i.indrelid, c.relname, i.indisprimary, i.indpred IS NOT NULL, i.indimmediate, \
    i.indkey, i.indnkeyatts, \
    NOT EXISTS (SELECT FROM pg_catalog.pg_collation k \
        WHERE k.oid OPERATOR(pg_catalog.=) ANY (i.indcollation) AND NOT k.collisdeterministic) \
    FROM pg_catalog.pg_index i \
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
    WHERE i.indisunique AND i.indisvalid AND i.indexprs IS NULL \
    ORDER BY i.indrelid, i.indexrelid";

/// Foreign keys.
pub(super) const FOREIGN_KEYS: &str = "SELECT f.conrelid, f.conname, f.conkey, f.confrelid, f.confkey, f.confdeltype, \
    f.confupdtype, f.condeferrable, f.convalidated \
    FROM pg_catalog.pg_constraint f WHERE f.contype OPERATOR(pg_catalog.=) 'f'::pg_catalog.\"char\" \
    ORDER BY f.conrelid, f.oid";

/// CHECK constraints of tables and of domains; those of tables `$1` without their expression.
pub(super) const CHECKS: &str = "SELECT k.conrelid, k.contypid, k.conname, \
    CASE WHEN k.conrelid OPERATOR(pg_catalog.<>) ALL ($1) THEN pg_catalog.pg_get_expr(k.conbin, k.conrelid) END \
    FROM pg_catalog.pg_constraint k WHERE k.contype OPERATOR(pg_catalog.=) 'c'::pg_catalog.\"char\" \
    ORDER BY k.conrelid, k.contypid, k.conname";

/// Row security policies; those of tables `$1` without their expressions.
pub(super) const POLICIES: &str = "SELECT p.polrelid, p.polname, p.polcmd, p.polpermissive, p.polroles, \
    CASE WHEN p.polrelid OPERATOR(pg_catalog.<>) ALL ($1) THEN pg_catalog.pg_get_expr(p.polqual, p.polrelid) END, \
    CASE WHEN p.polrelid OPERATOR(pg_catalog.<>) ALL ($1) THEN pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) END \
    FROM pg_catalog.pg_policy p ORDER BY p.polrelid, p.polname";

/// Triggers that somebody made; those of tables `$1` without their definition. Before PostgreSQL 15, what a partition
/// has from its parent is marked internal, as are the triggers of constraints.
pub(super) const TRIGGERS: &str = "SELECT t.tgrelid, t.tgname, t.tgfoid, t.tgtype, t.tgenabled, t.tgdeferrable, \
    t.tgqual IS NOT NULL, \
    CASE WHEN t.tgqual IS NOT NULL AND t.tgrelid OPERATOR(pg_catalog.<>) ALL ($1) \
    THEN pg_catalog.pg_get_triggerdef(t.oid) END \
    FROM pg_catalog.pg_trigger t LEFT JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid \
    WHERE NOT t.tgisinternal OR t.tgparentid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid \
    AND (t.tgconstraint OPERATOR(pg_catalog.=) 0::pg_catalog.oid \
    OR p.pronamespace OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid) \
    ORDER BY t.tgrelid, t.tgname";

/// Rules but for those that make a view; those of relations `$1` without their definition.
pub(super) const RULES: &str = "SELECT r.ev_class, r.rulename, r.ev_type, r.is_instead, r.ev_enabled, \
    CASE WHEN r.ev_class OPERATOR(pg_catalog.<>) ALL ($1) THEN pg_catalog.pg_get_ruledef(r.oid) END \
    FROM pg_catalog.pg_rewrite r WHERE r.rulename OPERATOR(pg_catalog.<>) '_RETURN' \
    ORDER BY r.ev_class, r.rulename";

/// What views and rules mention: relations (true) and functions (false).
pub(super) const MENTIONS: &str = "SELECT DISTINCT r.ev_class, d.refobjid, \
    d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
    FROM pg_catalog.pg_rewrite r \
    JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) r.oid \
    AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid \
    WHERE d.refclassid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_class', 'pg_catalog.pg_proc']\
    ::pg_catalog.regclass[]::pg_catalog.oid[]) AND d.refobjid OPERATOR(pg_catalog.<>) r.ev_class \
    ORDER BY r.ev_class, d.refobjid";

/// Definitions of the views `$1`.
pub(super) const VIEWS: &str = "SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid) \
    FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) ANY ($1)";

/// Functions, with the code of those that are not written in C; code longer than `$1` bytes is left out.
pub(super) const FUNCTIONS: &str = "SELECT p.oid, p.pronamespace, p.proname, p.prokind, p.proowner, p.proargtypes, \
    p.pronargdefaults, pg_catalog.pg_get_expr(p.proargdefaults, 0::pg_catalog.oid), \
    CASE WHEN p.prokind OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\" THEN p.proargmodes END, \
    p.provariadic OPERATOR(pg_catalog.<>) 0::pg_catalog.oid, p.prorettype, p.proretset, p.provolatile, p.proisstrict, \
    p.prosecdef, l.lanname, p.proconfig, \
    CASE WHEN l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['internal', 'c']::pg_catalog.name[]) \
    AND pg_catalog.octet_length(p.prosrc) OPERATOR(pg_catalog.<=) $1 THEN p.prosrc END, \
    CASE WHEN p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid THEN p.proallargtypes END \
    FROM pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    ORDER BY p.oid";

/// SQL-standard bodies, which PostgreSQL has since 14; none of those that mention relations `$1`.
pub(super) const SQL_BODIES: &str = "SELECT p.oid, CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
        AND d.objid OPERATOR(pg_catalog.=) p.oid \
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
        AND d.refobjid OPERATOR(pg_catalog.=) ANY ($1)) \
    THEN pg_catalog.pg_get_function_sqlbody(p.oid) END \
    FROM pg_catalog.pg_proc p WHERE p.prosqlbody IS NOT NULL";

/// The functions that aggregates are made of; 0 stands for none.
pub(super) const AGGREGATES: &str = "SELECT a.aggfnoid::pg_catalog.oid, ARRAY[a.aggtransfn, a.aggfinalfn, \
    a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]\
    ::pg_catalog.oid[] FROM pg_catalog.pg_aggregate a";

/// Operators whose function is not immutable or somebody's own and not in C, and somebody's own `=` of types that keys are of (int8, int2, int4, text,
/// varchar, uuid): what it finds equal may be several rows.
pub(super) const OPERATORS: &str = "SELECT o.oid, o.oprnamespace, o.oprname, o.oprleft, o.oprright, p.oid, \
    p.provolatile \
    FROM pg_catalog.pg_operator o \
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oprcode::pg_catalog.oid \
    WHERE p.provolatile OPERATOR(pg_catalog.<>) 'i'::pg_catalog.\"char\" \
    OR o.oprname OPERATOR(pg_catalog.=) '=' AND o.oid OPERATOR(pg_catalog.>=) 16384 \
        AND o.oprleft OPERATOR(pg_catalog.=) ANY ('{20,21,23,25,1043,2950}'::pg_catalog.oid[]) \
    OR p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND p.prolang OPERATOR(pg_catalog.<>) ALL \
        (SELECT l.oid FROM pg_catalog.pg_language l \
        WHERE l.lanname OPERATOR(pg_catalog.=) ANY (ARRAY['internal', 'c']::pg_catalog.name[]))";

/// Casts whose function is not immutable, or somebody's own and not in C.
pub(super) const CASTS: &str = "SELECT c.castsource, c.casttarget, p.oid, c.castcontext, p.provolatile \
    FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.castfunc \
    WHERE p.provolatile OPERATOR(pg_catalog.<>) 'i'::pg_catalog.\"char\" \
    OR p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND p.prolang OPERATOR(pg_catalog.<>) ALL \
        (SELECT l.oid FROM pg_catalog.pg_language l \
        WHERE l.lanname OPERATOR(pg_catalog.=) ANY (ARRAY['internal', 'c']::pg_catalog.name[]))";

/// Types, with what their input and output functions promise.
pub(super) const TYPES: &str = "SELECT t.oid, t.typnamespace, t.typname, t.typtype, t.typcategory, t.typbasetype, \
    t.typelem, t.typrelid, t.typnotnull, pg_catalog.pg_get_expr(t.typdefaultbin, 0::pg_catalog.oid), \
    i.provolatile, o.provolatile \
    FROM pg_catalog.pg_type t \
    LEFT JOIN pg_catalog.pg_proc i ON i.oid OPERATOR(pg_catalog.=) t.typinput::pg_catalog.oid \
    LEFT JOIN pg_catalog.pg_proc o ON o.oid OPERATOR(pg_catalog.=) t.typoutput::pg_catalog.oid";

/// Extensions.
pub(super) const EXTENSIONS: &str =
    "SELECT e.extname, e.extversion, e.extnamespace FROM pg_catalog.pg_extension e ORDER BY e.extname";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lex::{Kind, Lexer, Token};

    /// Words that may stand before a parenthesis without being a function.
    const KEYWORDS: &[&str] = &["ANY", "ALL", "AND", "OPERATOR", "SELECT", "WHERE", "AS", "EXISTS"];

    #[test]
    fn everything_is_qualified() {
        let all = [
            SETTINGS,
            SEARCH_PATHS,
            ROLES,
            SCHEMAS,
            USAGE,
            LOCKED,
            RELATIONS,
            INHERITS,
            COLUMNS,
            DEFAULTS,
            KEYS,
            FOREIGN_KEYS,
            CHECKS,
            POLICIES,
            TRIGGERS,
            RULES,
            MENTIONS,
            VIEWS,
            FUNCTIONS,
            SQL_BODIES,
            AGGREGATES,
            OPERATORS,
            CASTS,
            TYPES,
            EXTENSIONS,
        ];
        for sql in all {
            let tokens: Vec<Token> = Lexer::new(sql.as_bytes(), true).collect();
            let text = |i: usize| tokens.get(i).map_or("", |t| &sql[t.start..t.end]);
            let qualified = |i: usize| i >= 2 && text(i - 1) == "." && text(i - 2) == "pg_catalog";
            for (i, token) in tokens.iter().enumerate() {
                let called = token.kind == Kind::Word && text(i + 1) == "(";
                let typed = i >= 2 && text(i - 1) == ":" && text(i - 2) == ":";
                let from = i >= 1
                    && ["FROM", "JOIN"].contains(&text(i - 1))
                    && !["held", "mentioning"].contains(&text(i));
                match token.kind {
                    Kind::Operator => assert!(qualified(i), "{} in {sql}", text(i)),
                    _ if called && !KEYWORDS.contains(&text(i)) => {
                        assert!(qualified(i), "{}() in {sql}", text(i))
                    }
                    _ if typed || from => assert_eq!(text(i), "pg_catalog", "after {} in {sql}", text(i - 1)),
                    Kind::Word => assert!(!["IN", "LIKE", "BETWEEN", "USING"].contains(&text(i)), "{sql}"),
                    _ => (),
                }
            }
        }
    }
}
