//! Names for things that are told apart by a number: git objects, operations, drops.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub gix::ObjectId);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl $name {
            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.0.to_hex_with_len(8).to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<$name, String> {
                gix::ObjectId::from_hex(text.as_bytes())
                    .map($name)
                    .map_err(|_| format!("`{text}` is no git object id"))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.to_string()
            }
        }
    };
}

object_id!(
    /// A commit.
    CommitId
);
object_id!(
    /// A blob: the content of one file, as git holds it.
    BlobId
);

/// An operation: a UUIDv7, so that ids sort by the time they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(pub uuid::Uuid);

impl OperationId {
    /// Makes an id for an operation that begins at `now`.
    pub fn new(now: jiff::Timestamp) -> OperationId {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        // One counter for the process: ids of one millisecond sort in the order they were made.
        static COUNTER: Mutex<uuid::ContextV7> = Mutex::new(uuid::ContextV7::new());
        OperationId(uuid::Uuid::new_v7(uuid::Timestamp::from_unix(&COUNTER, seconds, nanos)))
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OperationId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<OperationId, uuid::Error> {
        text.parse().map(OperationId)
    }
}
