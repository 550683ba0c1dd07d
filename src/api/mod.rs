//! The door for programs: HTTP with JSON over sockets, for the whole agent.
//!
//! What it reads it takes from the stores and from the lanes' boards, so that a lane that pushes
//! makes nobody wait; what it changes goes down the lane's own line. Nothing here may block a lane,
//! and a slow client costs only itself. Types on the wire are apart from the model: the model may
//! change, the wire may only grow.

pub mod ask;
pub mod audit;
mod auth;
mod body;
mod dress;
mod hooks;
pub mod house;
mod jobs;
pub mod listen;
mod metrics;
mod notices;
mod openapi;
mod pages;
mod reader;
mod refusal;
mod routes;
mod serve;
pub mod tokens;
mod wire;
mod writes;

pub use ask::{ask_running, done_without_agent};
pub use openapi::document;
pub use serve::Server;
