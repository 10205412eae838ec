//! What went wrong, on which side, whether it may be retried, and its SQLSTATE: mapped to the wire once.

use std::borrow::Cow;
use std::fmt;

/// A five-character SQLSTATE code (PostgreSQL documentation, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

macro_rules! sqlstates {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState { $($(#[$doc])* pub const $name: SqlState = SqlState(*$code);)* }
    };
}

sqlstates! {
    /// successful_completion
    SUCCESS = b"00000";
    /// connection_exception
    CONNECTION_EXCEPTION = b"08000";
    /// sqlclient_unable_to_establish_sqlconnection
    CANNOT_CONNECT = b"08001";
    /// sqlserver_rejected_establishment_of_sqlconnection
    REJECTED = b"08004";
    /// connection_failure
    CONNECTION_FAILURE = b"08006";
    /// transaction_resolution_unknown
    RESOLUTION_UNKNOWN = b"08007";
    /// protocol_violation
    PROTOCOL_VIOLATION = b"08P01";
    /// feature_not_supported
    FEATURE_NOT_SUPPORTED = b"0A000";
    /// A write where only reading is possible: in a read-only transaction, on a replica.
    READ_ONLY = b"25006";
    /// Also: a query on a replica that recovery cannot wait for.
    SERIALIZATION_FAILURE = b"40001";
    /// invalid_parameter_value
    INVALID_PARAMETER = b"22023";
    /// invalid_authorization_specification
    INVALID_AUTHORIZATION = b"28000";
    /// invalid_password
    INVALID_PASSWORD = b"28P01";
    /// invalid_catalog_name
    UNKNOWN_DATABASE = b"3D000";
    /// transaction_resolution_unknown
    OUTCOME_UNKNOWN = b"08007";
    /// out_of_memory
    OUT_OF_MEMORY = b"53200";
    /// config_file_error
    CONFIG_FILE_ERROR = b"F0000";
    /// object_not_in_prerequisite_state
    WRONG_STATE = b"55000";
    /// undefined_column
    UNDEFINED_COLUMN = b"42703";
    /// undefined_object
    UNDEFINED_OBJECT = b"42704";
    /// warning
    WARNING = b"01000";
    /// idle_in_transaction_session_timeout
    IDLE_IN_TRANSACTION_TIMEOUT = b"25P03";
    /// transaction_timeout
    TRANSACTION_TIMEOUT = b"25P04";
    /// in_failed_sql_transaction
    IN_FAILED_TRANSACTION = b"25P02";
    /// invalid_sql_statement_name
    UNKNOWN_STATEMENT = b"26000";
    /// insufficient_privilege
    INSUFFICIENT_PRIVILEGE = b"42501";
    /// syntax_error
    SYNTAX_ERROR = b"42601";
    /// duplicate_prepared_statement
    DUPLICATE_STATEMENT = b"42P05";
    /// too_many_connections
    TOO_MANY_CONNECTIONS = b"53300";
    /// configuration_limit_exceeded
    LIMIT_EXCEEDED = b"53400";
    /// program_limit_exceeded
    PROGRAM_LIMIT = b"54000";
    /// query_canceled
    QUERY_CANCELED = b"57014";
    /// admin_shutdown
    ADMIN_SHUTDOWN = b"57P01";
    /// cannot_connect_now
    CANNOT_CONNECT_NOW = b"57P03";
    /// idle_session_timeout
    IDLE_SESSION_TIMEOUT = b"57P05";
    /// internal_error
    INTERNAL = b"XX000";
}

impl SqlState {
    /// The code that a text is; `XX000` where it is none.
    pub fn from_text(text: &str) -> SqlState {
        text.as_bytes().try_into().map_or(SqlState::INTERNAL, SqlState)
    }

    /// The code as text. Codes from a peer that are not ASCII read as `XX000`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The side of the proxy on which something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The application, or what it sent.
    Client,
    /// A Postgres server, or the way to it.
    Backend,
    /// Turnpike itself: a limit, a rule, a bug.
    Internal,
}

/// Severity as the protocol's `S`/`V` fields spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    /// The word that the `S` and `V` fields carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

/// An error as it will be told to a client: everything an `ErrorResponse` carries, and what we do about it.
///
/// Never holds a literal or a secret: it is logged and sent as it is (invariant 11).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{severity}: {message} ({code})", severity = .severity.as_str())]
pub struct Error {
    /// Where it happened.
    pub side: Side,
    /// Whether the session survives.
    pub severity: Severity,
    /// What Postgres would call it.
    pub code: SqlState,
    /// One line, lower case, as Postgres words it.
    pub message: Cow<'static, str>,
    /// The rule or limit behind it.
    pub detail: Option<Cow<'static, str>>,
    /// The way out.
    pub hint: Option<Cow<'static, str>>,
    /// True only where no byte of the statement reached a server.
    pub retry: bool,
}

impl Error {
    fn new(side: Side, severity: Severity, code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Error { side, severity, code, message: message.into(), detail: None, hint: None, retry: false }
    }

    /// A client broke the protocol: FATAL, as Postgres treats lost synchronisation.
    pub fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Side::Client, Severity::Fatal, SqlState::PROTOCOL_VIOLATION, message)
    }

    /// A client may not come in, or may not stay.
    pub fn fatal(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Side::Client, Severity::Fatal, code, message)
    }

    /// A statement is refused; the session goes on.
    pub fn statement(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Side::Internal, Severity::Error, code, message)
    }

    /// A backend, or the way to it, failed.
    pub fn backend(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Side::Backend, Severity::Fatal, code, message)
    }

    /// Turnpike failed in a way that is its own fault.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Side::Internal, Severity::Fatal, SqlState::INTERNAL, message)
    }

    /// Adds the rule or limit behind the refusal.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the way out.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Marks the statement as one of which no byte reached a server.
    pub fn retryable(mut self) -> Self {
        self.retry = true;
        self
    }

    /// Ends the session (or, with `Error`, spares it).
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }
}

/// The result that fallible functions of ours return.
pub type Result<T> = std::result::Result<T, Error>;
