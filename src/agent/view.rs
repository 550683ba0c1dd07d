//! One record with all that is known around it: where it stands between draft, git and cluster.

use super::lane::Lane;
use super::{Error, fabrics, find};
use crate::model::account::{Drift, RecordState, ResourceView};
use crate::model::key::ResourceId;
use crate::model::record::{Actual, Orphan, Record};
use crate::pipeline::validation;
use crate::store::Settlement;

/// A record, or an orphan, with all that is known around it.
pub(super) fn view(lane: &Lane, name: &str) -> Result<ResourceView, Error> {
    let (record, orphan) = match find::record(lane, name) {
        Ok(it) => (it, None),
        Err(error) => match orphan(lane, name)? {
            Some(it) => (it.record, Some(it.removed)),
            None => return Err(error),
        },
    };
    let n = fabrics::place(lane, &record.fabric)?;
    let rules = &lane.fabrics[n].rules;
    let head = lane.repo.head()?;
    let held = lane.repo.blob_at(head.commit, record.path.as_str().as_bytes())?;
    let found = lane.tree.read(&record.path, lane.settings.bytes_max)?;
    let found = found.map(|it| lane.repo.blob_id_of(&it)).transpose()?;
    let sent = match (&lane.settings.remote, &head.branch) {
        (Some(remote), Some(branch)) => {
            let theirs = lane.repo.tracking(&remote.name, branch)?;
            let theirs = theirs.filter(|it| lane.repo.has_commit(*it));
            lane.repo.blob_at(theirs, record.path.as_str().as_bytes())? == held
        }
        _ => false,
    };
    let drift = match &record.actual {
        None => None,
        Some(_) if orphan.is_some() => Some(Drift::ActualOnly),
        Some(it) if it.content.is_none() => Some(Drift::DesiredOnly),
        Some(it) if it.content == Some(record.content) => Some(Drift::InSync),
        Some(_) => Some(Drift::SpecDrift),
    };
    let drifted = held != Some(record.blob_id)
        || found != held
        || drift.is_some_and(|it| it != Drift::InSync);
    let state = match (&orphan, drifted, sent) {
        (Some(_), _, _) => RecordState::Orphaned,
        (None, true, _) => RecordState::Drifted,
        (None, false, true) => RecordState::Synced,
        (None, false, false) => RecordState::Committed,
    };
    let conflicts = lane.store.conflicts()?;
    Ok(ResourceView {
        state,
        drift,
        differs_from_head: orphan.is_none() && held != Some(record.blob_id),
        edited_by_hand: orphan.is_none() && found != held,
        on_remote: orphan.is_none() && sent,
        direction: rules.direction_of(&record.key),
        strategy: rules.strategy_of(&record.key),
        conflict: conflicts.into_iter().find(|it| it.id == record.id),
        removed: orphan,
        record,
    })
}

/// An orphan, by its id, its path, or `Kind/name`.
pub(super) fn orphan(lane: &Lane, name: &str) -> Result<Option<Orphan>, Error> {
    if let Ok(id) = name.parse() {
        return Ok(lane.store.orphan(&ResourceId(id))?);
    }
    for it in lane.store.orphans() {
        let it = it?;
        let key = &it.record.key;
        let named = name
            .split_once('/')
            .is_some_and(|(kind, name)| key.kind.eq_ignore_ascii_case(kind) && key.name == name);
        if named || it.record.path.as_str() == name {
            return Ok(Some(it));
        }
    }
    Ok(None)
}

/// Forgets which changes did not come through the agent; git still has them.
pub(super) fn clear_modifications(lane: &mut Lane, name: &str) -> Result<(), Error> {
    let record = find::record(lane, name)?;
    keep(lane, Record { modifications: Vec::new(), ..record })
}

/// Keeps what a cluster has of a resource, as somebody tells.
///
/// # Errors
/// [`Error::Refused`] where the text is no manifest of that resource.
pub(super) fn tell_actual(lane: &mut Lane, name: &str, text: Option<&str>) -> Result<(), Error> {
    let record = find::record(lane, name)?;
    let at = crate::clock::now();
    let content = match text {
        None => None,
        Some(text) => {
            let refused = |what: String| Error::Refused { what };
            let path = crate::model::path::RawPath::new("actual.yaml");
            let intake = crate::model::document::Intake::new(path, text.as_bytes().to_vec());
            // As a drop is read: what a cluster fills in is cut.
            let read = validation::validate(intake, &lane.rules());
            let read = read.map_err(|it| {
                let why = it.problems.first().map(ToString::to_string).unwrap_or_default();
                refused(format!("this is no manifest: {why}"))
            })?;
            let document = read.documents.into_iter().find(|it| it.key == record.key);
            let what = format!("the manifest is not of {}", record.key);
            Some(document.ok_or_else(|| refused(what))?.content)
        }
    };
    keep(lane, Record { actual: Some(Actual { content, at }), ..record })
}

fn keep(lane: &Lane, record: Record) -> Result<(), Error> {
    Ok(lane.store.settle(Settlement { records: vec![record], ..Settlement::default() })?)
}
