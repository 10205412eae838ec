//! Configurations in, problems out.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::check::{load, parse};
use super::keys::SECTIONS;
use super::*;

mod reference;
mod secrets;

const BASE: &str = "[[backend]]\nname = 'b'\nhost = 'h'\n[[database]]\nname = 'd'\nbackend = 'b'\n";

/// `BASE`, then the text.
fn with(text: &str) -> Result<Config, String> {
    parse(&format!("{BASE}{text}"), Path::new("t.toml")).map_err(|p| p.to_string())
}

/// Each text, from line 7 on after `BASE`, and the problems without the file's name; "" for none.
const CASES: &[(&str, &str)] = &[
    ("", ""),
    // Syntax, sections, keys.
    ("[pool", "7:6: unclosed table, expected `]`"),
    ("[pol]", "7:2: pol: there is no such section (did you mean [pool]?)"),
    ("[users]", "7:2: users: there is no such section (did you mean [[user]]?)"),
    ("[pool]\nsise = 1", "8:1: pool.sise: there is no such key (did you mean size?)"),
    ("[general]\nlifetime = 1", "8:1: general.lifetime: there is no such key (it belongs in [pool])"),
    ("[general]\ncolour = 1", "8:1: general.colour: there is no such key"),
    ("[[pool]]\nsize = 1", "7:1: pool: must be a table, not an array (write [pool])"),
    ("[user]\nname = 'u'", "7:1: user: must be a list of tables, not a table (write [[user]])"),
    // Who reads catalogs.
    (
        "[plan]\ncatalog_user = 'nobod'\n[[user]]\nname = 'nobody'",
        "8:16: plan.catalog_user: there is no [[user]] \"nobod\" (did you mean \"nobody\"?)",
    ),
    (
        "catalog_user = 'u'\n[[user]]\nname = 'u'",
        "7:16: database.catalog_user: [[user]] \"u\" has no password to log in with (set its password_env or password_file; a SCRAM verifier proves nothing to a backend)",
    ),
    ("catalog_user = 'u'\n[[user]]\nname = 'u'\npassword = 'hunter2'", ""),
    // What functions read.
    (
        "[[function]]\nname = 'app.f'\nreads = []\n[[function]]\nname = 'g'\nreads = ['t', 's.t']\nwrites = 't'\n\
         [[function]]\nname = 'log'\nwrites = 'events'",
        "",
    ),
    (
        "[plan]\nread_functions = ['f']\n[[function]]\nname = 'f'\n[[function]]\nname = 'f'\nreads = ['a.b.c', 'd', '.e']\n\
         [[function]]\nname = 'pg_catalog.now'\nreads = []\n[[function]]\nreads = 7\nread = []",
        "9:1: function.reads: is missing: nothing is said of the function ([] where its result depends on nothing but its arguments)\n\
         10:8: function.name: plan.read_functions speaks of it, too (say it here, where more can be said)\n\
         12:8: function.name: \"f\" is already defined on line 10\n\
         12:8: function.name: plan.read_functions speaks of it, too (say it here, where more can be said)\n\
         13:10: function.reads: \"a.b.c\" is neither NAME nor SCHEMA.NAME\n\
         13:24: function.reads: \".e\" is neither NAME nor SCHEMA.NAME\n\
         15:8: function.name: is one of the system's own, which are known\n\
         17:1: function.name: is missing\n\
         18:9: function.reads: must be a string, not an integer\n\
         19:1: function.read: there is no such key (did you mean reads?)",
    ),
    // Results that are kept.
    ("[[cache]]\nmode = 'off'", ""),
    (
        "[[cache]]",
        "7:1: cache.mode: has no effect without general.cache_memory\n\
         7:1: cache.mode: exact needs every write of database \"d\" to be known, and nothing tells of those past this process (run `turnpike cache enable-wal` (or enable-triggers) and say invalidation = \"wal\" (or \"triggers\") in its [[database]]; or writers = \"proxy\", where all writes pass through this process; or mode = \"bounded\" with a ttl)",
    ),
    (
        "invalidation = 'wal'\ninvalidation_user = 'u'\n[general]\ncache_memory = '1MiB'\n[[cache]]\n[[user]]\nname = 'u'\npassword = 'hunter2'",
        "",
    ),
    (
        "invalidation = 'triggers'\nwriters = 'proxy'\ninvalidation_bound = '1ms'\ninvalidation_slot = 'A'",
        "4:1: database.invalidation_user: is missing: somebody must listen to what is written elsewhere (name a [[user]] with a password; for \"wal\", one with REPLICATION)\n\
         7:16: database.invalidation: has no effect where writers = \"proxy\" says that nobody writes elsewhere (leave one of them out)\n\
         9:22: database.invalidation_bound: must be from 20ms to 1min\n\
         10:21: database.invalidation_slot: \"A\" is no name of a slot (small letters, digits and _, 63 at most)\n\
         10:21: database.invalidation_slot: has no effect where triggers tell",
    ),
    ("invalidation_slot = 's'", "7:21: database.invalidation_slot: has no effect without invalidation"),
    ("writers = 'proxy'\n[general]\ncache_memory = '1MiB'\n[[cache]]\ndatabase = 'd'", ""),
    ("[general]\ncache_memory = '1MiB'\n[[cache]]\ndatabase = 'e*'", ""),
    (
        "[general]\ncache_memory = '1MiB'\n[[cache]]\nmode = 'bounded'\nttl = '30s'\nstale_while_revalidate = '1min'",
        "",
    ),
    (
        "[general]\ncache_memory = '1MiB'\n[[cache]]\nmode = 'bounded'\nlevels = ['l1', 'l3', 'l2']\nauto = true\nasked = true",
        "9:1: cache.ttl: is missing: bounded means at most so old\n\
         11:10: cache.levels: l2 is Redis: [redis] does not say where that is\n\
         11:17: cache.levels: l3, an HTTP cache, is of reports (see [[report]])\n\
         12:8: cache.auto: shapes are chosen, or asked for: a rule says one of the two (what is asked for is kept under a rule that chooses, too)",
    ),
    (
        "[general]\ncache_memory = '1MiB'\n[redis]\nnodes = ['r:1']\n[[cache]]\nmode = 'bounded'\nttl = '1s'\nlevels = ['l2']",
        "14:10: cache.levels: l2 has what memory has no room for, and is no level by itself (levels = [\"l1\", \"l2\"])",
    ),
    (
        "writers = 'proxy'\n[general]\ncache_memory = '1MiB'\n[[cache]]\nmode = 'strict'",
        "11:8: cache.mode: strict needs Redis: [redis] does not say where that is\n\
         11:8: cache.mode: strict needs somebody who asks the server of database \"d\" who else writes to it (name a [[user]] as invalidation_user in its [[database]])",
    ),
    (
        "writers = 'proxy'\ninvalidation_user = 'u'\n[general]\ncache_memory = '1MiB'\n[redis]\nnodes = ['r:1']\nmode = 'cluster'\n[[cache]]\nmode = 'strict'\n[[user]]\nname = 'u'\npassword = 'hunter2'",
        "15:8: cache.mode: strict needs one Redis server: others may forget what was acknowledged (mode = \"single\" in [redis]; or mode = \"exact\" here)",
    ),
    (
        "writers = 'proxy'\ninvalidation_user = 'u'\n[general]\ncache_memory = '1MiB'\n[redis]\nnodes = ['r:1']\n[[cache]]\nmode = 'strict'\n[[user]]\nname = 'u'\npassword = 'hunter2'",
        "",
    ),
    (
        "invalidation_user = 'u'\n[[user]]\nname = 'u'\npassword = 'hunter2'",
        "7:21: database.invalidation_user: has no effect without invalidation, or a [[cache]] whose mode is strict",
    ),
    (
        "writers = 'proxy'\n[general]\ncache_memory = 1\ntakeover_socket = 't'\n[[cache]]\nmode = 'exact'\nstale_while_revalidate = 5",
        "12:8: cache.mode: exact cannot be with general.takeover_socket: of two processes, neither sees what the other's clients write (use mode = \"bounded\" with a ttl, or restart without takeover)\n\
         13:26: cache.stale_while_revalidate: has no effect where mode is exact: nothing stale is served",
    ),
    // Metrics.
    (
        "[[user]]\nname = 'u'\n[[metric]]\nname = 'a-b'\ninterval = '10ms'\non = 'replicas'",
        "9:1: metric.database: is missing\n9:1: metric.help: is missing\n9:1: metric.query: is missing\n\
         10:8: metric.name: \"a-b\" is no name of a metric (letters, digits and _, such as audit_events_per_minute)\n\
         11:12: metric.interval: must be from 1s to 1d\n\
         12:6: metric.on: \"replicas\" is not one of replica, primary (did you mean replica?)",
    ),
    (
        "[[user]]\nname = 'u'\n[[mirror]]\nname = 'm'\nmode = 'sessions'\ntable = 't'\nshare = '0%'\nbackend = 'c'\nlogin = 'v'",
        "9:1: mirror.dbname: is missing: more databases than one are mirrored (name one in database, or the one there in dbname)\n\
         12:9: mirror.table: says something of statements, and sessions are mirrored whole (use user, database and application_name, or mode = \"reads\")\n\
         13:9: mirror.share: \"0%\" is not a share such as \"10%\" or \"0.5%\"\n\
         14:11: mirror.backend: there is no [[backend]] \"c\"\n\
         15:9: mirror.login: there is no [[user]] \"v\"",
    ),
    (
        "writers = 'proxy'\n[[user]]\nname = 'u'\n[[mirror]]\nname = 'm'\nmode = 'sessions'\ndatabase = 'd'\nbackend = 'b'\nlogin = 'u'",
        "12:8: mirror.mode: would write to database \"d\" past its clients ([[database]] \"d\" says writers = \"proxy\")",
    ),
    (
        "[[mirror]]\nname = 'm'\ndatabase = 'd'\ncluster = 'x'\nbackend = 'b'\nlogin = 'v'",
        "10:11: mirror.cluster: backend is already given: there is one target\n\
         10:11: mirror.cluster: there is no [[cluster]] \"x\"\n12:9: mirror.login: there is no [[user]] \"v\"",
    ),
    (
        "[record]\nliterals = true\ndir = '.'",
        "7:1: record.key_file: is missing: recordings have a place, and are encrypted",
    ),
    (
        "[[metric]]\nname = 'turnpike_x'\nhelp = 'h'\ndatabase = 'd'\nquery = 'q'",
        "7:1: metric.user: is missing: a metric is asked as a [[user]]\n\
         8:8: metric.name: \"turnpike_x\" is taken (names of Turnpike, processes and Prometheus are not for others)",
    ),
    (
        "[[user]]\nname = 'u'\n[[metric]]\nname = 'a'\nhelp = 'h'\ndatabase = 'd'\nuser = 'u'\nquery = 'q'\n\
         type = 'counter'\nlabels = ['x', 'job']\n[[metric]]\nname = 'a'\nhelp = 'h'\ndatabase = 'e'\nuser = 'v'\n\
         query = 'q'\ninterval = 1\nlabels = []\ntimeout = 2",
        "10:8: metric.name: the name of a counter, and of nothing else, ends with _total\n\
         16:16: metric.labels: \"job\" is no name of a label\n\
         18:8: metric.name: \"a\" is already defined on line 10\n\
         20:12: metric.database: there is no [[database]] \"e\"\n\
         21:8: metric.user: there is no [[user]] \"v\"\n\
         25:11: metric.timeout: is longer than interval: a run must end before the next begins",
    ),
    // Reports.
    (
        "[[report]]\nname = 'r'",
        "7:1: report.database: is missing\n7:1: report.access: is missing: who may have it must be said (\"signed\", \"token\", or \"public\" for everybody)\n\
         7:1: report.sql: is missing\n\
         7:1: report: reports.listen is missing: nobody could ask for it ([reports] listen = \"127.0.0.1:9931\")",
    ),
    (
        "[[user]]\nname = 'u'\n[reports]\nlisten = '127.0.0.1:1'\n[[report]]\nname = 'a/b'\ndatabase = 'd'\nuser = 'u'\nsql = 'q'\n\
         access = ['signed', 'token', 'all']\nedge = true\nparams = ['a', 'b integerr', 'c int', 'c text = x']\nformat = 'xml'",
        "11:1: report.tokens: is missing: whose tokens count is to be said\n\
         12:8: report.name: \"a/b\" is no name of a report (letters, digits, -, _ and ., such as events-by-status)\n\
         16:10: report.access: reports.key_file is missing: nobody could show that they may\n\
         16:10: report.access: reports.tokens_file is missing: nobody could show that they may\n\
         16:30: report.access: \"all\" is not one of public, signed, token\n\
         17:8: report.edge: a shared cache does not look at tokens: it would give the report to everybody (access = \"signed\")\n\
         18:10: report.params: \"c\" occurs twice\n\
         18:11: report.params: \"a\" is no parameter (NAME TYPE, or NAME TYPE = DEFAULT)\n\
         18:16: report.params: there is no type \"integerr\" (did you mean \"integer\"?)\n\
         19:10: report.format: \"xml\" is not one of json, csv, html",
    ),
    (
        "[[cdn]]\nname = 'c'\nkind = 'fastly'\nurl = 'ftp://x'",
        "7:1: cdn.service: is missing: the API asks for it\n7:1: cdn.token_file: is missing: the API asks for it\n\
         10:7: cdn.url: \"ftp://x\" is no address such as http://127.0.0.1:6081/",
    ),
    // Tenants.
    ("[tenants]\nby = 'user'\n[[tenant]]\nname = 'a'\nguaranteed = 2\nmax = 2\nbackend = 'b'", ""),
    ("[[tenant]]\nname = 'a'\nuser = ['a', 'a_*']\npool = 'own'\npool_size = 3", ""),
    (
        "[tenants]\nby = ['usr', 'set']",
        "7:1: tenants.claimed_by: is missing: by has something in it that clients say of themselves (list the users whose word counts, or \"*\" for all)\n\
         8:7: tenants.by: \"usr\" is not one of set, startup, user, database, application_name, sni (did you mean user?)",
    ),
    (
        "[[tenant]]\nname = 'a'\n[[tenant]]\nname = 'a'\nsni = 'x'",
        "8:8: tenant.name: nobody is this tenant: tenants.by is empty (say who belongs to it (user, database), or what names tenants (tenants.by))\n\
         9:1: tenant.claimed_by: is missing: application_name and sni are what clients say of themselves (list the users whose word counts, or \"*\" for all)\n\
         10:8: tenant.name: \"a\" is already defined on line 8",
    ),
    (
        "[tenants]\nby = 'user'\nmax = 5\n[[tenant]]\nname = 'a*'\nuser = 'x'\nguaranteed = 6\nclaimed_by = 'u'\n\
         rows_burst = 3\npool_size = 3",
        "11:8: tenant.name: is the beginning of a name: who belongs to it is said of a whole name only\n\
         13:14: tenant.guaranteed: guaranteed (6) is more than max (5)\n\
         14:14: tenant.claimed_by: has no effect: nothing that clients say of themselves names a tenant (see tenants.by)\n\
         15:14: tenant.rows_burst: has no effect without rows_per_second\n\
         16:13: tenant.pool_size: has no effect on a shared pool (set pool = \"own\")",
    ),
    (
        "[tenants]\nby = 'user'\n[[tenant]]\nname = 'a'\nbackend = 'c'\nguaranteed = 3\npool = 'shared'\n\
         [[tenant]]\nname = 'b'\ncluster = 'x'\n[[backend]]\nname = 'c'\nhost = 'i'\nmax_connections = 2",
        "12:14: tenant.guaranteed: with those before it 3 connections are guaranteed, and backend \"c\" takes 2 (see backend.max_connections)\n\
         13:8: tenant.pool: a tenant that is elsewhere than its database has a pool of its own\n\
         16:11: tenant.cluster: there is no [[cluster]] \"x\"",
    ),
    // Guarantees have room where their tenants are, and only there.
    (
        "max_connections = 9\n[[backend]]\nname = 'c'\nhost = 'i'\nmax_connections = 2\n[tenants]\nby = 'user'\n\
         [[tenant]]\nname = 'a'\nguaranteed = 5",
        "",
    ),
    (
        "[[backend]]\nname = 'c'\nhost = 'i'\nmax_connections = 2\n[[database]]\nname = 'e'\nbackend = 'c'\n\
         [[tenant]]\nname = 'a'\ndatabase = 'd'\nguaranteed = 5\n[[tenant]]\nname = 'x'\ndatabase = 'e'\nguaranteed = 2",
        "",
    ),
    (
        "[[backend]]\nname = 'c'\nhost = 'i'\nmax_connections = 2\n[[database]]\nname = 'e'\nbackend = 'c'\n\
         [tenants]\nby = 'database'\n[[tenant]]\nname = 'd'\nguaranteed = 5\n[[tenant]]\nname = 'e'\nguaranteed = 3",
        "21:14: tenant.guaranteed: with those before it 3 connections are guaranteed, and backend \"c\" takes 2 (see backend.max_connections)",
    ),
    (
        "[[backend]]\nname = 'c'\nhost = 'i'\nmax_connections = 4\n[[database]]\nname = 'e'\nbackend = 'c'\n\
         [tenants]\nby = 'user'\n[[tenant]]\nname = 'a'\nguaranteed = 2\n[[tenant]]\nname = 't*'\nguaranteed = 3",
        "21:14: tenant.guaranteed: with those before it 5 connections are guaranteed, and backend \"c\" takes 4 (see backend.max_connections)",
    ),
    (
        "[[backend]]\nname = 'c'\nhost = 'i'\nmax_connections = 4\n[[database]]\nname = 'e'\nbackend = 'c'\n\
         [tenants]\nby = 'user'\nguaranteed = 3\n[[tenant]]\nname = 'a'\nguaranteed = 2",
        "16:14: tenants.guaranteed: with one that is not listed beside those that are 5 connections are guaranteed, and backend \"c\" takes 4 (see backend.max_connections)",
    ),
    (
        "[[backend]]\nname = 'c'\nhost = 'i'\nmax_connections = 4\n[[database]]\nname = 'e'\nbackend = 'c'\n\
         [tenants]\nby = 'database'\nguaranteed = 3\n[[tenant]]\nname = 'e'\nguaranteed = 2",
        "",
    ),
    (
        "max_connections = 2\n[[user]]\nname = 'u'\nmax_connections = 1\n[tenants]\nby = 'user'\n\
         [[tenant]]\nname = 'u'\nguaranteed = 2\n[[tenant]]\nname = 'v'\ndatabase = 'd'\nguaranteed = 1",
        "15:14: tenant.guaranteed: with those before it 2 connections are guaranteed, and user \"u\" takes 1 (see user.max_connections)\n\
         19:14: tenant.guaranteed: with those before it 3 connections are guaranteed, and database \"d\" takes 2 (see database.max_connections)",
    ),
    (
        "max_connections = 2\n[[database]]\nname = '*'\nbackend = 'b'\nmax_connections = 1\n[tenants]\nby = 'user'\n\
         [[tenant]]\nname = 'u'\nguaranteed = 3",
        "",
    ),
    // Types, numbers, units.
    (
        "[pool]\nsize = 'x'\nmin = true",
        "8:8: pool.size: \"x\" is neither a whole number nor \"adaptive\"\n9:7: pool.min: must be a whole number, not a boolean",
    ),
    ("[pool]\nsize = 0", "8:8: pool.size: must be from 1 to 1000000"),
    ("[pool]\nsize = -1", "8:8: pool.size: must be from 1 to 1000000"),
    ("[pool]\nsize = 99999999999999999999", "8:8: pool.size: must be from 1 to 1000000"),
    ("[pool]\nsize = 'adaptive'\nmax_size = 9\nmin = 9\n[[user]]\nname = 'u'\npool_size = 'adaptive'", ""),
    ("[pool]\nsize = 'adaptive'\nmin = 51", "9:7: pool.min: min (51) is more than max_size (50)"),
    ("[pool]\nmin = 21", "8:7: pool.min: min (21) is more than size (20)"),
    (
        "[pool]\nlifetime = '5m'",
        "8:12: pool.lifetime: \"5m\" is not a duration: give a whole number and ms, s, min, h or d",
    ),
    ("[pool]\nlifetime = 1.5", "8:12: pool.lifetime: must be a duration such as \"30s\", not a float"),
    ("[pool]\nlifetime = '400d'", "8:12: pool.lifetime: must be from 1ms to 365d"),
    ("[pool]\nlifetime = 60\nmin = 0x14", ""),
    (
        "[pool]\nmode = 'sesion'",
        "8:8: pool.mode: \"sesion\" is not one of session, transaction (did you mean session?)",
    ),
    (
        "[general]\nhigh_water_mark = '4KiB'",
        "8:19: general.high_water_mark: must be from 8KiB to 1073741822B",
    ),
    (
        "[general]\nmax_message_size = '2GB'",
        "8:20: general.max_message_size: must be from 65535B to 1073741822B",
    ),
    (
        "[general]\nmax_message_size = '1XB'",
        "8:20: general.max_message_size: \"1XB\" is not a size: give a whole number and B, KiB, MiB or GiB",
    ),
    (
        "[general]\nlisten = 'localhost'",
        "8:10: general.listen: \"localhost\" is not an address with a port (such as 127.0.0.1:6432 or [::]:6432)",
    ),
    (
        "[general]\nlisten = ['é', 5]",
        "8:11: general.listen: \"é\" is not an address with a port (such as 127.0.0.1:6432 or [::]:6432)\n8:16: general.listen: must be a string, not an integer",
    ),
    ("[general]\nlisten = []", "8:10: general.listen: there is nothing to listen on"),
    ("[general]\nlisten = ['1.1.1.1:1', '1.1.1.1:1']", "8:10: general.listen: 1.1.1.1:1 occurs twice"),
    ("[general]\nunix_socket_dir = 'nowhere'", "8:19: general.unix_socket_dir: nowhere is not a directory"),
    ("[general]\nstate_dir = 'nowhere'", "8:13: general.state_dir: nowhere is not a directory"),
    (
        "[general]\ntakeover_socket = 'nowhere/control'",
        "8:19: general.takeover_socket: nowhere is not a directory",
    ),
    (
        "[general]\ntakeover_socket = '/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
        "8:19: general.takeover_socket: is longer than 96 bytes, too long for a Unix socket",
    ),
    ("[http]\nlisten = '127.0.0.1:6432'", "8:10: http.listen: 127.0.0.1:6432 is already in general.listen"),
    (
        "[log]\nlevel = 'debgu'",
        "8:9: log.level: \"debgu\" is not one of error, warn, info, debug, trace, off",
    ),
    (
        "[log]\nlevel = 'info,turnpike::pool=debug'\nconnections = 1",
        "9:15: log.connections: must be true or false, not an integer",
    ),
    ("[admin]\ndatabase = 'd'", "8:12: admin.database: \"d\" is also the name of a [[database]]"),
    // TLS.
    (
        "[reports]\nlisten = '127.0.0.1:1'\ntls_cert = 'src'\n[[cdn]]\nname = 'c'\nkind = 'purge'\nurl = 'http://x'\nca = 'none.crt'",
        "7:1: reports.tls_key: is missing: TLS needs both tls_cert and tls_key\n9:12: reports.tls_cert: src is not a file\n\
         14:6: cdn.ca: has no effect unless url begins with https\n\
         14:6: cdn.ca: cannot read none.crt: No such file or directory (os error 2)",
    ),
    // What Redis is told holds once it is said where that is.
    (
        "[redis]\nmode = 'bogus'\ndatabase = true",
        "8:8: redis.mode: \"bogus\" is not one of single, sentinel, cluster\n9:12: redis.database: must be a whole number, not a boolean",
    ),
    (
        "[reports]\nlisten = '127.0.0.1:1'\n[[report]]\nname = 'r'\ndatabase = 'd'\nuser = 'u'\nsql = 'SELECT 1'\naccess = []\n[[user]]\nname = 'u'\npassword = 'hunter2'",
        "14:10: report.access: is empty: nobody could have it",
    ),
    ("[tls]\ncert = 'Cargo.toml'", "7:1: tls.key: is missing: TLS needs both cert and key"),
    (
        "[tls]\ncert = 'src'\nkey = 'none.key'",
        "8:8: tls.cert: src is not a file\n9:7: tls.key: cannot read none.key: No such file or directory (os error 2)",
    ),
    // Backends and databases.
    (
        "[[backend]]\nname = 'b'",
        "7:1: backend.host: is missing\n8:8: backend.name: \"b\" is already defined on line 2",
    ),
    (
        "[[backend]]\nname = 'c'\nhost = 'h'\nsslmode = 'verify-full'\nsslkey = 'Cargo.toml'",
        "7:1: backend.sslrootcert: is missing: sslmode verify-ca and verify-full need it\n7:1: backend.sslcert: is missing: sslkey is of no use without it",
    ),
    (
        "[[backend]]\nname = 'c'\nhost = 'h'\nssl_direct = true\nport = 65536",
        "10:14: backend.ssl_direct: needs sslmode require, verify-ca or verify-full\n11:8: backend.port: must be from 1 to 65535",
    ),
    (
        "[[database]]\nname = 'e'\nbackend = 'bb'\nuser = 'nobody'",
        "9:11: database.backend: there is no [[backend]] \"bb\" (did you mean \"b\"?)\n10:8: database.user: there is no [[user]] \"nobody\"",
    ),
    ("[[database]]\nname = ''\nbackend = 'b'", "8:8: database.name: must not be empty"),
    (
        "[[database]]\nname = '*'\nbackend = 'b'\n[[database]]\nname = '*'\nbackend = 'b'",
        "11:8: database.name: \"*\" is already defined on line 8",
    ),
    (
        "[[database]]\nname = 'e'\nbackend = 'b'\nsize = 2\nmin = 3\nwait_timeout = 0",
        "11:7: database.min: min (3) is more than size (2)\n12:16: database.wait_timeout: must be from 1ms to 365d",
    ),
    (
        "[[backend]]\nname = 'B'\nhost = 'h'\n[[database]]\nname = 'D'\nbackend = 'B'",
        "8:8: backend.name: \"B\" differs only in case from the name on line 2",
    ),
    // Clusters.
    ("[[cluster]]\nname = 'c'\nbackends = ['b']\n[[database]]\nname = 'e'\ncluster = 'c'\nsplit = false", ""),
    (
        "[[cluster]]\nbackends = []\nuser = 'nobody'",
        "7:1: cluster.name: is missing\n8:12: cluster.backends: must not be empty\n9:8: cluster.user: there is no [[user]] \"nobody\"",
    ),
    (
        "[[cluster]]\nname = 'c'\nbackends = ['b', 'b', 'bb']\nlag_interval = '1ms'\nconsistency = 'sesion'\nfailover_wait = -1",
        "9:12: cluster.backends: \"b\" occurs twice\n9:12: cluster.backends: there is no [[backend]] \"bb\" (did you mean \"b\"?)\n10:16: cluster.lag_interval: must be from 10ms to 1min\n11:15: cluster.consistency: \"sesion\" is not one of eventual, bounded, session, global (did you mean session?)\n12:17: cluster.failover_wait: must be from 0s to 365d",
    ),
    (
        "[[cluster]]\nname = 'c'\nbackends = 'b'\n[[cluster]]\nname = 'c'\nbackends = 'b'\nstrategy = 'best'",
        "11:8: cluster.name: \"c\" is already defined on line 8\n12:12: cluster.backends: \"b\" is already in cluster \"c\"\n13:12: cluster.strategy: \"best\" is not one of round_robin, random, least_connections, peak_ewma, weighted",
    ),
    (
        "[[cluster]]\nname = 'c'\nbackends = 'b'\nmax_lag = 0\nmax_lag_bytes = 0\n[[database]]\nname = 'e'\ncluster = 'c'\nconsistency = 'bounded'",
        "15:15: database.consistency: bounded needs max_lag or max_lag_bytes: both are 0",
    ),
    (
        "[[cluster]]\nname = 'main'\nbackends = 'b'\n[[database]]\nname = 'e'\ncluster = 'maim'\nbackend = 'b'\n[[database]]\nname = 'f'",
        "12:11: database.cluster: there is no [[cluster]] \"maim\" (did you mean \"main\"?)\n12:11: database.cluster: backend is already given: a database is on one or the other\n14:1: database.backend: is missing: a database is on a backend or a cluster",
    ),
    (
        "[[cluster]]\nname = 'c'\nbackends = 'b'\ndiscovery = 'patroni'\ndiscovery_allow = 'x'",
        "7:1: cluster.patroni: is missing: discovery = \"patroni\" asks there\n\
         11:19: cluster.discovery_allow: \"x\" is not a network such as 10.0.0.0/8 or ::1/128",
    ),
    (
        "[[cluster]]\nname = 'c'\nbackends = 'b'\ndiscovery = 'dns'\npatroni = ['db1:8008', 'http://db1:8008']",
        "10:13: cluster.discovery: \"dns\" is not one of none, replication, patroni\n11:12: cluster.patroni: \"db1:8008\" is not the address of a REST API (give scheme, host and port, such as http://db1:8008)",
    ),
    ("split = false", "7:9: database.split: has no effect on a database that is not on a cluster"),
    (
        "[[backend]]\nname = 'c'\nhost = 'h'\nrole = 'standby'\nzone = ''\nweight = 1001",
        "10:8: backend.role: \"standby\" is not one of auto, primary, replica\n11:8: backend.zone: must not be empty\n12:10: backend.weight: must be from 0 to 1000",
    ),
    // Routes.
    (
        "[[cluster]]\nname = 'c'\nbackends = 'b'\n[[route]]\nuser = ['app', 'r*']\ntable = 'audit.*'\nclass = 'read'\nfingerprint = '0123456789abcdef0123456789ABCDEF'\nroute = 'B'\nmax_lag = '1s'",
        "",
    ),
    ("[[route]]\nroute = 'primary'", "7:1: route: has no effect without a [[cluster]]"),
    (
        "[[cluster]]\nname = 'c'\nbackends = 'b'\n[[backend]]\nname = 'x'\nhost = 'h'\n[[route]]\nroute = 'x'\n[[route]]\nroute = 'replcia'\n[[route]]\nuser = 'u'",
        "14:9: route.route: backend \"x\" is in no [[cluster]]\n16:9: route.route: there is no [[backend]] \"replcia\" (did you mean \"replica\"?)\n17:1: route.route: is missing: a rule says something of where statements go",
    ),
    (
        "[[cluster]]\nname = 'c'\nbackends = 'b'\n[[route]]\nclass = ['read', 'reed']\nfingerprint = 'f20b'\ntable = []\nconsistency = 'bounded'\nmax_lag = 0\nmax_lag_bytes = 0\nusr = 'x'",
        "11:18: route.class: \"reed\" is not one of read, primary, write, ddl, transaction, session, copy in, copy out, cursor, execute, code, utility, unknown (did you mean read?)\n12:15: route.fingerprint: \"f20b\" is not a fingerprint (32 hexadecimal digits, as SHOW PLANS has them)\n13:9: route.table: must not be empty\n14:15: route.consistency: bounded needs max_lag or max_lag_bytes: both are 0\n17:1: route.usr: there is no such key (did you mean user?)",
    ),
    // Users. Whatever is wrong, the secret is not said.
    (
        "[[user]]\nname = 'u'\nverifier = 'hunter2'",
        "9:12: user.verifier: must be a verifier: SCRAM-SHA-256$... or md5... (SELECT rolpassword FROM pg_authid)",
    ),
    (
        "[[user]]\nname = 'u'\npassword = 'hunter2'\npassword_env = 'PATH'",
        "10:16: user.password_env: password is already given: a user has one secret",
    ),
    ("[[user]]\nname = 'u'\npassword = ['hunter2']", "9:12: user.password: must be a string, not an array"),
    (
        "[[user]]\nname = 'u'\npasword = 'hunter2'",
        "9:1: user.pasword: there is no such key (did you mean password?)",
    ),
    (
        "[[user]]\nname = 'u'\npassword_env = 'TURNPIKE_NO_SUCH'",
        "9:16: user.password_env: there is no environment variable of that name, or no text in it (give the variable's name, not the password)",
    ),
    (
        "[[user]]\nname = 'u'\npassword_env = 'hunter2'",
        "9:16: user.password_env: there is no environment variable of that name, or no text in it (give the variable's name, not the password)",
    ),
    (
        "[[user]]\nname = 'u'\npassword = hunter2",
        "9:12: string values must be quoted, expected literal string",
    ),
    ("[[user]]\nname = 'u'\npassword = \"hunter2", "9:20: invalid basic string, expected `\"`"),
    ("[[user]]\nname = 'u'\npassword = 'x'\npassword = 'hunter2'", "10:1: password: duplicate key"),
    ("[pool]\nsize = 1\n[pool]\nmin = 1", "9:2: pool: duplicate key"),
    ("[[user]]\nname = 'u'\npassword_env = 'PATH'", ""),
    (
        "[[user]]\nname = 'u'\npassword_file = 'hunter2'",
        "9:17: user.password_file: cannot read that file: No such file or directory (os error 2) (give a path, from this file's directory, not the password)",
    ),
    (
        "[[user]]\nname = 'u'\n[[user]]\nname = 'u'\npool_size = 0",
        "10:8: user.name: \"u\" is already defined on line 8\n11:13: user.pool_size: must be from 1 to 1000000",
    ),
    // Looking users up.
    (
        "[auth]\nquery = 'SELECT 1'",
        "7:1: auth.user: is missing: auth.query runs as a [[user]]\n8:9: auth.query: must have $1, the user name, in it",
    ),
    (
        "[auth]\nquery = 'SELECT $1, $2'\nuser = 'u'",
        "8:9: auth.query: may have no parameter but $1, the user name\n9:8: auth.user: there is no [[user]] \"u\"",
    ),
    (
        "[auth]\ndatabase = 'x'",
        "8:12: auth.database: there is no [[database]] \"x\"\n8:12: auth.database: has no effect without auth.query",
    ),
    // Rules.
    (
        "[[hba]]\ntype = 'host'",
        "7:1: hba.database: is missing\n7:1: hba.user: is missing\n7:1: hba.method: is missing",
    ),
    (
        "[[hba]]\ntype = 'local'\ndatabase = []\nuser = 'all'\naddress = '10.0.0.0/33'\nmethod = 'peer'",
        "9:12: hba.database: must not be empty\n11:11: hba.address: a rule of type local is about no address\n11:11: hba.address: \"10.0.0.0/33\" is not a network such as 10.0.0.0/8 or ::1/128\n12:10: hba.method: \"peer\" is not one of trust, reject, scram-sha-256, scram-sha-256-plus, md5, password, cert",
    ),
    (
        "[[hba]]\ntype = 'host'\ndatabase = ['samerole', 'd']\nuser = '+admins'\naddress = ['all', '1.1.1.1/+8']\nmethod = 'reject'",
        "9:13: hba.database: \"samerole\" is not supported here (give names, all, sameuser or replication)\n10:8: hba.user: \"+admins\" is not supported here (give names of users, or all)\n11:12: hba.address: \"all\" is not a network such as 10.0.0.0/8 or ::1/128 (leave address out for all)\n11:19: hba.address: \"1.1.1.1/+8\" is not a network such as 10.0.0.0/8 or ::1/128",
    ),
    (
        "[[hba]]\ntype = 'host'\ndatabase = 'all'\nuser = 'all'\nmethod = 'password'",
        "11:10: hba.method: needs [tls] (set tls.cert and tls.key)",
    ),
    (
        "[[hba]]\ntype = 'hostssl'\ndatabase = 'all'\nuser = 'all'\nmethod = 'md5'",
        "8:8: hba.type: hostssl never matches without [tls] (set tls.cert and tls.key)",
    ),
    (
        "[[hba]]\ntype = 'hostssl'\ndatabase = 'all'\nuser = 'all'\nmethod = 'cert'\n[tls]\ncert = 'Cargo.toml'\nkey = 'Cargo.toml'",
        "11:10: hba.method: needs tls.client_ca (it says whose certificates count)",
    ),
    (
        "[[hba]]\ntype = 'hostnossl'\ndatabase = 'all'\nuser = 'all'\nmethod = 'scram-sha-256-plus'",
        "11:10: hba.method: needs TLS, which connections of this type do not have",
    ),
];

