//! Events, as clients see them.

use super::word;
use crate::agent::events::{About, Event, EventKind};
use crate::agent::owed::Owed;
use serde::Serialize;
use utoipa::ToSchema;

/// What happened; programs may rely on these words.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// An operation begins.
    SyncStarted,
    /// The branch has it; the remote does not yet.
    SyncCommitted,
    /// It is over, and done: the remote has it, or nothing had to be sent.
    SyncCompleted,
    /// Nothing came of it, or what is committed does not get to the remote.
    SyncFailed,
    /// A drop stays in `raw/`.
    FileRejected,
    /// Two sides changed one resource.
    ConflictDetected,
    /// That is over.
    ConflictResolved,
    /// Records follow what git has by now, whoever committed it.
    RecordsFollowed,
    /// The repository stands still until somebody acts.
    RepositoryHeld,
    /// It goes on.
    RepositoryReleased,
}

impl From<EventKind> for EventType {
    fn from(it: EventKind) -> EventType {
        match it {
            EventKind::SyncStarted => EventType::SyncStarted,
            EventKind::SyncCommitted => EventType::SyncCommitted,
            EventKind::SyncCompleted => EventType::SyncCompleted,
            EventKind::SyncFailed => EventType::SyncFailed,
            EventKind::FileRejected => EventType::FileRejected,
            EventKind::ConflictDetected => EventType::ConflictDetected,
            EventKind::ConflictResolved => EventType::ConflictResolved,
            EventKind::RecordsFollowed => EventType::RecordsFollowed,
            EventKind::RepositoryHeld => EventType::RepositoryHeld,
            EventKind::RepositoryReleased => EventType::RepositoryReleased,
        }
    }
}

/// One event: the JSON in the `data` of a message of the stream.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventView {
    /// Names it: `Last-Event-ID` of a client that comes back.
    pub id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// When.
    #[schema(format = DateTime)]
    pub time: String,
    /// In which repository.
    pub repository: String,
    /// In which fabric; none is all of the repository.
    pub fabric: Option<String>,
    /// The operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// What the operation is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_type: Option<String>,
    /// What set it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// Who is behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_id: Option<String>,
    /// The drop (relative to `raw/`) or the managed file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How many drops or records, or further ones of the same type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// One message of the stream, with its fields as strings.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it describes what is written line by line")]
pub struct EventMessage {
    /// Names what happened: `Last-Event-ID` of a client that comes back.
    id: String,
    /// The type of an Event; or `ready`, or `missed`.
    event: String,
    /// JSON: an Event; with `ready` its `id` alone, and with `missed` a `count` and a `reason`.
    #[schema(content_media_type = "application/json")]
    data: String,
    /// With the first message: wait so long before you come back, in milliseconds.
    retry: Option<u32>,
}

impl EventView {
    /// An event of the start that `epoch` names.
    pub fn of(epoch: &str, it: &Event) -> EventView {
        let view = EventView::about(id_of(epoch, it.number), &it.repository, &it.about, it.kind);
        let fabric = it.fabric.as_ref().map(ToString::to_string);
        EventView { time: it.at.to_string(), fabric, ..view }
    }

    /// An event that an earlier start did not come to tell.
    pub fn owed(id: String, repository: &str, it: Owed) -> EventView {
        let view = EventView::about(id, repository, &it.about, it.kind);
        EventView { time: it.at.to_string(), fabric: Some(it.fabric.to_string()), ..view }
    }

    fn about(id: String, repository: &str, about: &About, kind: EventKind) -> EventView {
        EventView {
            id,
            kind: kind.into(),
            time: String::new(),
            repository: repository.to_owned(),
            fabric: None,
            operation_id: about.operation_id.map(|it| it.to_string()),
            operation_type: about.purpose.map(|it| word(&it)),
            trigger: about.trigger.map(|it| word(&it)),
            actor: about.actor.clone(),
            commit_id: about.commit_id.map(|it| it.to_string()),
            path: about.path.clone(),
            resource_id: about.resource_id.map(|it| it.to_string()),
            message: about.message.clone(),
            count: about.count,
        }
    }
}

/// The id of an event.
pub fn id_of(epoch: &str, number: u64) -> String {
    format!("{epoch}-{number}")
}
