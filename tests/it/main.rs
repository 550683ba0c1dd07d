//! The world: the agent over real repositories and real remotes. Modules stand in reading order.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod corpus;
