//! Who a pool is for, and what it shares with others.

use std::sync::Arc;

use tokio::sync::Notify;

use super::cap::Cap;
use super::connect::Credential;
use super::driver::Login;
use super::pool::Pool;
use super::schema::Schema;

/// Who a pool is for, and where its connections go.
#[derive(Clone, Debug)]
pub struct Purpose {
    /// Database as clients name it.
    pub database: String,
    /// User as clients log in.
    pub user: String,
    /// Database on the backend.
    pub dbname: String,
    /// User on the backend.
    pub server_user: String,
    /// The tenant whose connections these are, where they are nobody else's.
    pub tenant: Option<Arc<str>>,
}

impl Pool {
    /// Keeps the keys of a client's own login for logging in on the backend, unless a password is configured.
    pub fn learn(&self, keys: Credential) {
        let mut credential = self.credential.lock();
        if matches!(*credential, Credential::None | Credential::Keys(_)) {
            *credential = keys;
        }
    }
}

/// What a pool has in common with others.
#[derive(Debug)]
pub struct Common {
    /// Bounds that it must keep.
    pub caps: Vec<Arc<Cap>>,
    /// What is known of its database's objects.
    pub schema: Arc<Schema>,
    /// Who reads the catalog, where that is said.
    pub cataloguer: Option<Login>,
    /// Has all pools looked after at once.
    pub kick: Arc<Notify>,
}
