//! The nouns: plain values that every room above may name.
//!
//! No file, no clock and no network is touched here; what has been checked is a type of its own.

pub mod conflict;
pub mod digest;
pub mod document;
pub mod fabric;
pub mod field;
pub mod ids;
pub mod key;
pub mod operation;
pub mod path;
pub mod plan;
pub mod problem;
pub mod record;
pub mod account;
pub mod report;
pub mod rules;
pub mod selection;
