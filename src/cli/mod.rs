//! The door for people: what can be typed, and how answers look.

pub mod args;
pub mod render;
pub mod listing;
mod table;
