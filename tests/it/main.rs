//! The world: the agent over real repositories and real remotes. Modules stand in reading order.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod world;
mod walk;
mod merge;
mod edits;
mod crash;
mod storm;
mod sysfault;
mod faults;
mod surroundings;
mod remotes;
mod corpus;
mod check;
mod agent;
mod raw;
mod raw_watch;
mod raw_programs;
mod raw_strangers;
mod remote;
mod push;
mod web;
mod hostile;
mod same_as_git;
mod shim;
mod systemd;
