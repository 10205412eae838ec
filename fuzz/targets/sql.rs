//! Lexing and what it concludes: tokens move forward, and reading in pieces never finds less than reading at once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::sql::effect::Traces;
use turnpike::sql::listen::Listen;
use turnpike::sql::{effect, long, prepare, setting};
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
    let _ = (setting::changes(text), prepare::mentions(text));
    if let Some(listen) = Listen::parse(text) {
        assert_eq!(Listen::stood_for(&listen.stand_in()), Some(listen));
    }
    let whole = effect::scan(text);
    let mut stream = long::Stream::default();
    text.chunks(usize::from(piece).max(1)).for_each(|p| stream.feed(p));
    let pieces = stream.finish();
    // What is set is asked for as a whole where it was read in pieces; the rest are hints for what is held whole.
    let whole = whole
        .without(Traces::SETTING.and(Traces::SEED).and(Traces::RESETS).and(Traces::FRESH).and(Traces::PATH));
    let comments = text.windows(2).any(|w| w == b"--" || w == b"/*");
    if plain && !comments {
        assert!(pieces.contains(whole), "{:?} {:?}", pieces.labels(), whole.labels());
    }
});
