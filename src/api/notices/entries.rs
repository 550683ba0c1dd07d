//! What stands in the book: who is told, and what each of them has still to hear.

use crate::agent::events::EventKind;
use crate::model::fabric::FabricName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// Random bytes of a secret.
pub(super) const SECRET_BYTES: usize = 32;

/// What a subscriber's notices are signed with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub(super) fn random() -> io::Result<Secret> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Secret(format!("whsec_{}", STANDARD.encode(bytes))))
    }

    /// The words that are shown once.
    pub fn shown_once(&self) -> &str {
        &self.0
    }

    /// The bytes that sign.
    pub fn key(&self) -> Vec<u8> {
        let text = self.0.strip_prefix("whsec_").unwrap_or(&self.0);
        STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// Names it.
    pub id: String,
    /// Of which fabric's events.
    pub fabric: FabricName,
    /// Where.
    pub url: String,
    /// Signs what is sent.
    pub secret: Secret,
    /// Of these only; none are all.
    pub events: Vec<EventKind>,
    /// Is told at present.
    pub active: bool,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Where a notice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is sent, or tried again.
    Waiting,
    /// It was tried too often.
    Aside,
}

/// One event for one subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Names it to the receiver, however often it is sent.
    pub id: String,
    /// Whose.
    pub subscriber: String,
    /// Of what.
    pub kind: EventKind,
    /// What is sent.
    pub body: String,
    /// When the event happened.
    pub created_at: jiff::Timestamp,
    /// How often it was sent.
    pub attempts: u32,
    /// When it is sent next.
    pub next_at: jiff::Timestamp,
    /// Why it did not arrive the last time.
    pub error: Option<String>,
    /// Where it stands.
    pub standing: Standing,
}

/// An event that is to be noted.
#[derive(Debug, Clone)]
pub struct Told {
    /// Of what.
    pub kind: EventKind,
    /// In which fabric.
    pub fabric: FabricName,
    /// What is to be sent.
    pub body: String,
    /// When it happened, if an earlier start did not come to note it: who asked later does not hear it.
    pub at: Option<jiff::Timestamp>,
}

/// What changes of a subscriber.
#[derive(Debug, Default)]
pub struct Change {
    /// Where it is told.
    pub url: Option<String>,
    /// Of what.
    pub events: Option<Vec<EventKind>>,
    /// Whether.
    pub active: Option<bool>,
}
