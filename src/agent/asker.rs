//! Who asks, and what a running agent knows beside its lane.

use crate::model::operation::Trigger;

/// What a running agent knows beside its lane.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// An agent is running.
    pub running: bool,
    /// Why the lane stands still.
    pub held: Option<String>,
    /// Why the last push did not arrive.
    pub waiting: Option<String>,
    /// Why `raw/` is looked at now and then.
    pub polled: Option<String>,
    /// Turns since the start, those without work included.
    pub turns: u64,
    /// Who asks; none is a person at the command line.
    pub asker: Option<Asker>,
}

/// Who asks, and by which door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The name that goes into commits.
    pub actor: String,
    /// The door.
    pub trigger: Trigger,
}

impl Live {
    pub(super) fn trigger(&self) -> Trigger {
        self.asker.as_ref().map_or(Trigger::Cli, |it| it.trigger)
    }
}