#[test]
fn problems() {
    for (text, want) in CASES {
        let got = with(text).err().unwrap_or_default().replace("t.toml:", "");
        assert_eq!(got, *want, "for:\n{text}");
        assert!(!got.contains("hunter2"), "{got}");
    }
}

#[test]
fn nothing_to_serve() {
    let problems = parse("", Path::new("t.toml")).unwrap_err().to_string();
    let missing = "is missing: there must be at least one";
    assert_eq!(problems, format!("t.toml:1:1: backend: {missing}\nt.toml:1:1: database: {missing}"));
    let problems = load(Path::new("/none.toml")).unwrap_err().to_string();
    assert_eq!(problems, "/none.toml: cannot read it: No such file or directory (os error 2)");
}

#[test]
fn text_that_is_not_utf_8_is_placed() {
    let dir = directory(&[("t.toml", b"[pool]\n# \xff")]);
    let problems = load(&dir.path().join("t.toml")).unwrap_err().to_string();
    assert!(problems.ends_with("t.toml:2:3: is not UTF-8 from here on"), "{problems}");
}

#[test]
fn as_many_problems_as_lines() {
    let text = format!("[pool]\n{}", (0..5_000).map(|i| format!("k{i} = 1\n")).collect::<String>());
    let started = Instant::now();
    let problems = parse(&text, Path::new("t.toml")).unwrap_err();
    assert_eq!(problems.0.last().map(|p| (p.line, p.column)), Some((5_001, 1)));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn defaults() {
    let config = with("").unwrap();
    assert_eq!(config.general.listen, ["127.0.0.1:6432".parse().unwrap()]);
    assert_eq!(config.general.max_message_size, crate::core::limits::MAX_MESSAGE);
    assert_eq!((config.tls, config.http), (None, None));
    assert!(config.hba.is_empty(), "nobody comes in by default");
}

#[test]
fn values() {
    let config = with(
        "size = 7\nlifetime = '2h'\n[pool]\nsize = 9\nmin = 2\n[[database]]\nname = '*'\nbackend = 'b'\n\
         [[database]]\nname = 'a'\nbackend = 'b'\nmode = 'session'\n\
         [[hba]]\ntype = 'local'\ndatabase = ['d', 'e']\nuser = 'u'\nmethod = 'trust'\n\
         [[hba]]\ntype = 'host'\ndatabase = 'all'\nuser = 'all'\naddress = ['::1', '10.0.0.0/8']\nmethod = 'md5'",
    )
    .unwrap();
    let names: Vec<_> = config.databases.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["d", "a", "*"]);
    let pools: Vec<_> = config.databases.iter().map(|d| (d.pool.size, d.pool.min, d.pool.mode)).collect();
    use PoolMode::*;
    assert_eq!(
        pools,
        [(Size::Fixed(7), 2, Transaction), (Size::Fixed(9), 2, Session), (Size::Fixed(9), 2, Transaction)]
    );
    assert_eq!(config.databases[0].pool.lifetime, Duration::from_secs(7200));
    assert_eq!(config.hba[0].databases, ["d", "e"]);
    assert_eq!(config.hba[1].addresses.iter().map(|c| c.bits).collect::<Vec<_>>(), [128, 8]);
}

