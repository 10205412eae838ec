-- Sent by pg_dump (PostgreSQL) 15.18 to PostgreSQL 15.18, as its log has it; see programs/objects.sql.
-- One statement per record, without duplicates; recorded by scripts/corpus pg_dump.
-- What it wrote, split into statements, follows.
;;
SELECT pg_catalog.set_config('search_path', '', false);
;;
SELECT pg_catalog.pg_is_in_recovery()
;;
SET DATESTYLE = ISO
;;
SET INTERVALSTYLE = POSTGRES
;;
SET extra_float_digits TO 3
;;
SET synchronize_seqscans TO off
;;
SET statement_timeout = 0
;;
SET lock_timeout = 0
;;
SET idle_in_transaction_session_timeout = 0
;;
SET row_security = off
;;
SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'
;;
BEGIN
;;
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY
;;
SELECT oid, rolname FROM pg_catalog.pg_roles ORDER BY 1
;;
SELECT x.tableoid, x.oid, x.extname, n.nspname, x.extrelocatable, x.extversion, x.extconfig, x.extcondition FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
;;
SELECT classid, objid, refobjid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' ORDER BY 3
;;
SELECT n.tableoid, n.oid, n.nspname, n.nspowner, n.nspacl, acldefault('n', n.nspowner) AS acldefault FROM pg_namespace n
;;
SELECT c.tableoid, c.oid, c.relname, c.relnamespace, c.relkind, c.reltype, c.relowner, c.relchecks, c.relhasindex, c.relhasrules, c.relpages, c.relhastriggers, c.relpersistence, c.reloftype, c.relacl, acldefault(CASE WHEN c.relkind = 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner) AS acldefault, CASE WHEN c.relkind = 'f' THEN (SELECT ftserver FROM pg_catalog.pg_foreign_table WHERE ftrelid = c.oid) ELSE 0 END AS foreignserver, c.relfrozenxid, tc.relfrozenxid AS tfrozenxid, tc.oid AS toid, tc.relpages AS toastpages, tc.reloptions AS toast_reloptions, d.refobjid AS owning_tab, d.refobjsubid AS owning_col, tsp.spcname AS reltablespace, false AS relhasoids, c.relispopulated, c.relreplident, c.relrowsecurity, c.relforcerowsecurity, c.relminmxid, tc.relminmxid AS tminmxid, array_remove(array_remove(c.reloptions,'check_option=local'),'check_option=cascaded') AS reloptions, CASE WHEN 'check_option=local' = ANY (c.reloptions) THEN 'LOCAL'::text WHEN 'check_option=cascaded' = ANY (c.reloptions) THEN 'CASCADED'::text ELSE NULL END AS checkoption, am.amname, (d.deptype = 'i') IS TRUE AS is_identity_sequence, c.relispartition AS ispartition 
FROM pg_class c
LEFT JOIN pg_depend d ON (c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
LEFT JOIN pg_tablespace tsp ON (tsp.oid = c.reltablespace)
LEFT JOIN pg_am am ON (c.relam = am.oid)
LEFT JOIN pg_class tc ON (c.reltoastrelid = tc.oid AND tc.relkind = 't' AND c.relkind <> 'p')
WHERE c.relkind IN ('r', 'S', 'v', 'c', 'm', 'f', 'p')
ORDER BY c.oid
;;
LOCK TABLE shop.customer IN ACCESS SHARE MODE
;;
LOCK TABLE "Odd Schema"."Odd ""Table""" IN ACCESS SHARE MODE
;;
LOCK TABLE shop.event IN ACCESS SHARE MODE
;;
LOCK TABLE shop.event_2023 IN ACCESS SHARE MODE
;;
LOCK TABLE shop.event_2023_a IN ACCESS SHARE MODE
;;
LOCK TABLE shop.event_rest IN ACCESS SHARE MODE
;;
LOCK TABLE shop.hashed IN ACCESS SHARE MODE
;;
LOCK TABLE shop.hashed_0 IN ACCESS SHARE MODE
;;
LOCK TABLE shop.parent IN ACCESS SHARE MODE
;;
LOCK TABLE shop.child IN ACCESS SHARE MODE
;;
LOCK TABLE shop.quick IN ACCESS SHARE MODE
;;
SELECT p.tableoid, p.oid, p.proname, p.prolang, p.pronargs, p.proargtypes, p.prorettype, p.proacl, acldefault('f', p.proowner) AS acldefault, p.pronamespace, p.proowner FROM pg_proc p LEFT JOIN pg_init_privs pip ON (p.oid = pip.objoid AND pip.classoid = 'pg_proc'::regclass AND pip.objsubid = 0) WHERE p.prokind <> 'a'
  AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'i')
  AND (
  pronamespace != (SELECT oid FROM pg_namespace WHERE nspname = 'pg_catalog')
  OR EXISTS (SELECT 1 FROM pg_cast
  WHERE pg_cast.oid > 16383 
  AND p.oid = pg_cast.castfunc)
  OR EXISTS (SELECT 1 FROM pg_transform
  WHERE pg_transform.oid > 16383 AND 
  (p.oid = pg_transform.trffromsql
  OR p.oid = pg_transform.trftosql))
  OR p.proacl IS DISTINCT FROM pip.initprivs)
