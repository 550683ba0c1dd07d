//! Webhooks and their deliveries, as clients see them.

use super::event::EventType;
use crate::agent::events::EventKind;
use crate::api::notices::{Notice, Standing, Subscriber};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who is told of a fabric's events; the secret is not shown again.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub struct WebhookView {
    /// Names it.
    pub id: String,
    /// Of which fabric's events.
    pub fabric: String,
    /// Where.
    pub url: String,
    /// Of these only; none are all.
    pub events: Vec<EventType>,
    /// Is told at present.
    pub active: bool,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// By whom.
    pub created_by: String,
    /// How many deliveries wait.
    pub waiting: usize,
    /// How many lie aside.
    pub dead: usize,
}

/// A webhook that was made.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = WebhookMade)]
pub struct WebhookMade {
    /// It.
    #[serde(flatten)]
    pub webhook: WebhookView,
    /// Signs what is sent, as standardwebhooks.com says; it is shown this once.
    pub secret: String,
}

impl WebhookView {
    /// A subscriber with its notices.
    pub fn of(it: &Subscriber, notices: &[Notice]) -> WebhookView {
        let count = |standing| notices.iter().filter(|it| it.standing == standing).count();
        WebhookView {
            id: it.id.clone(),
            fabric: it.fabric.to_string(),
            url: it.url.clone(),
            events: it.events.iter().map(|it| EventType::from(*it)).collect(),
            active: it.active,
            created_at: it.created_at.to_string(),
            created_by: it.created_by.clone(),
            waiting: count(Standing::Waiting),
            dead: count(Standing::Aside),
        }
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookDeliveryState)]
pub enum NoticeState {
    /// It is sent, or tried again.
    Waiting,
    /// It was tried too often, and is sent again on request.
    Dead,
}

impl NoticeState {
    /// The same in the book.
    pub fn standing(self) -> Standing {
        match self {
            NoticeState::Waiting => Standing::Waiting,
            NoticeState::Dead => Standing::Aside,
        }
    }
}

/// One event on its way to a webhook.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub struct NoticeView {
    /// Names it; the receiver sees it as `webhook-id`.
    pub id: String,
    /// Of what.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Where it stands.
    pub state: NoticeState,
    /// When the event was noted.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// How often it was sent.
    pub attempts: u32,
    /// When it is sent next.
    #[schema(format = DateTime)]
    pub next_at: Option<String>,
    /// Why it did not arrive the last time.
    pub error: Option<String>,
    /// What is sent.
    pub body: String,
}

impl NoticeView {
    /// A notice.
    pub fn of(it: &Notice) -> NoticeView {
        let waiting = it.standing == Standing::Waiting;
        NoticeView {
            id: it.id.clone(),
            kind: it.kind.into(),
            state: if waiting { NoticeState::Waiting } else { NoticeState::Dead },
            created_at: it.created_at.to_string(),
            attempts: it.attempts,
            next_at: waiting.then(|| it.next_at.to_string()),
            error: it.error.clone(),
            body: it.body.clone(),
        }
    }
}

/// The kinds of these types.
pub fn kinds(types: &[EventType]) -> Vec<EventKind> {
    EventKind::ALL.into_iter().filter(|it| types.contains(&EventType::from(*it))).collect()
}
