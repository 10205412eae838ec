//! How one use of a server went, as far as that says something about the server.

use std::time::Duration;

use crate::core::error::SqlState;

/// How one use of a server went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered in this time; also with an error that is the statement's own.
    Answered(Duration),
    /// It did not do what a server should.
    Failed(Failure),
}

/// What a server did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be opened.
    Connect,
    /// It took too long.
    Timeout,
    /// The connection was lost, or the server broke the protocol.
    Lost,
    /// It is going down or coming up (class 57P).
    Shutdown,
    /// It has no memory or no connection left (class 53).
    Resources,
    /// Its disk is full (53100).
    DiskFull,
    /// Its storage fails (class 58, XX001, XX002).
    Storage,
}

/// How many kinds there are.
pub const KINDS: usize = 7;

impl Failure {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Failure; KINDS] = [
        Failure::Connect,
        Failure::Timeout,
        Failure::Lost,
        Failure::Shutdown,
        Failure::Resources,
        Failure::DiskFull,
        Failure::Storage,
    ];

    /// What an error of the server's says about the server; `None` for one that is the statement's own. Codes are those
    /// of appendix A of PostgreSQL's documentation. 53400 is a limit that somebody has set, and says nothing.
    pub fn of(code: SqlState) -> Option<Failure> {
        match &code.0 {
            b"53100" => Some(Failure::DiskFull),
            b"53000" | b"53200" | b"53300" => Some(Failure::Resources),
            b"57P01" | b"57P02" | b"57P03" => Some(Failure::Shutdown),
            b"XX001" | b"XX002" => Some(Failure::Storage),
            [b'5', b'8', ..] => Some(Failure::Storage),
            [b'0', b'8', ..] => Some(Failure::Lost),
            _ => None,
        }
    }

    /// A word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Timeout => "timeout",
            Failure::Lost => "lost",
            Failure::Shutdown => "shutdown",
            Failure::Resources => "resources",
            Failure::DiskFull => "disk_full",
            Failure::Storage => "storage",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_servers_and_of_statements() {
        for (code, want) in [
            (b"53100", Some(Failure::DiskFull)),
            (b"53300", Some(Failure::Resources)),
            (b"53400", None),
            (b"57P01", Some(Failure::Shutdown)),
            (b"57014", None),
            (b"58030", Some(Failure::Storage)),
            (b"08006", Some(Failure::Lost)),
            (b"42601", None),
            (b"40001", None),
        ] {
            assert_eq!(Failure::of(SqlState(*code)), want, "{}", SqlState(*code));
        }
        for (i, failure) in Failure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, i);
        }
    }
}
