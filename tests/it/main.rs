//! The world: the agent over real repositories and real remotes. Modules stand in reading order.

mod corpus;
mod hostile;
mod push;
mod remote;
mod same_as_git;
mod systemd;
