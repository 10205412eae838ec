//! The reader of recordings: any bytes, with or without a right header and right chunks, give events or a refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::mirror::file::event::Events;
use turnpike::mirror::file::key::Key;
use turnpike::mirror::file::seal::Sealer;

fuzz_target!(|input: (u8, &[u8])| {
    let (how, bytes) = input;
    let key = Key::new([1; 32]);
    let read = |file: &[u8]| {
        let Ok(mut events) = Events::new(file, &key) else { return false };
        loop {
            match events.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    };
    // As it comes.
    assert!(!read(bytes) || bytes.is_empty());
    // Behind a right header; and sealed by somebody who has the key.
    let mut sealer = Sealer::new(Vec::new(), &key).expect("memory takes everything");
    let header = Sealer::new(Vec::new(), &key).and_then(Sealer::finish).expect("memory takes everything");
    assert!(!read(&[&header[..56], bytes].concat()));
    for part in bytes.chunks(usize::from(how).max(1)) {
        sealer.add(part).expect("memory takes everything");
        if how % 2 == 1 {
            sealer.flush().expect("memory takes everything");
        }
    }
    read(&sealer.finish().expect("memory takes everything"));
});
