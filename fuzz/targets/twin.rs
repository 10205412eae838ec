//! What is taken for a text's twin without being read has the same shape, and its values in the same places.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::sql::shape::Shape;
use turnpike::sql::twin::Model;

fuzz_target!(|input: (bool, Vec<(u16, u8)>, &[u8])| {
    let (conforming, changes, text) = input;
    let mut other = text.to_vec();
    for (at, byte) in changes {
        let at = usize::from(at) % (other.len() + 1);
        match byte {
            // Values grow and shrink, and sometimes become something else.
            b'0'..=b'9' | b'\'' | b'a'..=b'f' => other.insert(at, byte),
            _ if at < other.len() => drop(other.remove(at)),
            _ => {}
        }
    }
    let read = |text: &[u8]| {
        let mut shape = Shape::default();
        shape.read(text, conforming);
        shape
    };
    let shape = read(text);
    let Some(model) = Model::new(text, &shape, conforming) else { return };
    assert!(model.is_twin(text, conforming));
    if model.is_twin(&other, conforming) {
        let twin = read(&other);
        assert_eq!(twin.normal, shape.normal);
        assert_eq!(twin.slots.len(), shape.slots.len());
        assert!(twin.slots.iter().zip(&shape.slots).all(|(a, b)| (a.mark, a.value) == (b.mark, b.value)));
    }
});
