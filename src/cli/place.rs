//! Where a command connects to: a connection string as libpq has it.

use std::path::PathBuf;

use tokio_postgres::config::{Host, SslMode as Asked};

use crate::config::{Backend, Role, SslMode};
use crate::pool::connect::{Credential, Target};
use crate::pool::driver::Login;

/// A server, a database on it, and who logs in.
#[derive(Debug)]
pub struct Place {
    /// The server.
    pub target: Target,
    /// The database.
    pub dbname: String,
    /// Who logs in.
    pub login: Login,
}

impl Place {
    /// From `postgresql://user@host:port/database`; the password may be in `PGPASSWORD`. With a root certificate, the
    /// server's must be signed by it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str, root: Option<PathBuf>) -> Result<Place, String> {
        let config: tokio_postgres::Config =
            url.parse().map_err(|e| format!("that is no connection string: {}", plain(&e)))?;
        let host = match config.get_hosts() {
            [Host::Tcp(host)] => host.clone(),
            [Host::Unix(dir)] => dir.display().to_string(),
            [] => "localhost".to_string(),
            _ => return Err("a connection string with more than one host".into()),
        };
        let user = config.get_user().ok_or("the connection string names no user")?.to_string();
        let given = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
        let password = given.or_else(|| std::env::var("PGPASSWORD").ok());
        let sslmode = match config.get_ssl_mode() {
            _ if root.is_some() => SslMode::VerifyFull,
            Asked::Disable => SslMode::Disable,
            Asked::Require => SslMode::Require,
            _ => SslMode::Prefer,
        };
        let backend = Backend {
            name: host.clone(),
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            sslmode,
            ssl_direct: false,
            sslrootcert: root,
            sslcert: None,
            sslkey: None,
            max_connections: 0,
            role: Role::Auto,
            zone: None,
            region: None,
            found: false,
            weight: 0,
        };
        Ok(Place {
            target: Target::new(&backend)?,
            dbname: config.get_dbname().map_or_else(|| user.clone(), str::to_string),
            login: Login { user, credential: password.map_or(Credential::None, Credential::Password) },
        })
    }
}

/// The cause, without the connection string.
fn plain(e: &tokio_postgres::Error) -> String {
    std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places() {
        let place =
            Place::parse("postgresql://me:secret@127.0.0.1:6543/there?sslmode=disable", None).unwrap();
        assert_eq!((place.target.host(), place.target.port()), ("127.0.0.1".to_string(), 6543));
        assert_eq!((place.dbname.as_str(), place.login.user.as_str()), ("there", "me"));
        assert!(!format!("{place:?}").contains("secret"));
        assert_eq!(Place::parse("postgresql://me@/", None).unwrap().dbname, "me");
        for wrong in ["postgresql://127.0.0.1/x", "postgresql://me@a,b/x", "nonsense"] {
            assert!(Place::parse(wrong, None).is_err(), "{wrong}");
        }
    }
}
