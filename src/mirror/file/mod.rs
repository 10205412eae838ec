//! Files of recorded traffic: [`seal`] encrypts a stream of bytes so that no change of it goes unnoticed, [`event`] is what
//! the bytes say, [`key`] the key that an operator keeps.

pub mod event;
pub mod key;
pub mod seal;