#[test]
fn a_database_comes_before_its_cluster() {
    let text = "[[backend]]\nname = 'p'\nhost = 'h'\nrole = 'primary'\nzone = 'z'\nweight = 7\n\
                [[cluster]]\nname = 'c'\nbackends = ['b', 'p']\nconsistency = 'global'\nmax_lag = '2s'\n\
                [[database]]\nname = 'e'\ncluster = 'c'\nmax_lag = '3s'\nreplica_wait = '50ms'\n";
    let config = with(text).unwrap();
    let (alone, on) = (&config.databases[0], &config.databases[1]);
    assert_eq!((alone.backend, alone.cluster.as_deref()), (0, None));
    assert_eq!((on.backend, on.cluster.as_deref()), (1, Some("c")), "who is meant to be the primary");
    let cluster = config.cluster("c").unwrap();
    let names: Vec<_> = cluster.members(&config).map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["b", "p"]);
    assert_eq!((cluster.strategy, cluster.routing.consistency), (Balancing::PeakEwma, Consistency::Global));
    assert_eq!((on.routing.consistency, on.routing.max_lag.as_secs()), (Consistency::Global, 3));
    assert_eq!(on.routing.replica_wait, Duration::from_millis(50));
    assert_eq!((config.backends[1].zone.as_deref(), config.backends[1].weight), (Some("z"), 7));
}

