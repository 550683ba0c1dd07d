//! Whom the agent tells of events, and what each of them has still to hear.
//!
//! Both outlive the agent: subscribers in a file that is written whole, what they have to hear in one
//! that is added to and now and then written anew. A notice is forgotten when its receiver took it;
//! what was tried too often lies aside until somebody asks for it again. Every list has a limit, so a
//! receiver that is away for ever costs its own notices and nothing else.

mod entries;
mod book;
mod courier;
mod reach;

pub(super) use book::{Book, Full};
pub(super) use courier::Courier;
pub(super) use entries::{Change, Notice, Standing, Subscriber};
pub(super) use reach::judge;
