//! Names of backends, which may lead elsewhere tomorrow: resolved for every new connection, and looked at again as long
//! as connections are kept.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use parking_lot::Mutex;

/// Tells the addresses of a host and port.
pub type Lookup = Box<dyn Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync>;

/// Where the name of a backend leads.
#[derive(Default)]
pub struct Names {
    /// Who is asked, if not the system.
    lookup: Mutex<Option<Lookup>>,
    /// What was told last.
    last: Mutex<Vec<SocketAddr>>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Names {
    /// Asks somebody else than the system from now on.
    pub fn ask(&self, lookup: Lookup) {
        *self.lookup.lock() = Some(lookup);
    }

    /// The addresses now.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let told = self.lookup.lock().as_ref().map(|lookup| lookup(host, port));
        match told {
            Some(told) => Ok(told),
            None => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
        }
    }

    /// Whether the name leads elsewhere than when this was last asked: none of the addresses is what it was. Of a name
    /// that cannot be resolved now, nothing is known.
    pub(super) async fn have_moved(&self, host: &str, port: u16) -> bool {
        // An address, or the directory of a socket.
        if host.starts_with('/') || host.parse::<std::net::IpAddr>().is_ok() && self.lookup.lock().is_none() {
            return false;
        }
        let Ok(now) = self.resolve(host, port).await else { return false };
        if now.is_empty() {
            return false;
        }
        let mut last = self.last.lock();
        let moved = !last.is_empty() && !now.iter().any(|address| last.contains(address));
        *last = now;
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_name_has_moved_when_nothing_is_as_it_was() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let names = Names::default();
        let look = told.clone();
        names.ask(Box::new(move |_, port| {
            look.lock().iter().map(|ip: &[u8; 4]| (*ip, port).into()).collect()
        }));
        for (now, moved) in [
            (vec![[10, 0, 0, 1]], false),
            (vec![[10, 0, 0, 1], [10, 0, 0, 2]], false),
            (vec![[10, 0, 0, 2]], false),
            (vec![], false),
            (vec![[10, 0, 0, 3]], true),
            (vec![[10, 0, 0, 3]], false),
        ] {
            told.lock().clone_from(&now);
            assert_eq!(names.have_moved("db", 5432).await, moved, "{now:?}");
        }
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let names = Names::default();
        assert!(names.resolve("localhost", 1).await.is_ok_and(|all| !all.is_empty()));
        assert!(!names.have_moved("localhost", 1).await && !names.have_moved("localhost", 1).await);
    }
}