#[test]
fn a_verifier_logs_no_probe_in() {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let text = format!(
        "[[user]]\nname = 'u'\nverifier = 'SCRAM-SHA-256$4096:AAAA${key}:{key}'\n\
         [[cluster]]\nname = 'c'\nbackends = 'b'\nuser = 'u'"
    );
    let problems = with(&text).unwrap_err();
    assert!(problems.contains("13:8: cluster.user: \"u\" has only a verifier"), "{problems}");
}

#[test]
fn a_user_comes_before_the_database() {
    let text =
        "size = 7\nmin = 3\n[[user]]\nname = 'u'\npool_size = 2\npool_mode = 'session'\n[[user]]\nname = 'v'";
    let config = with(text).unwrap();
    let pool = |user| {
        let pool = config.pool_settings(&config.databases[0], user);
        (pool.size, pool.min, pool.mode)
    };
    assert_eq!(pool("u"), (Size::Fixed(2), 2, PoolMode::Session));
    assert_eq!(pool("v"), (Size::Fixed(7), 3, PoolMode::Transaction));
    assert_eq!(pool("unlisted"), (Size::Fixed(7), 3, PoolMode::Transaction));
}

#[test]
fn paths_are_relative_to_the_file() {
    let dir = directory(&[("a.pem", b""), ("b.pem", b"")]);
    let text = format!("{BASE}[tls]\ncert = 'a.pem'\nkey = '{}/b.pem'", dir.path().display());
    let tls = parse(&text, &dir.path().join("t.toml")).unwrap().tls.unwrap();
    assert_eq!((tls.cert, tls.key), (dir.path().join("a.pem"), dir.path().join("b.pem")));
}

