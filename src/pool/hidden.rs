//! What calls functions without being called: views, rules, defaults, checks, policies, indexes, operators, casts, domains.
//! A statement that merely mentions one of them may leave something behind in its session.

/// Each of them by its name, as rows of [`super::suspects::QUESTION`]: with the names of what it is made of as its code, and
/// all of its text where that names one of the system's functions which leave something behind. Dependencies on those are
/// not kept anywhere; they stand in the trees that expressions are stored as (`nodes/outfuncs.c`).
pub const HIDDEN: &str = "WITH leaving(pattern) AS (SELECT pg_catalog.concat(':(funcid|aggfnoid|winfnoid) (', \
    pg_catalog.string_agg(oid::pg_catalog.text, '|'), ') ') FROM pg_catalog.pg_proc \
    WHERE pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid \
    AND proname::pg_catalog.text OPERATOR(pg_catalog.~) \
    '^(set_config|setseed|pg_(try_)?advisory_lock|.*to_xml|ts_stat|ts_rewrite|currval|lastval)'), \
    own(oid) AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.<>) ALL \
    (ARRAY['pg_catalog', 'information_schema', 'pg_toast']::pg_catalog.name[])), \
    class AS (SELECT c.oid, c.relname FROM pg_catalog.pg_class c JOIN own ON own.oid OPERATOR(pg_catalog.=) c.relnamespace), \
    hidden(class, object, name, code) AS ( \
    SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid, c.relname, CASE WHEN r.ev_action::pg_catalog.text \
    OPERATOR(pg_catalog.~) l.pattern THEN pg_catalog.pg_get_ruledef(r.oid) END \
    FROM pg_catalog.pg_rewrite r JOIN class c ON c.oid OPERATOR(pg_catalog.=) r.ev_class CROSS JOIN leaving l \
    UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, d.oid, c.relname, CASE WHEN d.adbin::pg_catalog.text \
    OPERATOR(pg_catalog.~) l.pattern THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END \
    FROM pg_catalog.pg_attrdef d JOIN class c ON c.oid OPERATOR(pg_catalog.=) d.adrelid CROSS JOIN leaving l \
    UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, coalesce(c.relname, t.typname), \
    CASE WHEN k.conbin::pg_catalog.text OPERATOR(pg_catalog.~) l.pattern THEN pg_catalog.pg_get_constraintdef(k.oid) END \
    FROM pg_catalog.pg_constraint k JOIN own ON own.oid OPERATOR(pg_catalog.=) k.connamespace CROSS JOIN leaving l \
    LEFT JOIN class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid \
    LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.contypid WHERE k.conbin IS NOT NULL \
    UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid, c.relname, \
    CASE WHEN pg_catalog.concat(p.polqual::pg_catalog.text, p.polwithcheck::pg_catalog.text) OPERATOR(pg_catalog.~) l.pattern \
    THEN pg_catalog.concat(pg_catalog.pg_get_expr(p.polqual, p.polrelid), ' ', \
    pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) END \
    FROM pg_catalog.pg_policy p JOIN class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid CROSS JOIN leaving l \
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, c.relname, \
    CASE WHEN pg_catalog.concat(i.indexprs::pg_catalog.text, i.indpred::pg_catalog.text) OPERATOR(pg_catalog.~) l.pattern \
    THEN pg_catalog.pg_get_indexdef(i.indexrelid) END \
    FROM pg_catalog.pg_index i JOIN class c ON c.oid OPERATOR(pg_catalog.=) i.indrelid CROSS JOIN leaving l \
    WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL \
    UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, t.typname, \
    CASE WHEN t.typdefaultbin::pg_catalog.text OPERATOR(pg_catalog.~) l.pattern \
    THEN pg_catalog.pg_get_expr(t.typdefaultbin, 0::pg_catalog.oid) END \
    FROM pg_catalog.pg_type t CROSS JOIN leaving l WHERE t.typdefaultbin IS NOT NULL \
    UNION ALL SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, o.oid, o.oprname, NULL FROM pg_catalog.pg_operator o \
    JOIN own ON own.oid OPERATOR(pg_catalog.=) o.oprnamespace \
    UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, a.oid, a.proname, NULL FROM pg_catalog.pg_proc a \
    JOIN own ON own.oid OPERATOR(pg_catalog.=) a.pronamespace WHERE a.prokind OPERATOR(pg_catalog.=) 'a' \
    UNION ALL SELECT 'pg_catalog.pg_cast'::pg_catalog.regclass, k.oid, t.typname, NULL FROM pg_catalog.pg_cast k \
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.castsource OR t.oid OPERATOR(pg_catalog.=) k.casttarget \
    WHERE k.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) \
    SELECT h.name, pg_catalog.concat(h.code, ' ', n.names), 'false', (h.code IS NOT NULL)::pg_catalog.text, 'true' \
    FROM hidden h CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(n.name), ' ') \
    FROM pg_catalog.pg_depend d CROSS JOIN LATERAL ( \
    SELECT proname FROM pg_catalog.pg_proc WHERE oid OPERATOR(pg_catalog.=) d.refobjid \
    AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
    UNION ALL SELECT relname FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) d.refobjid \
    AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
    AND h.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
    UNION ALL SELECT typname FROM pg_catalog.pg_type WHERE oid OPERATOR(pg_catalog.=) d.refobjid \
    AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass \
    UNION ALL SELECT oprname FROM pg_catalog.pg_operator WHERE oid OPERATOR(pg_catalog.=) d.refobjid \
    AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass) n(name) \
    WHERE d.classid OPERATOR(pg_catalog.=) h.class::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) h.object) n(names) \
    WHERE h.code IS NOT NULL OR n.names IS NOT NULL \
    UNION ALL SELECT c.relname, pg_catalog.quote_ident(t.typname), 'false', 'false', 'true' FROM pg_catalog.pg_attribute a \
    JOIN class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
    WHERE t.typtype OPERATOR(pg_catalog.=) 'd' AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
    UNION ALL SELECT c.relname, pg_catalog.quote_ident(k.relname), 'false', 'false', 'true' FROM pg_catalog.pg_inherits i \
    JOIN class c ON c.oid OPERATOR(pg_catalog.=) i.inhparent JOIN class k ON k.oid OPERATOR(pg_catalog.=) i.inhrelid \
    UNION ALL SELECT e.evtname, pg_catalog.quote_ident(p.proname), 'true', 'false', 'false' \
    FROM pg_catalog.pg_event_trigger e JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) e.evtfoid";
