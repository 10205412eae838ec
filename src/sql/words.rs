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
pub const NAMING: &[&str] = &[
    "currval",
    "current_setting",
    "lastval",
    "nextval",
    "pg_get_serial_sequence",
    "pg_notify",
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
    "set_config",
    "setval",
    "to_regclass",
];

/// Whether it is one of those.
pub fn is_naming(word: &[u8]) -> bool {
    NAMING.iter().any(|name| name.as_bytes() == word)
}

/// Words that say how the literals around them are to be read, beside those of [`NAMING`].
const SPECIAL: &[&str] = &[
    "in", "order", "group", "by", "null", "true", "false", "values", "limit", "offset", "fetch", "for",
    "having", "union", "window", "where", "begin", "atomic", "case", "end",
];

/// By the first byte of a word: which lengths such words have, as a set.
static SPECIAL_LENGTHS: [u32; 256] = {
    let mut lengths = [0; 256];
    let mut lists = [SPECIAL, NAMING].as_slice();
    while let [list, rest @ ..] = lists {
        let mut list = *list;
        while let [word, others @ ..] = list {
            let (first, len) = (word.as_bytes()[0], word.len());
            assert!(len < 32, "no room for its length");
            lengths[first as usize] |= 1 << len;
            lengths[first.to_ascii_uppercase() as usize] |= 1 << len;
            list = others;
        }
        lists = rest;
    }
    lengths
};

/// Whether a word, folded or not, may be one of those: most are not, and one look tells.
#[inline]
pub fn may_be_special(word: &[u8]) -> bool {
    word.len() < 32 && SPECIAL_LENGTHS[usize::from(word[0])] >> word.len() & 1 == 1
}