#[test]
fn a_key_belongs_to_its_certificate() {
    let made = [(); 2].map(|()| rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap());
    let [(cert, key), (_, other)] = made.map(|m| (m.cert.pem(), m.signing_key.serialize_pem()));
    let dir =
        directory(&[("a.crt", cert.as_bytes()), ("a.key", key.as_bytes()), ("b.key", other.as_bytes())]);
    let of = |section: &str, cert: &str, name: &str, key: &str| {
        let text = format!("{BASE}{section}{cert} = 'a.crt'\n{name} = '{key}'");
        parse(&text, &dir.path().join("t.toml")).map(drop).map_err(|problems| problems.0)
    };
    let reports = "[reports]\nlisten = '127.0.0.1:1'\n";
    let backend = "[[backend]]\nname = 'c'\nhost = 'i'\n";
    for (section, cert, name, line, key) in [
        ("[tls]\n", "cert", "key", 9, "tls.key"),
        (reports, "tls_cert", "tls_key", 10, "reports.tls_key"),
        (backend, "sslcert", "sslkey", 11, "backend.sslkey"),
    ] {
        assert_eq!(of(section, cert, name, "a.key"), Ok(()));
        let problems = of(section, cert, name, "b.key").unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!((problem.line, problem.key.as_str()), (line, key));
        assert!(problem.message.contains("b.key is not the key of"), "{}", problem.message);
    }
}

