//! Understanding statements, as far as pooling needs to: tokens, and what a statement leaves behind in its session.

pub mod effect;
pub mod lex;
pub mod listen;
pub mod long;
pub mod prepare;
pub mod setting;
pub mod shape;
pub mod traces;
