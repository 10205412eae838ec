//! Lexing and what it concludes: tokens move forward, and reading in pieces never finds less than reading at once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::sql::{effect, long};
use turnpike::sql::lex::{Kind, Lexer};

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (conforming, piece, text) = input;
    let (mut last, mut start, mut plain) = (0, true, true);
    for token in Lexer::new(text, conforming) {
        assert!(token.start >= last && token.end > token.start && token.end <= text.len());
        last = token.end;
        // No statement begins with anything but a word or a parenthesis, and quoted names are not read in pieces.
        plain &= token.kind != Kind::Quoted && !(start && matches!(token.kind, Kind::String | Kind::Number));
        let word = &text[token.start..token.end];
        plain &= word.is_ascii() && !word.contains(&b'$') && word.len() < 20;
        start = word == b";" || start && token.kind != Kind::Word;
    }
    let whole = effect::scan(text, conforming);
    let mut stream = long::Stream::default();
    text.chunks(usize::from(piece).max(1)).for_each(|p| stream.feed(p));
    let pieces = stream.finish();
    let comments = text.windows(2).any(|w| w == b"--" || w == b"/*");
    if plain && !comments {
        assert!(pieces.contains(whole), "{:?} {:?}", pieces.labels(), whole.labels());
    }
});
