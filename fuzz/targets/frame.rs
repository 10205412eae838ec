//! Framing: any bytes, split anywhere, give the same frames or the same refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::wire::frame;

/// The frames in `bytes`, taken as they come in pieces of `piece` bytes.
fn frames(bytes: &[u8], piece: usize, server: bool) -> (Vec<(u8, usize)>, bool) {
    let (mut got, mut held, mut at) = (Vec::new(), 0, 0);
    loop {
        let window = &bytes[at..held];
        let header = if server { frame::server(window) } else { frame::client(window, 1 << 20) };
        match header {
            Err(_) => return (got, true),
            Ok(Some(h)) if window.len() >= h.len => {
                got.push((h.kind, h.len));
                at += h.len;
            }
            Ok(_) if held == bytes.len() => return (got, false),
            Ok(_) => held = (held + piece).min(bytes.len()),
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    for server in [false, true] {
        let whole = frames(bytes, bytes.len().max(1), server);
        assert_eq!(frames(bytes, usize::from(piece).max(1), server), whole);
    }
});
