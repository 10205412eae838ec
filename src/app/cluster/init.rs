//! Making the data directories of a throwaway cluster: `initdb` for the primary, `pg_basebackup` for replicas.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::server::Server;
use super::site::Site;
use super::{ClusterError, ClusterOptions, Context, SslFiles};

/// Settings that suit tests and demonstrations: nothing here has to survive a power cut, so nothing is synced.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("wal_level", "logical"),
    ("max_wal_senders", "10"),
    ("max_replication_slots", "10"),
    ("hot_standby", "on"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "200ms"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "1GB"),
    ("track_functions", "all"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_statement", "none"),
    ("password_encryption", "scram-sha-256"),
];

/// What is trusted: the socket, which lies in a directory of mode 0700. What is asked for a password: all else.
const HBA: &str = "\
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

/// Makes the primary's data directory and its configuration.
pub(super) fn primary(site: &Site, server: &Server, options: &ClusterOptions) -> Result<(), ClusterError> {
    let password_file = site.dir().join("password");
    site.write(&password_file, site.password().as_bytes())?;
    // The better locale came with PostgreSQL's packages long ago, but not to every system.
    initdb(site, server, &password_file, "C.UTF-8").or_else(|_| initdb(site, server, &password_file, "C"))?;
    fs::remove_file(&password_file).context("cannot remove the password file")?;
    configure(site, server, options)
}

fn initdb(site: &Site, server: &Server, password_file: &Path, locale: &str) -> Result<(), ClusterError> {
    let mut command = site.program("initdb");
    command.arg("-D").arg(&server.data_dir).args(["-U", "postgres", "-E", "UTF8", "--no-sync"]);
    command.arg("--pwfile").arg(password_file).arg(format!("--locale={locale}"));
    command.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
    site.run(&mut command).map(drop)
}

fn configure(site: &Site, server: &Server, options: &ClusterOptions) -> Result<(), ClusterError> {
    let mut settings: Vec<(String, String)> =
        SETTINGS.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    settings.push(("unix_socket_directories".to_owned(), site.dir().display().to_string()));
    if let Some(ssl) = &options.ssl {
        settings.extend(install_ssl(site, &server.data_dir, ssl)?);
    }
    settings.extend(options.settings.iter().cloned());

    let path = server.data_dir.join("postgresql.conf");
    let mut conf = fs::read_to_string(&path).context("cannot read postgresql.conf")?;
    for (name, value) in settings {
        // The last line for a setting is the one that counts.
        let _ = writeln!(conf, "{name} = '{}'", value.replace('\'', "''"));
    }
    site.write(&path, conf.as_bytes())?;
    let hba = format!("{}\n{HBA}", options.hba.as_deref().unwrap_or_default());
    site.write(&server.data_dir.join("pg_hba.conf"), hba.as_bytes())
}

/// Copies key and certificates to where the server may read them: it refuses keys that others may read.
fn install_ssl(site: &Site, data: &Path, ssl: &SslFiles) -> Result<Vec<(String, String)>, ClusterError> {
    let files = [
        ("ssl_cert_file", "server.crt", Some(&ssl.cert)),
        ("ssl_key_file", "server.key", Some(&ssl.key)),
        ("ssl_ca_file", "client-ca.crt", ssl.client_ca.as_ref()),
    ];
    let mut settings = vec![("ssl".to_owned(), "on".to_owned())];
    for (setting, name, source) in files {
        let Some(source) = source else { continue };
        let content = fs::read(source).context("cannot read a TLS file")?;
        site.write(&data.join(name), &content)?;
        settings.push((setting.to_owned(), name.to_owned()));
    }
    Ok(settings)
}

/// Copies the primary into a replica that streams from it, and starts it. The replica has a replication slot: however
/// long a test keeps it down, it can catch up.
pub(super) fn replica(site: &Arc<Site>, primary: &Server, n: usize) -> Result<Server, ClusterError> {
    let server = Server::new(site, &format!("replica{n}"));
    let mut command = site.program("pg_basebackup");
    command.arg("-h").arg(primary.socket_dir()).args(["-p", &primary.port.to_string(), "-U", "postgres"]);
    command.arg("-D").arg(&server.data_dir).args(["-c", "fast", "-X", "stream", "--no-sync"]);
    command.args(["-R", "-C", "-S", &server.name]);
    site.run(&mut command)?;
    server.start()?;
    Ok(server)
}
