//! Words that mean more, or less, to the parser than to PostgreSQL; and those whose constants are names.

/// Words that are names in PostgreSQL and more than that to the parser.
pub const FOREIGN: &[&str] = &[
    "anti",
    "apply",
    "asof",
    "cluster",
    "connect",
    "distribute",
    "empty",
    "final",
    "format",
    "global",
    "highlight",
    "lateral_view",
    "match_condition",
    "match_recognize",
    "minus",
    "multiset",
    "offsets",
    "pivot",
    "prewhere",
    "prior",
    "qualify",
    "rlike",
    "regexp",
    "sample",
    "semi",
    "settings",
    "sort",
    "start",
    "top",
    "unpivot",
    "view",
    "xor",
    "div",
    "struct",
    "dictionary",
    "try_cast",
    "safe_cast",
    "convert",
    "ceil",
    "floor",
    "if",
    "nvl",
    "listagg",
    "sample_by",
    "totals",
    "ttl",
    "outfile",
    "describe",
    "match",
    "binary",
    "lambda",
    "trigger",
    "measures",
    "output",
];

/// Fields of an interval.
pub const FIELDS: &[&str] = &["year", "month", "day", "hour", "minute", "second"];

/// Words after which an operator has no left side.
pub fn is_clause_word(word: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"select",
        b"where",
        b"and",
        b"or",
        b"not",
        b"on",
        b"having",
        b"when",
        b"then",
        b"else",
        b"case",
        b"by",
        b"in",
        b"between",
        b"like",
        b"ilike",
        b"set",
        b"values",
        b"returning",
        b"limit",
        b"offset",
        b"distinct",
        b"all",
        b"using",
        b"is",
        b"from",
        b"similar",
        b"to",
        b"as",
    ];
    WORDS.contains(&word)
}

/// Words that a constant may follow without being of a type by that name.
pub fn is_key(word: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"escape",
        b"zone",
        b"placing",
        b"leading",
        b"trailing",
        b"both",
        b"path",
        b"default",
        b"passing",
        b"any",
        b"some",
        b"with",
        b"for",
        b"except",
        b"union",
        b"intersect",
        b"symmetric",
        b"asymmetric",
        b"ordinality",
        b"end",
        b"interval",
        b"exclude",
        b"similar",
        b"within",
        b"over",
        b"filter",
        b"ilike",
        b"regexp",
        b"rlike",
        b"array",
        b"row",
    ];
    is_clause_word(word) || WORDS.contains(&word)
}

/// Functions whose first argument is a name, and types whose constants are.
#[inline]
pub fn is_naming(word: &[u8]) -> bool {
    matches!(
        word,
        b"currval"
            | b"current_setting"
            | b"lastval"
            | b"nextval"
            | b"pg_get_serial_sequence"
            | b"pg_notify"
            | b"regclass"
            | b"regcollation"
            | b"regconfig"
            | b"regdictionary"
            | b"regnamespace"
            | b"regoper"
            | b"regoperator"
            | b"regproc"
            | b"regprocedure"
            | b"regrole"
            | b"regtype"
            | b"set_config"
            | b"setval"
            | b"to_regclass"
    )
}
