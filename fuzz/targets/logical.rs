//! What a server says while it streams its WAL: no bytes panic, and no list is longer than what came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::wire::logical::{Message, Piece};

fuzz_target!(|bytes: &[u8]| {
    let message = match Piece::read(bytes) {
        Some(Piece::Data(body)) => Message::read(body),
        _ => Message::read(bytes),
    };
    match message {
        Some(Message::Truncated { tables }) => assert!(tables.len() * 4 < bytes.len()),
        Some(Message::Told { prefix, content, .. }) => assert!(prefix.len() + content.len() < bytes.len()),
        _ => {}
    }
});