;;
SELECT tableoid, oid, typname, typnamespace, typacl, acldefault('T', typowner) AS acldefault, typowner, typelem, typrelid, CASE WHEN typrelid = 0 THEN ' '::"char" ELSE (SELECT relkind FROM pg_class WHERE oid = typrelid) END AS typrelkind, typtype, typisdefined, typname[0] = '_' AND typelem != 0 AND (SELECT typarray FROM pg_type te WHERE oid = pg_type.typelem) = oid AS isarray FROM pg_type
;;
PREPARE getDomainConstraints(pg_catalog.oid) AS
SELECT tableoid, oid, conname, pg_catalog.pg_get_constraintdef(oid) AS consrc, convalidated FROM pg_catalog.pg_constraint WHERE contypid = $1 ORDER BY conname
;;
EXECUTE getDomainConstraints('16547')
;;
SELECT tableoid, oid, lanname, lanpltrusted, lanplcallfoid, laninline, lanvalidator, lanacl, acldefault('l', lanowner) AS acldefault, lanowner FROM pg_language WHERE lanispl ORDER BY oid
;;
SELECT p.tableoid, p.oid, p.proname AS aggname, p.pronamespace AS aggnamespace, p.pronargs, p.proargtypes, p.proowner, p.proacl AS aggacl, acldefault('f', p.proowner) AS acldefault FROM pg_proc p LEFT JOIN pg_init_privs pip ON (p.oid = pip.objoid AND pip.classoid = 'pg_proc'::regclass AND pip.objsubid = 0) WHERE p.prokind = 'a' AND (p.pronamespace != (SELECT oid FROM pg_namespace WHERE nspname = 'pg_catalog') OR p.proacl IS DISTINCT FROM pip.initprivs)
;;
SELECT tableoid, oid, oprname, oprnamespace, oprowner, oprkind, oprleft, oprright, oprcode::oid AS oprcode FROM pg_operator
;;
SELECT tableoid, oid, amname, amtype, amhandler::pg_catalog.regproc AS amhandler FROM pg_am
;;
SELECT tableoid, oid, opcmethod, opcname, opcnamespace, opcowner FROM pg_opclass
;;
SELECT tableoid, oid, opfmethod, opfname, opfnamespace, opfowner FROM pg_opfamily
;;
SELECT tableoid, oid, prsname, prsnamespace, prsstart::oid, prstoken::oid, prsend::oid, prsheadline::oid, prslextype::oid FROM pg_ts_parser
;;
SELECT tableoid, oid, tmplname, tmplnamespace, tmplinit::oid, tmpllexize::oid FROM pg_ts_template
;;
SELECT tableoid, oid, dictname, dictnamespace, dictowner, dicttemplate, dictinitoption FROM pg_ts_dict
;;
SELECT tableoid, oid, cfgname, cfgnamespace, cfgowner, cfgparser FROM pg_ts_config
;;
SELECT tableoid, oid, fdwname, fdwowner, fdwhandler::pg_catalog.regproc, fdwvalidator::pg_catalog.regproc, fdwacl, acldefault('F', fdwowner) AS acldefault, array_to_string(ARRAY(SELECT quote_ident(option_name) || ' ' || quote_literal(option_value) FROM pg_options_to_table(fdwoptions) ORDER BY option_name), E',
    ') AS fdwoptions FROM pg_foreign_data_wrapper
;;
SELECT tableoid, oid, srvname, srvowner, srvfdw, srvtype, srvversion, srvacl, acldefault('S', srvowner) AS acldefault, array_to_string(ARRAY(SELECT quote_ident(option_name) || ' ' || quote_literal(option_value) FROM pg_options_to_table(srvoptions) ORDER BY option_name), E',
    ') AS srvoptions FROM pg_foreign_server
;;
SELECT oid, tableoid, defaclrole, defaclnamespace, defaclobjtype, defaclacl, CASE WHEN defaclnamespace = 0 THEN acldefault(CASE WHEN defaclobjtype = 'S' THEN 's'::"char" ELSE defaclobjtype END, defaclrole) ELSE '{}' END AS acldefault FROM pg_default_acl
;;
SELECT tableoid, oid, collname, collnamespace, collowner, collencoding FROM pg_collation
;;
SELECT tableoid, oid, conname, connamespace, conowner FROM pg_conversion
;;
SELECT tableoid, oid, castsource, casttarget, castfunc, castcontext, castmethod FROM pg_cast c WHERE NOT EXISTS ( SELECT 1 FROM pg_range r WHERE c.castsource = r.rngtypid AND c.casttarget = r.rngmultitypid ) ORDER BY 3,4
;;
SELECT tableoid, oid, trftype, trflang, trffromsql::oid, trftosql::oid FROM pg_transform ORDER BY 3,4
;;
SELECT lanname FROM pg_language WHERE oid = 14
;;
SELECT inhrelid, inhparent FROM pg_inherits
;;
SELECT e.tableoid, e.oid, evtname, evtenabled, evtevent, evtowner, array_to_string(array(select quote_literal(x)  from unnest(evttags) as t(x)), ', ') as evttags, e.evtfoid::regproc as evtfname FROM pg_event_trigger e ORDER BY e.oid
;;
SELECT conrelid, confrelid FROM pg_constraint JOIN pg_depend ON (objid = confrelid) WHERE contype = 'f' AND refclassid = 'pg_extension'::regclass AND classid = 'pg_class'::regclass;
;;
SELECT
a.attrelid,
a.attnum,
a.attname,
a.atttypmod,
a.attstattarget,
a.attstorage,
t.typstorage,
a.attnotnull,
a.atthasdef,
a.attisdropped,
a.attlen,
a.attalign,
a.attislocal,
pg_catalog.format_type(t.oid, a.atttypmod) AS atttypname,
array_to_string(a.attoptions, ', ') AS attoptions,
CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation ELSE 0 END AS attcollation,
pg_catalog.array_to_string(ARRAY(SELECT pg_catalog.quote_ident(option_name) || ' ' || pg_catalog.quote_literal(option_value) FROM pg_catalog.pg_options_to_table(attfdwoptions) ORDER BY option_name), E',
    ') AS attfdwoptions,
a.attcompression AS attcompression,
a.attidentity,
CASE WHEN a.atthasmissing AND NOT a.attisdropped THEN a.attmissingval ELSE null END AS attmissingval,
a.attgenerated
FROM unnest('{16571,16587,16602,16605,16608,16613,16618,16621,16624,16627,16630,16642,16647,16651,16655,16670}'::pg_catalog.oid[]) AS src(tbloid)
JOIN pg_catalog.pg_attribute a ON (src.tbloid = a.attrelid) LEFT JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid)
WHERE a.attnum > 0::pg_catalog.int2
ORDER BY a.attrelid, a.attnum
;;
SELECT a.tableoid, a.oid, adrelid, adnum, pg_catalog.pg_get_expr(adbin, adrelid) AS adsrc
FROM unnest('{16571,16587}'::pg_catalog.oid[]) AS src(tbloid)
JOIN pg_catalog.pg_attrdef a ON (src.tbloid = a.adrelid)
ORDER BY a.adrelid, a.adnum
;;
SELECT c.tableoid, c.oid, conrelid, conname, pg_catalog.pg_get_constraintdef(c.oid) AS consrc, conislocal, convalidated FROM unnest('{16587}'::pg_catalog.oid[]) AS src(tbloid)
JOIN pg_catalog.pg_constraint c ON (src.tbloid = c.conrelid)
WHERE contype = 'c' ORDER BY c.conrelid, c.conname
;;
SELECT t.tableoid, t.oid, i.indrelid, t.relname AS indexname, pg_catalog.pg_get_indexdef(i.indexrelid) AS indexdef, i.indkey, i.indisclustered, c.contype, c.conname, c.condeferrable, c.condeferred, c.tableoid AS contableoid, c.oid AS conoid, pg_catalog.pg_get_constraintdef(c.oid, false) AS condef, (SELECT spcname FROM pg_catalog.pg_tablespace s WHERE s.oid = t.reltablespace) AS tablespace, t.reloptions AS indreloptions, i.indisreplident, inh.inhparent AS parentidx, i.indnkeyatts AS indnkeyatts, i.indnatts AS indnatts, (SELECT pg_catalog.array_agg(attnum ORDER BY attnum)   FROM pg_catalog.pg_attribute   WHERE attrelid = i.indexrelid AND     attstattarget >= 0) AS indstatcols, (SELECT pg_catalog.array_agg(attstattarget ORDER BY attnum)   FROM pg_catalog.pg_attribute   WHERE attrelid = i.indexrelid AND     attstattarget >= 0) AS indstatvals, i.indnullsnotdistinct FROM unnest('{16571,16587,16602,16605,16608,16613,16655}'::pg_catalog.oid[]) AS src(tbloid)
JOIN pg_catalog.pg_index i ON (src.tbloid = i.indrelid) JOIN pg_catalog.pg_class t ON (t.oid = i.indexrelid) JOIN pg_catalog.pg_class t2 ON (t2.oid = i.indrelid) LEFT JOIN pg_catalog.pg_constraint c ON (i.indrelid = c.conrelid AND i.indexrelid = c.conindid AND c.contype IN ('p','u','x')) LEFT JOIN pg_catalog.pg_inherits inh ON (inh.inhrelid = indexrelid) WHERE (i.indisvalid OR t2.relkind = 'p') AND i.indisready ORDER BY i.indrelid, indexname
;;
SELECT tableoid, oid, stxname, stxnamespace, stxowner, stxrelid, stxstattarget FROM pg_catalog.pg_statistic_ext
;;
SELECT c.tableoid, c.oid, conrelid, conname, confrelid, conindid, pg_catalog.pg_get_constraintdef(c.oid) AS condef
FROM unnest('{16571,16587,16602,16605,16618}'::pg_catalog.oid[]) AS src(tbloid)
JOIN pg_catalog.pg_constraint c ON (src.tbloid = c.conrelid)
WHERE contype = 'f' AND conparentid = 0 ORDER BY conrelid, conname
;;
SELECT t.tgrelid, t.tgname, t.tgfoid::pg_catalog.regproc AS tgfname, pg_catalog.pg_get_triggerdef(t.oid, false) AS tgdef, t.tgenabled, t.tableoid, t.oid, t.tgparentid <> 0 AS tgispartition
FROM unnest('{16571,16587}'::pg_catalog.oid[]) AS src(tbloid)
JOIN pg_catalog.pg_trigger t ON (src.tbloid = t.tgrelid) LEFT JOIN pg_catalog.pg_trigger u ON (u.oid = t.tgparentid) WHERE ((NOT t.tgisinternal AND t.tgparentid = 0) OR t.tgenabled != u.tgenabled) ORDER BY t.tgrelid, t.tgname
;;
SELECT tableoid, oid, rulename, ev_class AS ruletable, ev_type, is_instead, ev_enabled FROM pg_rewrite ORDER BY oid
;;
SELECT pol.oid, pol.tableoid, pol.polrelid, pol.polname, pol.polcmd, pol.polpermissive, CASE WHEN pol.polroles = '{0}' THEN NULL ELSE    pg_catalog.array_to_string(ARRAY(SELECT pg_catalog.quote_ident(rolname) from pg_catalog.pg_roles WHERE oid = ANY(pol.polroles)), ', ') END AS polroles, pg_catalog.pg_get_expr(pol.polqual, pol.polrelid) AS polqual, pg_catalog.pg_get_expr(pol.polwithcheck, pol.polrelid) AS polwithcheck FROM unnest('{16571,16587,16602,16605,16608,16613,16618,16621,16624,16627,16630}'::pg_catalog.oid[]) AS src(tbloid)
JOIN pg_catalog.pg_policy pol ON (src.tbloid = pol.polrelid)
;;
SELECT p.tableoid, p.oid, p.pubname, p.pubowner, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot FROM pg_publication p
;;
SELECT tableoid, oid, prpubid, prrelid, pg_catalog.pg_get_expr(prqual, prrelid) AS prrelqual, (CASE
  WHEN pr.prattrs IS NOT NULL THEN
    (SELECT array_agg(attname)
       FROM
         pg_catalog.generate_series(0, pg_catalog.array_upper(pr.prattrs::pg_catalog.int2[], 1)) s,
         pg_catalog.pg_attribute
      WHERE attrelid = pr.prrelid AND attnum = prattrs[s])
  ELSE NULL END) prattrs FROM pg_catalog.pg_publication_rel pr
;;
SELECT tableoid, oid, pnpubid, pnnspid FROM pg_catalog.pg_publication_namespace
;;
SELECT s.tableoid, s.oid, s.subname,
 s.subowner,
 s.subconninfo, s.subslotname, s.subsynccommit,
 s.subpublications,
 s.subbinary,
 s.substream,
 s.subtwophasestate,
 s.subdisableonerr
FROM pg_subscription s
WHERE s.subdbid = (SELECT oid FROM pg_database
                   WHERE datname = current_database())
;;
SELECT classid, objid, refclassid, refobjid, deptype FROM pg_depend WHERE deptype != 'p' AND deptype != 'e'
UNION ALL
SELECT 'pg_opfamily'::regclass AS classid, amopfamily AS objid, refclassid, refobjid, deptype FROM pg_depend d, pg_amop o WHERE deptype NOT IN ('p', 'e', 'i') AND classid = 'pg_amop'::regclass AND objid = o.oid AND NOT (refclassid = 'pg_opfamily'::regclass AND amopfamily = refobjid)
UNION ALL
SELECT 'pg_opfamily'::regclass AS classid, amprocfamily AS objid, refclassid, refobjid, deptype FROM pg_depend d, pg_amproc p WHERE deptype NOT IN ('p', 'e', 'i') AND classid = 'pg_amproc'::regclass AND objid = p.oid AND NOT (refclassid = 'pg_opfamily'::regclass AND amprocfamily = refobjid)
ORDER BY 1,2
;;
SELECT DISTINCT attrelid FROM pg_attribute WHERE attacl IS NOT NULL
;;
SELECT objoid, classoid, objsubid, privtype, initprivs FROM pg_init_privs
;;
SELECT description, classoid, objoid, objsubid FROM pg_catalog.pg_description ORDER BY classoid, objoid, objsubid
;;
SELECT label, provider, classoid, objoid, objsubid FROM pg_catalog.pg_seclabels ORDER BY classoid, objoid, objsubid
;;
SELECT pg_catalog.current_schemas(false)
;;
SELECT tableoid, oid, datname, datdba, pg_encoding_to_char(encoding) AS encoding, datcollate, datctype, datfrozenxid, datacl, acldefault('d', datdba) AS acldefault, datistemplate, datconnlimit, datminmxid, datlocprovider, daticulocale, datcollversion, (SELECT spcname FROM pg_tablespace t WHERE t.oid = dattablespace) AS tablespace, shobj_description(oid, 'pg_database') AS description FROM pg_database WHERE datname = current_database()
;;
SELECT provider, label FROM pg_catalog.pg_shseclabel WHERE classoid = 'pg_catalog.pg_database'::pg_catalog.regclass AND objoid = '16384'
;;
SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase = '16384'::oid
;;
SELECT rolname, unnest(setconfig) FROM pg_db_role_setting s, pg_roles r WHERE setrole = r.oid AND setdatabase = '16384'::oid
;;
SELECT collprovider, collversion, collisdeterministic, colliculocale, collcollate, collctype FROM pg_catalog.pg_collation c WHERE c.oid = '16524'::pg_catalog.oid
;;
SELECT pg_catalog.format_type('23'::pg_catalog.oid, NULL)
;;
SELECT pg_catalog.format_type('2281'::pg_catalog.oid, NULL)
;;
PREPARE dumpEnumType(pg_catalog.oid) AS
SELECT oid, enumlabel FROM pg_catalog.pg_enum WHERE enumtypid = $1 ORDER BY enumsortorder
;;
EXECUTE dumpEnumType('16526')
;;
PREPARE dumpCompositeType(pg_catalog.oid) AS
SELECT a.attname, a.attnum, pg_catalog.format_type(a.atttypid, a.atttypmod) AS atttypdefn, a.attlen, a.attalign, a.attisdropped, CASE WHEN a.attcollation <> at.typcollation THEN a.attcollation ELSE 0 END AS attcollation FROM pg_catalog.pg_type ct JOIN pg_catalog.pg_attribute a ON a.attrelid = ct.typrelid LEFT JOIN pg_catalog.pg_type at ON at.oid = a.atttypid WHERE ct.oid = $1 ORDER BY a.attnum
;;
EXECUTE dumpCompositeType('16535')
;;
PREPARE dumpDomain(pg_catalog.oid) AS
SELECT t.typnotnull, pg_catalog.format_type(t.typbasetype, t.typtypmod) AS typdefn, pg_catalog.pg_get_expr(t.typdefaultbin, 'pg_catalog.pg_type'::pg_catalog.regclass) AS typdefaultbin, t.typdefault, CASE WHEN t.typcollation <> u.typcollation THEN t.typcollation ELSE 0 END AS typcollation FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type u ON (t.typbasetype = u.oid) WHERE t.oid = $1
;;
EXECUTE dumpDomain('16547')
;;
PREPARE dumpRangeType(pg_catalog.oid) AS
SELECT pg_catalog.format_type(rngmultitypid, NULL) AS rngmultitype, pg_catalog.format_type(rngsubtype, NULL) AS rngsubtype, opc.opcname AS opcname, (SELECT nspname FROM pg_catalog.pg_namespace nsp   WHERE nsp.oid = opc.opcnamespace) AS opcnsp, opc.opcdefault, CASE WHEN rngcollation = st.typcollation THEN 0      ELSE rngcollation END AS collation, rngcanonical, rngsubdiff FROM pg_catalog.pg_range r, pg_catalog.pg_type st,      pg_catalog.pg_opclass opc WHERE st.oid = rngsubtype AND opc.oid = rngsubopc AND rngtypid = $1
;;
EXECUTE dumpRangeType('16539')
;;
SELECT pg_catalog.format_type('16535'::pg_catalog.oid, NULL)
;;
SELECT pg_catalog.format_type('25'::pg_catalog.oid, NULL)
;;
PREPARE dumpFunc(pg_catalog.oid) AS
SELECT
proretset,
prosrc,
probin,
provolatile,
proisstrict,
prosecdef,
lanname,
proconfig,
procost,
prorows,
pg_catalog.pg_get_function_arguments(p.oid) AS funcargs,
pg_catalog.pg_get_function_identity_arguments(p.oid) AS funciargs,
pg_catalog.pg_get_function_result(p.oid) AS funcresult,
proleakproof,
array_to_string(protrftypes, ' ') AS protrftypes,
proparallel,
prokind,
prosupport,
pg_get_function_sqlbody(p.oid) AS prosqlbody
FROM pg_catalog.pg_proc p, pg_catalog.pg_language l
WHERE p.oid = $1 AND l.oid = p.prolang
;;
EXECUTE dumpFunc('16551')
;;
SELECT pg_catalog.format_type('1007'::pg_catalog.oid, NULL)
;;
EXECUTE dumpFunc('16550')
;;
EXECUTE dumpFunc('16552')
;;
EXECUTE dumpFunc('16554')
;;
EXECUTE dumpFunc('16553')
;;
EXECUTE dumpFunc('16555')
;;
PREPARE dumpAgg(pg_catalog.oid) AS
SELECT aggtransfn,
aggfinalfn,
aggtranstype::pg_catalog.regtype,
agginitval,
aggsortop,
pg_catalog.pg_get_function_arguments(p.oid) AS funcargs,
pg_catalog.pg_get_function_identity_arguments(p.oid) AS funciargs,
aggkind,
aggmtransfn,
aggminvtransfn,
aggmfinalfn,
aggmtranstype::pg_catalog.regtype,
aggfinalextra,
aggmfinalextra,
aggtransspace,
aggmtransspace,
aggminitval,
aggcombinefn,
aggserialfn,
aggdeserialfn,
proparallel,
aggfinalmodify,
aggmfinalmodify
FROM pg_catalog.pg_aggregate a, pg_catalog.pg_proc p WHERE a.aggfnoid = p.oid AND p.oid = $1
;;
EXECUTE dumpAgg('16556')
;;
PREPARE dumpOpr(pg_catalog.oid) AS
SELECT oprkind, oprcode::pg_catalog.regprocedure, oprleft::pg_catalog.regtype, oprright::pg_catalog.regtype, oprcom, oprnegate, oprrest::pg_catalog.regprocedure, oprjoin::pg_catalog.regprocedure, oprcanmerge, oprcanhash FROM pg_catalog.pg_operator WHERE oid = $1
;;
EXECUTE dumpOpr('16557')
;;
SELECT amopstrategy, amopopr::pg_catalog.regoperator, opfname AS sortfamily, nspname AS sortfamilynsp FROM pg_catalog.pg_amop ao JOIN pg_catalog.pg_depend ON (classid = 'pg_catalog.pg_amop'::pg_catalog.regclass AND objid = ao.oid) LEFT JOIN pg_catalog.pg_opfamily f ON f.oid = amopsortfamily LEFT JOIN pg_catalog.pg_namespace n ON n.oid = opfnamespace WHERE refclassid = 'pg_catalog.pg_opfamily'::pg_catalog.regclass AND refobjid = '16559'::pg_catalog.oid AND amopfamily = '16559'::pg_catalog.oid ORDER BY amopstrategy
;;
SELECT amprocnum, amproc::pg_catalog.regprocedure, amproclefttype::pg_catalog.regtype, amprocrighttype::pg_catalog.regtype FROM pg_catalog.pg_amproc ap, pg_catalog.pg_depend WHERE refclassid = 'pg_catalog.pg_opfamily'::pg_catalog.regclass AND refobjid = '16559'::pg_catalog.oid AND classid = 'pg_catalog.pg_amproc'::pg_catalog.regclass AND objid = ap.oid ORDER BY amprocnum
;;
SELECT (SELECT amname FROM pg_catalog.pg_am WHERE oid = opfmethod) AS amname FROM pg_catalog.pg_opfamily WHERE oid = '16559'::pg_catalog.oid
;;
SELECT opcintype::pg_catalog.regtype, opckeytype::pg_catalog.regtype, opcdefault, opcfamily, opfname AS opcfamilyname, nspname AS opcfamilynsp, (SELECT amname FROM pg_catalog.pg_am WHERE oid = opcmethod) AS amname FROM pg_catalog.pg_opclass c LEFT JOIN pg_catalog.pg_opfamily f ON f.oid = opcfamily LEFT JOIN pg_catalog.pg_namespace n ON n.oid = opfnamespace WHERE c.oid = '16560'::pg_catalog.oid
;;
SELECT amopstrategy, amopopr::pg_catalog.regoperator, opfname AS sortfamily, nspname AS sortfamilynsp FROM pg_catalog.pg_amop ao JOIN pg_catalog.pg_depend ON (classid = 'pg_catalog.pg_amop'::pg_catalog.regclass AND objid = ao.oid) LEFT JOIN pg_catalog.pg_opfamily f ON f.oid = amopsortfamily LEFT JOIN pg_catalog.pg_namespace n ON n.oid = opfnamespace WHERE refclassid = 'pg_catalog.pg_opclass'::pg_catalog.regclass AND refobjid = '16560'::pg_catalog.oid AND amopfamily = '16559'::pg_catalog.oid ORDER BY amopstrategy
;;
SELECT amprocnum, amproc::pg_catalog.regprocedure, amproclefttype::pg_catalog.regtype, amprocrighttype::pg_catalog.regtype FROM pg_catalog.pg_amproc ap, pg_catalog.pg_depend WHERE refclassid = 'pg_catalog.pg_opclass'::pg_catalog.regclass AND refobjid = '16560'::pg_catalog.oid AND classid = 'pg_catalog.pg_amproc'::pg_catalog.regclass AND objid = ap.oid ORDER BY amprocnum
;;
SELECT pg_catalog.pg_encoding_to_char(conforencoding) AS conforencoding, pg_catalog.pg_encoding_to_char(contoencoding) AS contoencoding, conproc, condefault FROM pg_catalog.pg_conversion c WHERE c.oid = '16567'::pg_catalog.oid
;;
SELECT nspname, tmplname FROM pg_ts_template p, pg_namespace n WHERE p.oid = '3727' AND n.oid = tmplnamespace
;;
SELECT nspname, prsname FROM pg_ts_parser p, pg_namespace n WHERE p.oid = '3722' AND n.oid = prsnamespace
;;
SELECT
  ( SELECT alias FROM pg_catalog.ts_token_type('3722'::pg_catalog.oid) AS t
    WHERE t.tokid = m.maptokentype ) AS tokenname,
  m.mapdict::pg_catalog.regdictionary AS dictname
FROM pg_catalog.pg_ts_config_map AS m
WHERE m.mapcfg = '16569'
ORDER BY m.mapcfg, m.maptokentype, m.mapseqno
;;
SELECT fdwname FROM pg_foreign_data_wrapper w WHERE w.oid = '16520'
;;
SELECT usename, array_to_string(ARRAY(SELECT quote_ident(option_name) || ' ' || quote_literal(option_value) FROM pg_options_to_table(umoptions) ORDER BY option_name), E',
    ') AS umoptions FROM pg_user_mappings WHERE srvid = '16668' ORDER BY usename
;;
SELECT format_type(seqtypid, NULL), seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle FROM pg_catalog.pg_sequence WHERE seqrelid = '16586'::oid
;;
PREPARE getColumnACLs(pg_catalog.oid) AS
SELECT at.attname, at.attacl, '{}' AS acldefault, pip.privtype, pip.initprivs FROM pg_catalog.pg_attribute at LEFT JOIN pg_catalog.pg_init_privs pip ON (at.attrelid = pip.objoid AND pip.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND at.attnum = pip.objsubid) WHERE at.attrelid = $1 AND NOT at.attisdropped AND (at.attacl IS NOT NULL OR pip.initprivs IS NOT NULL) ORDER BY at.attnum
;;
EXECUTE getColumnACLs('6100')
;;
SELECT pg_catalog.pg_get_viewdef('16651'::pg_catalog.oid) AS viewdef
;;
EXECUTE getColumnACLs('16571')
;;
SELECT format_type(seqtypid, NULL), seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle FROM pg_catalog.pg_sequence WHERE seqrelid = '16570'::oid
;;
SELECT pg_get_partkeydef('16602')
;;
SELECT pg_get_partkeydef('16605')
;;
SELECT fs.srvname, pg_catalog.array_to_string(ARRAY(SELECT pg_catalog.quote_ident(option_name) || ' ' || pg_catalog.quote_literal(option_value) FROM pg_catalog.pg_options_to_table(ftoptions) ORDER BY option_name), E',
    ') AS ftoptions FROM pg_catalog.pg_foreign_table ft JOIN pg_catalog.pg_foreign_server fs ON (fs.oid = ft.ftserver) WHERE ft.ftrelid = '16670'
;;
SELECT pg_catalog.pg_get_viewdef('16642'::pg_catalog.oid) AS viewdef
;;
SELECT pg_get_partkeydef('16618')
;;
SELECT pg_catalog.pg_get_viewdef('16647'::pg_catalog.oid) AS viewdef
;;
SELECT format_type(seqtypid, NULL), seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle FROM pg_catalog.pg_sequence WHERE seqrelid = '16549'::oid
;;
SELECT pg_catalog.pg_get_viewdef('16655'::pg_catalog.oid) AS viewdef
;;
PREPARE dumpTableAttach(pg_catalog.oid) AS
SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_class c WHERE c.oid = $1
;;
EXECUTE dumpTableAttach('16605')
;;
EXECUTE dumpTableAttach('16608')
;;
EXECUTE dumpTableAttach('16613')
;;
EXECUTE dumpTableAttach('16621')
;;
SELECT pg_catalog.pg_get_statisticsobjdef('16641'::pg_catalog.oid)
;;
SELECT pg_catalog.pg_get_ruledef('16662'::pg_catalog.oid)
;;
SELECT partrelid FROM pg_partitioned_table WHERE
(SELECT c.oid FROM pg_opclass c JOIN pg_am a ON c.opcmethod = a.oid
WHERE opcname = 'enum_ops' AND opcnamespace = 'pg_catalog'::regnamespace AND amname = 'hash') = ANY(partclass)
;;
WITH RECURSIVE w AS ( SELECT d1.objid, d2.refobjid, c2.relkind AS refrelkind FROM pg_depend d1 JOIN pg_class c1 ON c1.oid = d1.objid AND c1.relkind = 'm' JOIN pg_rewrite r1 ON r1.ev_class = d1.objid JOIN pg_depend d2 ON d2.classid = 'pg_rewrite'::regclass AND d2.objid = r1.oid AND d2.refobjid <> d1.objid JOIN pg_class c2 ON c2.oid = d2.refobjid AND c2.relkind IN ('m','v') WHERE d1.classid = 'pg_class'::regclass UNION SELECT w.objid, d3.refobjid, c3.relkind FROM w JOIN pg_rewrite r3 ON r3.ev_class = w.refobjid JOIN pg_depend d3 ON d3.classid = 'pg_rewrite'::regclass AND d3.objid = r3.oid AND d3.refobjid <> w.refobjid JOIN pg_class c3 ON c3.oid = d3.refobjid AND c3.relkind IN ('m','v') ) SELECT 'pg_class'::regclass::oid AS classid, objid, refobjid FROM w WHERE refrelkind = 'm'
;;
SELECT oid, lomowner, lomacl, acldefault('L', lomowner) AS acldefault FROM pg_largeobject_metadata
;;
SELECT last_value, is_called FROM "Odd Schema"."Odd ""Table""_select_seq"
;;
SELECT last_value, is_called FROM shop.customer_id_seq
;;
SELECT last_value, is_called FROM shop.spare
;;
DECLARE _pg_dump_cursor CURSOR FOR SELECT id, name, mood, worth, facts, data, changed FROM ONLY shop.customer
;;
FETCH 100 FROM _pg_dump_cursor
;;
CLOSE _pg_dump_cursor
;;
DECLARE _pg_dump_cursor CURSOR FOR SELECT "select", "a b", customer_id FROM ONLY "Odd Schema"."Odd ""Table"""
;;
DECLARE _pg_dump_cursor CURSOR FOR SELECT a, b FROM ONLY shop.child
;;
DECLARE _pg_dump_cursor CURSOR FOR SELECT at, kind, n, raw, b FROM ONLY shop.event_2023_a
;;
DECLARE _pg_dump_cursor CURSOR FOR SELECT at, kind, n, raw, b FROM ONLY shop.event_rest
;;
DECLARE _pg_dump_cursor CURSOR FOR SELECT k FROM ONLY shop.hashed_0
;;
DECLARE _pg_dump_cursor CURSOR FOR SELECT a FROM ONLY shop.parent
;;
DECLARE _pg_dump_cursor CURSOR FOR SELECT a, f, d, i, m, p, x, u, net, v FROM ONLY shop.quick
;;
DECLARE _pg_dump_cursor CURSOR FOR SELECT id, name, mood, worth, facts, data, NULL, changed FROM ONLY shop.customer
;;
SET client_encoding = 'UTF8'
;;
SET standard_conforming_strings = on
;;
SELECT pg_catalog.set_config('search_path', '', false)
;;
SET check_function_bodies = false
;;
SET xmloption = content
;;
SET client_min_messages = warning
;;
DROP DATABASE IF EXISTS objects
;;
CREATE DATABASE objects WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C'
;;
ALTER DATABASE objects OWNER TO postgres
;;
COMMENT ON DATABASE objects IS 'some of everything'
;;
ALTER DATABASE objects SET work_mem TO '8MB'
;;
CREATE SCHEMA "Odd Schema"
;;
ALTER SCHEMA "Odd Schema" OWNER TO postgres
;;
CREATE SCHEMA shop
;;
ALTER SCHEMA shop OWNER TO corpus_writer
;;
CREATE OR REPLACE PROCEDURAL LANGUAGE corpus_sql
;;
ALTER PROCEDURAL LANGUAGE corpus_sql OWNER TO postgres
;;
CREATE COLLATION shop.german (provider = icu, locale = 'de-u-co-phonebk')
;;
ALTER COLLATION shop.german OWNER TO postgres
;;
CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION pg_catalog.prsd_lextype(internal))
;;
CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA shop
;;
COMMENT ON EXTENSION hstore IS 'data type for storing sets of (key, value) pairs'
;;
CREATE EXTENSION IF NOT EXISTS postgres_fdw WITH SCHEMA public
;;
COMMENT ON EXTENSION postgres_fdw IS 'foreign-data wrapper for remote PostgreSQL servers'
;;
CREATE TYPE shop.mood AS ENUM (
    'sad',
    'it''s ok',
    'happy'
)
;;
ALTER TYPE shop.mood OWNER TO postgres
;;
CREATE TYPE shop.pair AS (
	a integer,
	b text COLLATE pg_catalog."C"
)
;;
ALTER TYPE shop.pair OWNER TO postgres
;;
CREATE DOMAIN shop.price AS numeric(10,2) NOT NULL DEFAULT 0
	CONSTRAINT positive CHECK ((VALUE >= (0)::numeric))
;;
ALTER DOMAIN shop.price OWNER TO postgres
;;
CREATE TYPE shop.span AS RANGE (
    subtype = double precision,
    multirange_type_name = shop.span_multirange,
    subtype_diff = float8mi
)
;;
ALTER TYPE shop.span OWNER TO postgres
;;
CREATE CAST (shop.pair AS text) WITH INOUT AS ASSIGNMENT
;;
CREATE FUNCTION shop."both"(a integer, OUT b integer, INOUT c text DEFAULT 'x''y'::text, VARIADIC d integer[] DEFAULT '{}'::integer[]) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER COST 7
    SET search_path TO 'shop', 'pg_temp'
    AS $_$ BEGIN b := a; c := $$;$$; END $_$
;;
ALTER FUNCTION shop."both"(a integer, OUT b integer, INOUT c text, VARIADIC d integer[]) OWNER TO postgres
;;
CREATE FUNCTION shop.double(integer) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN ($1 * 2)
;;
ALTER FUNCTION shop.double(integer) OWNER TO postgres
;;
COMMENT ON FUNCTION shop.double(integer) IS 'twice'
;;
CREATE FUNCTION shop.items() RETURNS TABLE(id integer, name text)
    LANGUAGE sql ROWS 5
    BEGIN ATOMIC
 SELECT 1,
     'one'::text;
 SELECT
         CASE
             WHEN true THEN 2
             ELSE NULL::integer
         END AS "case",
     'two'::text;
END
;;
ALTER FUNCTION shop.items() OWNER TO postgres
;;
CREATE FUNCTION shop.stamp() RETURNS trigger
    LANGUAGE plpgsql
    AS $$BEGIN NEW.changed := now(); RETURN NEW; END$$
;;
ALTER FUNCTION shop.stamp() OWNER TO postgres
;;
CREATE PROCEDURE shop.tidy(IN n integer)
    LANGUAGE sql
    AS $$SELECT n$$
;;
ALTER PROCEDURE shop.tidy(IN n integer) OWNER TO postgres
;;
CREATE FUNCTION shop.watch() RETURNS event_trigger
    LANGUAGE plpgsql
    AS $$BEGIN END$$
;;
ALTER FUNCTION shop.watch() OWNER TO postgres
;;
CREATE AGGREGATE shop.total(integer) (
    SFUNC = int4pl,
    STYPE = integer,
    INITCOND = '0'
)
;;
ALTER AGGREGATE shop.total(integer) OWNER TO postgres
;;
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler
;;
CREATE OPERATOR shop.@+ (
    FUNCTION = int4pl,
    LEFTARG = integer,
    RIGHTARG = integer
)
;;
ALTER OPERATOR shop.@+ (integer, integer) OWNER TO postgres
;;
CREATE OPERATOR FAMILY shop.backwards USING btree
;;
ALTER OPERATOR FAMILY shop.backwards USING btree OWNER TO postgres
;;
CREATE OPERATOR CLASS shop.backwards
    FOR TYPE integer USING btree FAMILY shop.backwards AS
    OPERATOR 1 >(integer,integer) ,
    OPERATOR 2 >=(integer,integer) ,
    OPERATOR 3 =(integer,integer) ,
    OPERATOR 4 <=(integer,integer) ,
    OPERATOR 5 <(integer,integer) ,
    FUNCTION 1 (integer, integer) btint4cmp(integer,integer)
;;
ALTER OPERATOR CLASS shop.backwards USING btree OWNER TO postgres
;;
CREATE CONVERSION shop.mine FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8
;;
ALTER CONVERSION shop.mine OWNER TO postgres
;;
CREATE TEXT SEARCH DICTIONARY shop.short (
    TEMPLATE = pg_catalog.simple,
    stopwords = 'english' )
;;
ALTER TEXT SEARCH DICTIONARY shop.short OWNER TO postgres
;;
CREATE TEXT SEARCH CONFIGURATION shop.search (
    PARSER = pg_catalog."default" )
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR asciiword WITH shop.short
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR word WITH english_stem
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR numword WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR email WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR url WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR host WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR sfloat WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR version WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR hword_numpart WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR hword_part WITH english_stem
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR hword_asciipart WITH english_stem
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR numhword WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR asciihword WITH english_stem
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR hword WITH english_stem
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR url_path WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR file WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR "float" WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR "int" WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search
    ADD MAPPING FOR uint WITH simple
;;
ALTER TEXT SEARCH CONFIGURATION shop.search OWNER TO postgres
;;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (
    dbname 'far',
    host 'localhost'
)
;;
ALTER SERVER far OWNER TO postgres
;;
CREATE USER MAPPING FOR corpus_writer SERVER far OPTIONS (
    password 'p''w',
    "user" 'u'
)
;;
SET default_tablespace = ''
;;
SET default_table_access_method = heap
;;
CREATE TABLE "Odd Schema"."Odd ""Table""" (
    "select" integer NOT NULL,
    "a b" text[] DEFAULT ARRAY['x'::text, NULL::text],
    customer_id integer,
    CONSTRAINT "Odd ""Table""_select_check" CHECK (("select" > 0))
)
;;
ALTER TABLE "Odd Schema"."Odd ""Table""" OWNER TO postgres
;;
CREATE SEQUENCE "Odd Schema"."Odd ""Table""_select_seq"
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
;;
ALTER TABLE "Odd Schema"."Odd ""Table""_select_seq" OWNER TO postgres
;;
ALTER SEQUENCE "Odd Schema"."Odd ""Table""_select_seq" OWNED BY "Odd Schema"."Odd ""Table"""."select"
;;
CREATE TABLE shop.parent (
    a integer
)
;;
ALTER TABLE shop.parent OWNER TO postgres
;;
CREATE TABLE shop.child (
    b integer
)
INHERITS (shop.parent)
;;
ALTER TABLE shop.child OWNER TO postgres
;;
CREATE VIEW shop.counted AS
 WITH RECURSIVE counted(n) AS (
         VALUES (1)
        UNION ALL
         SELECT (counted_1.n + 1)
           FROM counted counted_1
          WHERE (counted_1.n < 5)
        )
 SELECT counted.n
   FROM counted
;;
ALTER TABLE shop.counted OWNER TO postgres
;;
CREATE TABLE shop.customer (
    id integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    mood shop.mood DEFAULT 'happy'::shop.mood,
    worth shop.price,
    facts shop.hstore,
    data jsonb DEFAULT '{"a": [1, 2]}'::jsonb,
    twice integer GENERATED ALWAYS AS (shop.double(3)) STORED,
    changed timestamp with time zone DEFAULT now()
)
WITH (fillfactor='80')
;;
ALTER TABLE ONLY shop.customer ALTER COLUMN name SET STATISTICS 200
;;
ALTER TABLE ONLY shop.customer ALTER COLUMN name SET STORAGE EXTERNAL
;;
ALTER TABLE ONLY shop.customer REPLICA IDENTITY FULL
;;
ALTER TABLE shop.customer OWNER TO postgres
;;
COMMENT ON TABLE shop.customer IS 'who''s who'
;;
COMMENT ON COLUMN shop.customer.name IS 'two
lines'
;;
ALTER TABLE shop.customer ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME shop.customer_id_seq
    START WITH 100
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
)
;;
CREATE TABLE shop.event (
    at timestamp with time zone NOT NULL,
    kind text,
    n bigint,
    raw bytea,
    b bit(3)
)
PARTITION BY RANGE (at)
;;
ALTER TABLE shop.event OWNER TO postgres
;;
CREATE TABLE shop.event_2023 (
    at timestamp with time zone NOT NULL,
    kind text,
    n bigint,
    raw bytea,
    b bit(3)
)
PARTITION BY LIST (kind)
;;
ALTER TABLE shop.event_2023 OWNER TO postgres
;;
CREATE TABLE shop.event_2023_a (
    at timestamp with time zone NOT NULL,
    kind text,
    n bigint,
    raw bytea,
    b bit(3)
)
;;
ALTER TABLE shop.event_2023_a OWNER TO postgres
;;
CREATE TABLE shop.event_rest (
    at timestamp with time zone NOT NULL,
    kind text,
    n bigint,
    raw bytea,
    b bit(3)
)
;;
ALTER TABLE shop.event_rest OWNER TO postgres
;;
CREATE FOREIGN TABLE shop.far (
    a integer,
    b text
)
SERVER far
OPTIONS (
    schema_name 's'
)
;;
ALTER FOREIGN TABLE shop.far ALTER COLUMN a OPTIONS (
    column_name 'A'
)
;;
ALTER FOREIGN TABLE shop.far OWNER TO postgres
;;
CREATE VIEW shop.happy WITH (security_barrier='true') AS
 SELECT c.id,
    c.name,
    count(o.*) FILTER (WHERE (o."select" > 1)) AS n,
    rank() OVER (ORDER BY c.id) AS rank
   FROM (shop.customer c
     LEFT JOIN "Odd Schema"."Odd ""Table""" o ON ((o.customer_id = c.id)))
  WHERE (c.mood = 'happy'::shop.mood)
  GROUP BY c.id, c.name
;;
ALTER TABLE shop.happy OWNER TO postgres
;;
CREATE TABLE shop.hashed (
    k integer
)
PARTITION BY HASH (k)
;;
ALTER TABLE shop.hashed OWNER TO postgres
;;
CREATE TABLE shop.hashed_0 (
    k integer
)
;;
ALTER TABLE shop.hashed_0 OWNER TO postgres
;;
CREATE VIEW shop.named AS
 SELECT customer.id,
    customer.name
   FROM shop.customer
  WHERE (customer.name <> ''::text)
  WITH LOCAL CHECK OPTION
;;
ALTER TABLE shop.named OWNER TO postgres
;;
CREATE UNLOGGED TABLE shop.quick (
    a integer,
    f double precision,
    d date,
    i interval,
    m money,
    p point,
    x xml,
    u uuid,
    net inet,
    v tsvector
)
;;
ALTER TABLE shop.quick OWNER TO postgres
;;
CREATE SEQUENCE shop.spare
    AS smallint
    START WITH 7
    INCREMENT BY 5
    MINVALUE -10
    MAXVALUE 100
    CACHE 3
    CYCLE
;;
ALTER TABLE shop.spare OWNER TO postgres
;;
CREATE MATERIALIZED VIEW shop.sums AS
 SELECT event.kind,
    sum(event.n) AS sum
   FROM shop.event
  GROUP BY ROLLUP(event.kind)
  WITH NO DATA
;;
ALTER TABLE shop.sums OWNER TO postgres
;;
ALTER TABLE ONLY shop.event ATTACH PARTITION shop.event_2023 FOR VALUES FROM ('2023-01-01 00:00:00+00') TO ('2024-01-01 00:00:00+00')
;;
ALTER TABLE ONLY shop.event_2023 ATTACH PARTITION shop.event_2023_a FOR VALUES IN ('a', NULL)
;;
ALTER TABLE ONLY shop.event ATTACH PARTITION shop.event_rest DEFAULT
;;
ALTER TABLE ONLY shop.hashed ATTACH PARTITION shop.hashed_0 FOR VALUES WITH (modulus 1, remainder 0)
;;
ALTER TABLE ONLY "Odd Schema"."Odd ""Table""" ALTER COLUMN "select" SET DEFAULT nextval('"Odd Schema"."Odd ""Table""_select_seq"'::regclass)
;;
ALTER TABLE ONLY "Odd Schema"."Odd ""Table"""
    ADD CONSTRAINT "Odd ""Table""_pkey" PRIMARY KEY ("select") INCLUDE ("a b")
;;
ALTER TABLE ONLY shop.customer
    ADD CONSTRAINT customer_int4range_excl EXCLUDE USING gist (int4range(length(name), 1000) WITH &&) WHERE ((name = 'never'::text))
;;
ALTER TABLE ONLY shop.customer
    ADD CONSTRAINT customer_name_key UNIQUE NULLS NOT DISTINCT (name)
;;
ALTER TABLE ONLY shop.customer
    ADD CONSTRAINT customer_pkey PRIMARY KEY (id)
;;
ALTER TABLE shop.customer CLUSTER ON customer_pkey
;;
COMMENT ON CONSTRAINT customer_pkey ON shop.customer IS 'key'
;;
CREATE INDEX customer_data ON shop.customer USING gin (data jsonb_path_ops) WITH (fastupdate=off)
;;
CREATE UNIQUE INDEX customer_lower ON shop.customer USING btree (lower(name)) INCLUDE (mood) WHERE (mood <> 'sad'::shop.mood)
;;
CREATE INDEX event_at_lower_idx ON ONLY shop.event USING btree (at DESC NULLS LAST, lower(kind))
;;
CREATE INDEX event_2023_at_lower_idx ON ONLY shop.event_2023 USING btree (at DESC NULLS LAST, lower(kind))
;;
CREATE INDEX event_2023_a_at_lower_idx ON shop.event_2023_a USING btree (at DESC NULLS LAST, lower(kind))
;;
CREATE INDEX event_rest_at_lower_idx ON shop.event_rest USING btree (at DESC NULLS LAST, lower(kind))
;;
CREATE UNIQUE INDEX sums_kind_idx ON shop.sums USING btree (kind)
;;
ALTER INDEX shop.event_2023_at_lower_idx ATTACH PARTITION shop.event_2023_a_at_lower_idx
;;
ALTER INDEX shop.event_at_lower_idx ATTACH PARTITION shop.event_2023_at_lower_idx
;;
ALTER INDEX shop.event_at_lower_idx ATTACH PARTITION shop.event_rest_at_lower_idx
;;
CREATE STATISTICS shop.related (ndistinct, dependencies) ON name, mood FROM shop.customer
;;
ALTER STATISTICS shop.related OWNER TO postgres
;;
CREATE RULE quiet AS
    ON INSERT TO shop.named
   WHERE (new.name = 'quiet'::text) DO INSTEAD ( UPDATE shop.customer SET name = customer.name;
 DELETE FROM shop.child;
)
;;
CREATE CONSTRAINT TRIGGER late AFTER DELETE ON shop.customer DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW EXECUTE FUNCTION shop.stamp()
;;
ALTER TABLE shop.customer DISABLE TRIGGER late
;;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE OF name ON shop.customer FOR EACH ROW WHEN ((new.name IS NOT NULL)) EXECUTE FUNCTION shop.stamp('a', 'it''s')
;;
COMMENT ON TRIGGER stamp ON shop.customer IS 'when'
;;
ALTER TABLE ONLY "Odd Schema"."Odd ""Table"""
    ADD CONSTRAINT "Odd ""Table""_customer_id_fkey" FOREIGN KEY (customer_id) REFERENCES shop.customer(id) ON UPDATE CASCADE ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED
;;
ALTER TABLE shop.customer ENABLE ROW LEVEL SECURITY
;;
CREATE POLICY own ON shop.customer AS RESTRICTIVE FOR UPDATE TO corpus_writer USING ((name = CURRENT_USER)) WITH CHECK ((id > 0))
;;
CREATE PUBLICATION columns WITH (publish = 'insert, update, delete, truncate')
;;
ALTER PUBLICATION columns OWNER TO postgres
;;
CREATE PUBLICATION several WITH (publish = 'insert')
;;
ALTER PUBLICATION several OWNER TO postgres
;;
CREATE PUBLICATION whole FOR ALL TABLES WITH (publish = 'insert, update, delete, truncate')
;;
ALTER PUBLICATION whole OWNER TO postgres
;;
ALTER PUBLICATION columns ADD TABLE ONLY shop.child (a)
;;
ALTER PUBLICATION several ADD TABLE ONLY shop.customer WHERE ((id > 1))
;;
ALTER PUBLICATION columns ADD TABLE ONLY shop.parent (a)
;;
ALTER PUBLICATION several ADD TABLES IN SCHEMA "Odd Schema"
;;
CREATE SUBSCRIPTION never CONNECTION 'dbname=far' PUBLICATION several WITH (connect = false, slot_name = NONE)
;;
ALTER SUBSCRIPTION never OWNER TO postgres
;;
GRANT USAGE ON SCHEMA shop TO corpus_reader
;;
REVOKE ALL ON FUNCTION shop.double(integer) FROM PUBLIC
;;
GRANT ALL ON FUNCTION shop.double(integer) TO corpus_writer
;;
GRANT SELECT ON TABLE shop.customer TO corpus_reader WITH GRANT OPTION
;;
GRANT UPDATE(name) ON TABLE shop.customer TO corpus_reader WITH GRANT OPTION
;;
GRANT UPDATE(mood) ON TABLE shop.customer TO corpus_reader WITH GRANT OPTION
;;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA shop GRANT SELECT ON TABLES  TO corpus_reader
;;
CREATE EVENT TRIGGER watch ON ddl_command_end
         WHEN TAG IN ('DROP TABLE')
   EXECUTE FUNCTION shop.watch()
;;
ALTER EVENT TRIGGER watch OWNER TO postgres
;;
INSERT INTO shop.customer (id, name, mood, worth, facts, data, changed) OVERRIDING SYSTEM VALUE VALUES (100, 'Ada', 'happy', 12.50, '"a"=>"1", "b"=>NULL', '{"a": [1, 2]}', '2026-11-23 13:33:33.619334+00')
;;
INSERT INTO shop.customer (id, name, mood, worth, facts, data, changed) OVERRIDING SYSTEM VALUE VALUES (101, 'O''Hara; --', 'happy', 0.00, NULL, '{"a": [1, 2]}', '2026-11-23 13:33:33.619334+00')
;;
INSERT INTO shop.customer (id, name, mood, worth, facts, data, changed) OVERRIDING SYSTEM VALUE VALUES (102, 'back\slash	tab', 'happy', 1.00, '', '{"a": [1, 2]}', '2026-11-23 13:33:33.619334+00')
;;
INSERT INTO "Odd Schema"."Odd ""Table""" ("select", "a b", customer_id) VALUES (1, '{"p,q","\"r\""}', 100)
;;
INSERT INTO "Odd Schema"."Odd ""Table""" ("select", "a b", customer_id) VALUES (2, NULL, NULL)
;;
INSERT INTO shop.event_2023_a (at, kind, n, raw, b) VALUES ('2023-05-05 00:00:00+00', 'a', 1, '\x00ff', B'101')
;;
INSERT INTO shop.event_rest (at, kind, n, raw, b) VALUES ('2024-05-05 00:00:00+00', NULL, -9223372036854775808, NULL, NULL)
;;
INSERT INTO shop.hashed_0 (k) VALUES (1)
;;
INSERT INTO shop.hashed_0 (k) VALUES (2)
;;
INSERT INTO shop.hashed_0 (k) VALUES (3)
;;
INSERT INTO shop.hashed_0 (k) VALUES (4)
;;
INSERT INTO shop.hashed_0 (k) VALUES (5)
;;
INSERT INTO shop.quick (a, f, d, i, m, p, x, u, net, v) VALUES (1, 'NaN', 'infinity', '1 year 2 days', '$5.00', '(1,2)', '<a b="c">&amp;</a>', '697a47e9-501c-4493-b7b0-35673133bfc9', '10.0.0.0/8', '''cat'':3 ''fat'':2')
;;
SELECT pg_catalog.setval('"Odd Schema"."Odd ""Table""_select_seq"', 2, true)
;;
SELECT pg_catalog.setval('shop.customer_id_seq', 102, true)
;;
SELECT pg_catalog.setval('shop.spare', 7, false)
;;
INSERT INTO "Odd Schema"."Odd ""Table""" VALUES
	(1, '{"p,q","\"r\""}', 100),
	(2, NULL, NULL) ON CONFLICT DO NOTHING
;;
INSERT INTO shop.customer OVERRIDING SYSTEM VALUE VALUES
	(100, 'Ada', 'happy', 12.50, '"a"=>"1", "b"=>NULL', '{"a": [1, 2]}', DEFAULT, '2026-11-23 13:33:33.619334+00'),
	(101, 'O''Hara; --', 'happy', 0.00, NULL, '{"a": [1, 2]}', DEFAULT, '2026-11-23 13:33:33.619334+00'),
	(102, 'back\slash	tab', 'happy', 1.00, '', '{"a": [1, 2]}', DEFAULT, '2026-11-23 13:33:33.619334+00') ON CONFLICT DO NOTHING
;;
INSERT INTO shop.event_2023_a VALUES
	('2023-05-05 00:00:00+00', 'a', 1, '\x00ff', B'101') ON CONFLICT DO NOTHING
;;
INSERT INTO shop.event_rest VALUES
	('2024-05-05 00:00:00+00', NULL, -9223372036854775808, NULL, NULL) ON CONFLICT DO NOTHING
;;
INSERT INTO shop.hashed_0 VALUES
	(1),
	(2),
	(3),
	(4),
	(5) ON CONFLICT DO NOTHING
;;
INSERT INTO shop.quick VALUES
	(1, 'NaN', 'infinity', '1 year 2 days', '$5.00', '(1,2)', '<a b="c">&amp;</a>', '697a47e9-501c-4493-b7b0-35673133bfc9', '10.0.0.0/8', '''cat'':3 ''fat'':2') ON CONFLICT DO NOTHING
;;
REFRESH MATERIALIZED VIEW shop.sums
;;
