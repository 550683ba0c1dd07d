//! The five stages, pure: discovery, validation, classification, processing, archive.
//!
//! Each takes a type that only the stage before it makes, so none can be skipped.
//! What they need of the world is handed in as plain values; what they decide comes out as a plan.

pub mod discovery;
pub mod validation;
mod envelope;
mod place;
mod parting;
pub mod classification;
pub mod references;
pub mod processing;
pub mod merge;
pub mod archive;
pub mod tracked;
pub mod explain;

/// Ends the name of a report beside a rejected drop. No manifest reader takes `.txt`.
pub const REPORT_SUFFIX: &str = ".rejected.txt";
