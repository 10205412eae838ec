//! What statements may leave behind in their server session, as a set of kinds.

/// What statements may leave behind, as a set; also the reasons for which a client keeps its server connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces(u32);

macro_rules! traces {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $label:literal;)*) => {
        impl Traces {
            $($(#[$doc])* pub const $name: Traces = Traces(1 << $bit);)*
            const LABELS: &'static [(Traces, &'static str)] = &[$((Traces::$name, $label)),*];
        }
    };
}

traces! {
    /// The pool is in session mode.
    SESSION = 0, "session mode";
    /// SQL-level PREPARE and DEALLOCATE.
    PREPARE = 1, "prepare";
    /// LISTEN that the shared listener does not serve.
    LISTEN = 2, "listen";
    /// Temporary table, view, function.
    TEMPORARY = 3, "temporary object";
    /// Cursor WITH HOLD.
    CURSOR = 4, "cursor with hold";
    /// Session-level advisory lock.
    ADVISORY = 5, "advisory lock";
    /// currval or lastval.
    SEQUENCE = 6, "sequence value";
    /// LOAD.
    LOAD = 7, "load";
    /// A prepared statement too long to be kept for preparing it elsewhere.
    LARGE = 8, "large statement";
    /// setseed: what random() gives next is this session's.
    SEED = 9, "random seed";
    /// State that an extension keeps: dblink, hypopg, a replication origin.
    EXTENSION = 10, "extension state";
    /// The server could not be asked what is left.
    UNKNOWN = 11, "unknown state";
    /// Settings by name; [`super::setting`] tells which.
    SETTING = 12, "setting";
    /// Settings that the text does not name.
    SETTINGS = 13, "settings";
    /// Something that ends a reason may have happened: DROP, CLOSE, an unlock.
    ENDS = 14, "end";
    /// A sequence may have been advanced.
    ADVANCES = 15, "sequence advanced";
    /// A function that is not known to be harmless is called by name.
    CALLS = 16, "call";
    /// EXECUTE of a prepared statement.
    EXECUTES = 17, "execute";
    /// Settings may go back to what the session began with.
    RESETS = 18, "reset";
    /// CREATE, ALTER or DROP.
    DDL = 19, "ddl";
    /// Sequences are handled by hand: their values may be asked for next.
    SERIAL = 20, "sequence";
    /// Wants a connection that nobody has used: what it does depends on what others had loaded.
    FRESH = 21, "fresh connection";
    /// The temporary schema is in the search path.
    PATH = 22, "temporary schema";
    /// Objects that statements prepared by SQL may depend on have changed.
    PREPARED = 23, "prepared before ddl";
    /// NOTIFY: who listens hears itself before it is told that it is ready.
    NOTIFIES = 24, "notify";
    /// Asks what the session listens to.
    ASKS_LISTENS = 25, "listening channels";
    /// COMMIT, in any words.
    COMMITS = 26, "commit";
    /// Functions or triggers may be made, changed or dropped.
    FUNCTIONS = 27, "functions";
    /// What names and strings mean may change: the schema search path, the role, be it for the transaction.
    MEANING = 28, "meaning";
    /// SAVEPOINT: what comes after it may be undone by itself.
    SAVEPOINT = 30, "savepoint";
    /// A statement that is run for EXPLAIN (ROUTE, ANALYZE). No text alone has it.
    EXPLAINED = 29, "explained";
}

impl Traces {
    /// Nothing.
    pub const NONE: Traces = Traces(0);
    /// What a server can be asked about when the transaction is over.
    pub const ASKABLE: Traces = Traces(
        Self::PREPARE.0
            | Self::LISTEN.0
            | Self::TEMPORARY.0
            | Self::CURSOR.0
            | Self::ADVISORY.0
            | Self::SETTING.0
            | Self::SETTINGS.0,
    );
    /// What matters to the question, beyond settings by name.
    pub const DOUBTS: Traces =
        Traces(Self::ASKABLE.0 & !Self::SETTING.0 | Self::ENDS.0 | Self::RESETS.0 | Self::FUNCTIONS.0);
    /// What keeps the server connection without asking.
    pub const CERTAIN: Traces = Traces(
        Self::SESSION.0
            | Self::SEQUENCE.0
            | Self::LOAD.0
            | Self::LARGE.0
            | Self::SEED.0
            | Self::EXTENSION.0
            | Self::PATH.0
            | Self::PREPARED.0
            | Self::UNKNOWN.0,
    );
    /// What needs no look at the text: hints, and no trace.
    pub const HINTS: Traces = Traces(Self::ADVANCES.0 | Self::CALLS.0 | Self::COMMITS.0);
    /// What, outside a transaction, may have been carried out when the answer is lost.
    pub const CHANGES: Traces =
        Traces(Self::ADVANCES.0 | Self::CALLS.0 | Self::DDL.0 | Self::EXECUTES.0 | Self::ASKABLE.0);
    /// What speaks of a session that keeps state: it is given the same connection again where that can be had.
    pub const STATEFUL: Traces = Traces(Self::ASKABLE.0 | Self::NEEDS.0 | Self::DDL.0 | Self::SERIAL.0);
    /// What DISCARD ALL does not take away.
    pub const LASTING: Traces =
        Traces(Self::LOAD.0 | Self::SEED.0 | Self::EXTENSION.0 | Self::PATH.0 | Self::UNKNOWN.0);
    /// What calls for something to be sent to the server first.
    pub const NEEDS: Traces =
        Traces(Self::SEQUENCE.0 | Self::EXECUTES.0 | Self::PREPARE.0 | Self::ASKS_LISTENS.0);
    /// Code that may do anything that can be asked about: DO, CALL, a function that was found to.
    pub const OPAQUE: Traces = Traces(
        Self::ASKABLE.0 & !Self::SETTING.0
            | Self::ENDS.0
            | Self::ADVANCES.0
            | Self::RESETS.0
            | Self::MEANING.0,
    );

    /// All of these.
    pub(super) const fn of_all(some: &[Traces]) -> Traces {
        let (mut bits, mut i) = (0, 0);
        while i < some.len() {
            bits |= some[i].0;
            i += 1;
        }
        Traces(bits)
    }

    /// Whether there is nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds those of `other`.
    pub fn add(&mut self, other: Traces) {
        self.0 |= other.0;
    }

    /// Both sets in one.
    #[must_use]
    pub fn and(self, other: Traces) -> Traces {
        Traces(self.0 | other.0)
    }

    /// Those that are in both sets.
    #[must_use]
    pub fn of(self, other: Traces) -> Traces {
        Traces(self.0 & other.0)
    }

    /// Whether any of `other` is among these.
    pub fn any(self, other: Traces) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every one of `other` is among these.
    pub fn contains(self, other: Traces) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without those of `other`.
    #[must_use]
    pub fn without(self, other: Traces) -> Traces {
        Traces(self.0 & !other.0)
    }

    /// As a number, to be kept in an atomic; [`Traces::from_bits`] reverses it.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// See [`Traces::bits`].
    pub fn from_bits(bits: u32) -> Traces {
        Traces(bits)
    }

    /// The names of all there are.
    pub fn all_labels() -> impl Iterator<Item = &'static str> {
        Self::LABELS.iter().map(|(_, label)| *label)
    }

    /// Their names, for people.
    pub fn labels(self) -> Vec<&'static str> {
        Self::LABELS.iter().filter(|(trace, _)| self.contains(*trace)).map(|(_, label)| *label).collect()
    }
}
