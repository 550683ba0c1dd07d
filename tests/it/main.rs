//! The world: the agent over real repositories and real remotes. Modules stand in reading order.

mod remote;

mod hostile;
mod push;
mod same_as_git;
mod shim;
