//! What a write became, as clients see it.

use super::conflict::FieldView;
use super::resource::ResourceView;
use crate::api::audit::Became;
use crate::model::report::{Delivery, EditReport};
use serde::Serialize;
use utoipa::ToSchema;

/// How far a change has come on its way to the remote.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub struct DeliveryView {
    /// Where it is.
    pub state: DeliveryState,
    /// The commit, as it stands on the remote.
    pub commit_id: Option<String>,
    /// Why it is not there yet, and what to do.
    pub reason: Option<String>,
}

/// Where a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// There was nothing to send.
    Nothing,
    /// The remote has it.
    Pushed,
    /// The remote has it on a branch of its own, for a person to take over.
    Proposed,
    /// It is committed here and will be sent again.
    Waiting,
    /// It is committed here, and a person must act.
    Held,
    /// No remote is configured: the commit stays here.
    Local,
}

impl From<&Delivery> for DeliveryView {
    fn from(it: &Delivery) -> DeliveryView {
        let view = |state, commit_id, reason| DeliveryView { state, commit_id, reason };
        match it {
            Delivery::Nothing => view(DeliveryState::Nothing, None, None),
            Delivery::Pushed { commit_id } => {
                view(DeliveryState::Pushed, Some(commit_id.to_string()), None)
            }
            Delivery::Proposed { commit_id, branch } => {
                let reason = Some(format!("it is on branch {branch}, for a pull request"));
                view(DeliveryState::Proposed, Some(commit_id.to_string()), reason)
            }
            Delivery::Waiting { reason } => {
                view(DeliveryState::Waiting, None, Some(reason.clone()))
            }
            Delivery::Held { reason } => view(DeliveryState::Held, None, Some(reason.clone())),
            Delivery::Local => view(DeliveryState::Local, None, None),
        }
    }
}

/// What became of a change of a resource.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResourceChange {
    /// The resource.
    #[schema(format = "uuid")]
    pub id: String,
    /// Whose it is.
    pub fabric: String,
    /// Its file.
    pub path: String,
    /// The resource as it stands now; none where it is gone, or nothing was done.
    pub resource: Option<ResourceView>,
    /// The operation; none where nothing changed.
    pub operation_id: Option<String>,
    /// The commit; none where nothing changed.
    pub commit_id: Option<String>,
    /// What the file held; none where there was none.
    pub before: Option<String>,
    /// What it holds, or would hold; none where it is gone.
    pub after: Option<String>,
    /// Fields that git has changed to other values since.
    pub open: Vec<FieldView>,
    /// How far it went.
    pub delivery: DeliveryView,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

impl ResourceChange {
    pub(in crate::api) fn of(
        it: EditReport,
        resource: Option<ResourceView>,
    ) -> (ResourceChange, Became) {
        let became = Became {
            operation_id: it.operation.map(|it| it.to_string()),
            commit_id: it.commit_id.map(|it| it.to_string()),
        };
        let change = ResourceChange {
            id: it.id.to_string(),
            fabric: it.fabric.to_string(),
            path: it.path.to_string(),
            resource,
            operation_id: became.operation_id.clone(),
            commit_id: became.commit_id.clone(),
            before: it.before,
            after: it.after,
            open: it.open.iter().map(FieldView::from).collect(),
            delivery: DeliveryView::from(&it.delivery),
            dry_run: it.dry_run,
        };
        (change, became)
    }
}
