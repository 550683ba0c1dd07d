//! An edit of a record: a draft that is judged like a drop, meets what git has by now, and becomes a
//! commit with its author's name.
//!
//! Nothing of a draft is kept outside of this call: it goes through, it is refused with every reason,
//! or what it met waits as a conflict with all three contents.

use super::edits::{self, Edits};
use super::lane::Lane;
use super::{Error, conflicts, find, follow, meet};
use crate::model::conflict::{ConflictStrategy, FieldClash, Side};
use crate::model::fabric::FabricName;
use crate::model::field::FieldPath;
use crate::model::ids::BlobId;
use crate::model::key::{Key, ResourceId};
use crate::model::operation::{Purpose, Trigger};
use crate::model::path::RepoPath;
use crate::model::report::{Delivery, EditReport};
use crate::model::rules::Direction;
use crate::pipeline::merge::{Merged, Rule, Sides};
use crate::store::Settlement;
use crate::yaml::value::resolve;
use crate::yaml::{edit, field};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A draft.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Edit {
    /// Which record: its id, its path, or `Kind/name`; none makes a new one.
    pub name: Option<String>,
    /// Where a new one goes; needed only where there are several fabrics.
    #[serde(default)]
    pub fabric: Option<FabricName>,
    /// What changes.
    #[serde(flatten)]
    pub change: EditChange,
    /// Who is behind it.
    pub actor: String,
    /// What its file holds, or nothing is done; none asks for nothing.
    #[serde(default)]
    pub expected: Option<BlobId>,
    /// Where git has changed it since; none is what the settings say.
    #[serde(default)]
    pub strategy: Option<ConflictStrategy>,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an edit changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum EditChange {
    /// All of the text.
    Text {
        /// What the file is to hold.
        text: String,
        /// What it held when the edit began; none overwrites whatever it holds.
        #[serde(default)]
        base: Option<BlobId>,
    },
    /// Some fields; the rest of the text stays as it is.
    Fields {
        /// Fields and their values, as YAML.
        set: Vec<(FieldPath, String)>,
        /// Fields that go.
        remove: Vec<FieldPath>,
    },
    /// The resource goes.
    Delete,
}

/// A draft that has been judged.
struct Draft {
    n: usize,
    key: Key,
    path: RepoPath,
    before: Option<String>,
    after: Option<String>,
}

/// Carries an edit out as a commit; the caller sends it.
///
/// # Errors
/// [`Error::Refused`] with the reasons, and nothing is changed then.
pub fn edit(lane: &mut Lane, it: &Edit, trigger: Trigger) -> Result<EditReport, Error> {
    let head = lane.head_to_commit_on()?.commit;
    for n in 0..lane.fabrics.len() {
        follow::records_follow_head(lane, n, head)?;
    }
    if let Some(report) = dismissed(lane, it)? {
        return Ok(report);
    }
    let (draft, met) = draft(lane, it)?;
    may_change(lane, &draft)?;
    let mut report = EditReport {
        id: ResourceId::of(&lane.fabrics[draft.n].fabric.name, &draft.key),
        fabric: lane.fabrics[draft.n].fabric.name.clone(),
        path: draft.path.clone(),
        operation: None,
        commit_id: None,
        before: draft.before.clone(),
        after: draft.after.clone(),
        open: Vec::new(),
        delivery: Delivery::Nothing,
        dry_run: it.dry_run,
    };
    if let Some(met) = met {
        report.open = met.open;
        if !it.dry_run {
            let bytes = |text: &Option<String>| text.as_ref().map(|it| it.as_bytes().to_vec());
            let [base, record, git] = [&met.base, &draft.after, &draft.before].map(bytes);
            let contents = conflicts::Contents::of(base, record, git);
            conflicts::keep(lane, draft.n, &draft.path, contents)?;
        }
        report.after = draft.before;
        return Ok(report);
    }
    if it.dry_run || draft.before == draft.after {
        return Ok(report);
    }
    let verb = match (&draft.before, &draft.after) {
        (None, _) => "create",
        (Some(_), Some(_)) => "update",
        (Some(_), None) => "delete",
    };
    let edits = Edits {
        files: vec![(draft.path, draft.after.map(|it| Arc::from(it.into_bytes())))],
        purpose: Purpose::RecordToGit,
        trigger,
        actor: it.actor.clone(),
        subject: format!("{verb} {}", draft.key),
        trailers: Vec::new(),
        in_place: false,
    };
    let operation = edits::carry_out(lane, draft.n, edits)?;
    report.operation = operation.as_ref().map(|it| it.id);
    report.commit_id = operation.and_then(|it| it.state.commit_id());
    Ok(report)
}

/// Deleting an orphan: only the memory of it goes, since git has no file of it.
fn dismissed(lane: &Lane, it: &Edit) -> Result<Option<EditReport>, Error> {
    let (Some(name), EditChange::Delete) = (&it.name, &it.change) else { return Ok(None) };
    if find::record(lane, name).is_ok() {
        return Ok(None);
    }
    let Some(orphan) = super::view::orphan(lane, name)? else { return Ok(None) };
    let record = orphan.record;
    if !it.dry_run {
        let gone = vec![record.id];
        lane.store.settle(Settlement { gone, ..Settlement::default() })?;
    }
    Ok(Some(EditReport {
        id: record.id,
        fabric: record.fabric,
        path: record.path,
        operation: None,
        commit_id: None,
        before: None,
        after: None,
        open: Vec::new(),
        delivery: Delivery::Nothing,
        dry_run: it.dry_run,
    }))
}

/// What a draft met in git that it cannot be merged with.
struct Met {
    base: Option<String>,
    open: Vec<FieldClash>,
}

fn draft(lane: &Lane, it: &Edit) -> Result<(Draft, Option<Met>), Error> {
    let Some(name) = &it.name else { return Ok((new_one(lane, it)?, None)) };
    let record = find::record(lane, name)?;
    let n = lane.fabrics.iter().position(|it| it.fabric.name == record.fabric);
    let n = n.ok_or_else(|| Error::NotFound { what: format!("fabric {}", record.fabric) })?;
    if it.expected.is_some_and(|it| it != record.blob_id) {
        return Err(Error::Stale { what: record.path.to_string() });
    }
    let before = text_of(lane, record.blob_id, &record.path)?;
    let mut met = None;
    let after = match &it.change {
        EditChange::Delete => None,
        EditChange::Fields { set, remove } => Some(with_fields(lane, &before, set, remove)?),
        EditChange::Text { text, base } => {
            let base = base.filter(|it| *it != record.blob_id);
            let mut text = text.clone();
            if let Some(it) = base.filter(|it| !lane.repo.has_blob(*it)) {
                let what = format!(
                    "git has no content {it} that the edit of {} could have begun with; begin with \
                     what it holds now, {}",
                    record.path, record.blob_id
                );
                return Err(Error::Refused { what });
            }
            if let Some(base) = base.map(|it| text_of(lane, it, &record.path)).transpose()? {
                let sides = Sides { base: Some(&base), record: Some(&text), git: Some(&before) };
                let strategy = lane.fabrics[n].rules.conflict_of(&record.key);
                let strategy = it.strategy.unwrap_or(strategy);
                // Whoever edits now is later than what git has.
                let rule = Rule { strategy, newest: Some(Side::Record), ..Rule::default() };
                let document = edits::judge(lane, n, &text)?.0;
                match meet::merged(lane.settings.limits, sides, &document, &rule) {
                    Merged::Text(merged) => text = merged,
                    Merged::Gone => (),
                    Merged::Conflict(open) => met = Some(Met { base: Some(base), open }),
                }
            }
            Some(text)
        }
    };
    if let Some(text) = &after {
        let key = edits::judge(lane, n, text)?.0.key;
        if key != record.key {
            let what = format!(
                "the edit turns {} into {key}; a resource keeps its name: make the new one, and \
                 delete the old",
                record.key
            );
            return Err(Error::Refused { what });
        }
    }
    let draft = Draft { n, key: record.key, path: record.path, before: Some(before), after };
    Ok((draft, met))
}

fn new_one(lane: &Lane, it: &Edit) -> Result<Draft, Error> {
    let refused = |what: String| Error::Refused { what };
    let EditChange::Text { text, .. } = &it.change else {
        return Err(refused("name the record that is to be changed".to_owned()));
    };
    let n = match (&it.fabric, lane.fabrics.len()) {
        (Some(name), _) => lane.fabrics.iter().position(|it| it.fabric.name == *name),
        (None, 1) => Some(0),
        (None, _) => return Err(refused("there are several fabrics; name one".to_owned())),
    };
    let n = n.ok_or_else(|| Error::NotFound { what: "such fabric here".to_owned() })?;
    let (document, path) = edits::judge(lane, n, text)?;
    let id = ResourceId::of(&lane.fabrics[n].fabric.name, &document.key);
    if let Some(old) = lane.store.record(&id)? {
        let what = format!("{} exists already, in {}; edit it", old.key, old.path);
        return Err(Error::Exists { what });
    }
    Ok(Draft { n, key: document.key, path, before: None, after: Some(document.text) })
}

fn with_fields(
    lane: &Lane,
    before: &str,
    set: &[(FieldPath, String)],
    remove: &[FieldPath],
) -> Result<String, Error> {
    let refused = |what: String| Error::Refused { what };
    let limits = lane.settings.limits;
    let read = |text: &str| edit::only(text, limits).map(|it| resolve(&it));
    let mut value = read(before).ok_or_else(|| refused("the file is no YAML".to_owned()))?;
    for (path, text) in set {
        let to = read(text).ok_or_else(|| refused(format!("the value for {path} is no YAML")))?;
        field::set(&mut value, path, Some(to)).map_err(refused)?;
    }
    for path in remove {
        field::set(&mut value, path, None).map_err(refused)?;
    }
    edit::rewrite(before, &value, None, limits).ok_or_else(|| {
        refused(
            "the fields cannot be changed without touching others (an anchor or an alias is in the \
             way); edit the text instead"
                .to_owned(),
        )
    })
}

fn may_change(lane: &Lane, draft: &Draft) -> Result<(), Error> {
    let direction = lane.fabrics[draft.n].rules.direction_of(&draft.key);
    match direction {
        Direction::Bidirectional | Direction::RecordToGit => Ok(()),
        Direction::GitToRecord | Direction::Disabled => Err(Error::Refused {
            what: format!(
                "{} is changed in git only (its direction is {direction}); edit {} there, or change \
                 the rule in the settings",
                draft.key, draft.path
            ),
        }),
    }
}

/// The text of a blob; it must be there, and be text.
pub(super) fn text_of(lane: &Lane, blob: BlobId, path: &RepoPath) -> Result<String, Error> {
    let bytes = lane.repo.blob(blob)?;
    String::from_utf8(bytes).map_err(|_| Error::Refused { what: format!("{path} is no text") })
}
