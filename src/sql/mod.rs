//! Understanding statements, as far as pooling needs to: tokens, and what a statement leaves behind in its session.

mod call;
pub mod class;
pub mod constants;
pub mod custom;
pub mod effect;
pub mod facts;
pub mod fingerprint;
pub mod lex;
pub mod listen;
pub mod long;
pub mod normal;
mod operand;
pub mod parse;
mod phrases;
pub mod plain;
pub mod prepare;
pub mod setting;
pub mod shape;
pub mod traces;
pub mod transaction;
pub mod twin;
pub mod walk;
pub mod words;