/// A directory with the files given, each for its owner alone.
fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        open_to(dir.path(), name, 0o600);
    }
    dir
}

fn open_to(dir: &Path, name: &str, mode: u32) {
    std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn line() -> impl Strategy<Value = String> {
    let keys: Vec<_> = SECTIONS.iter().flat_map(|s| s.names()).collect();
    let headers: Vec<_> = SECTIONS.iter().map(|s| s.header()).collect();
    let values =
        "'[a-z$1*]{0,8}'|[-+0-9a-fx_.]{1,9}|\\[('\\PC*', )?[0-9]\\]|true|'[0-9]{1,21}(ms|s|h|d|GB)'|\\{\\}";
    prop_oneof![
        prop::sample::select(headers),
        (prop::sample::select(keys), values).prop_map(|(key, value)| format!("{key} = {value}")),
        "\\PC{0,20}",
    ]
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse(&text, Path::new("t.toml")).map_err(|p| p.to_string());
    }

    #[test]
    fn arbitrary_sections_never_panic(lines in prop::collection::vec(line(), 0..12)) {
        let _ = parse(&lines.join("\n"), Path::new("t.toml")).map_err(|p| p.to_string());
    }
}

#[test]
fn as_many_rules_as_there_are_bits() {
    let text = |n: usize| {
        let rules = "[[route]]\nroute = 'primary'\n".repeat(n);
        format!("[[cluster]]\nname = 'c'\nbackends = 'b'\n{rules}")
    };
    assert_eq!(with(&text(64)).unwrap().rules.len(), 64);
    let problems = with(&text(65)).err().unwrap();
    assert_eq!(problems, "t.toml:138:1: route: there are more than 64 of them");
}
