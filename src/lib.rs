//! git-intake: a Git-native filesystem watcher.
//!
//! Files dropped in `raw/` become checked, filed, committed and pushed resources in `managed/`.
//! The rooms stand from the roof down; a room names only rooms below it (`tests/walls.rs`).
//! Begin with `agent/turn.rs`: one file, from `raw/` to the remote, in order.

pub mod cli;
pub mod api;
pub mod agent;
pub mod worktree;
pub mod git;
pub mod store;
pub mod telemetry;
pub mod config;
pub mod pipeline;
pub mod catalog;
pub mod yaml;
pub mod model;
pub mod push;
pub mod cores;
pub mod heap;
pub mod fence;
pub mod whole;
pub mod clock;
pub mod step;
