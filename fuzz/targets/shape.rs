//! From a text to what it means: shapes keep the bytes of their values, facts never panic, and a text that is only
//! spaced otherwise has the same shape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::sql::class;
use turnpike::sql::shape::{PARAM, Shape};

fuzz_target!(|input: (bool, &[u8])| {
    let (conforming, text) = input;
    // Statements end before a zero byte.
    let text = text.split(|b| *b == 0).next().unwrap_or_default();
    let mut shape = Shape::default();
    shape.read(text, conforming);
    let marks = shape.normal.iter().filter(|b| **b == 0).count() as u32;
    let mut at = 0;
    for slot in &shape.slots {
        assert!(at <= slot.start && slot.start < slot.end && slot.end as usize <= text.len());
        assert!(slot.mark == PARAM || slot.mark < marks, "{slot:?}");
        at = slot.end;
    }
    for statement in &shape.statements {
        assert!(statement.text.start < statement.text.end && statement.text.end as usize <= text.len());
        assert!(statement.normal.start < statement.normal.end);
        assert!(statement.normal.end as usize <= shape.normal.len());
    }
    let facts = class::facts(text, &shape);
    assert_eq!(facts.len(), shape.statements.len());
    let mut again = Shape::default();
    // Not after it: an open quote at the end would go on.
    let spaced = [b" /* spaced */\n", text].concat();
    again.read(&spaced, conforming);
    assert_eq!(again.normal, shape.normal);
});
