//! One resource, two contents: kept for a person, shown with a preview, and resolved by a commit.
//!
//! All three contents lie under a ref of their own (`refs/intake/conflicts/<fabric>/<resource>`), so
//! a conflict outlives the store and git's own sweeping. Ours also lies in `raw/`, so that nobody
//! has to know a command: to have it, change the file; to let it go, remove it.

use super::edits::{self, Edits};
use super::lane::{Lane, MERGE_CONFLICT};
use super::{Error, meet, settle};
use crate::clock;
use crate::git::Repo;
use crate::model::conflict::{ConflictStrategy, FieldClash, Side};
use crate::model::field::FieldPath;
use crate::model::ids::CommitId;
use crate::model::key::ResourceId;
use crate::model::operation::{Operation, Purpose, Trigger};
use crate::model::path::{RawPath, RepoPath};
use crate::model::problem::Problem;
use crate::model::record::{Conflict, ConflictKind, Reject};
use crate::model::report::{ConflictView, Resolved};
use crate::pipeline::merge::{Merged, Rule, Sides};
use crate::store::Settlement;
use crate::yaml::Limits;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many conflicts one command resolves; who has more asks again.
const RESOLVED_MAX: usize = 10_000;

/// The contents of a conflict, as text; none where there is no file.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    base: Option<String>,
    record: Option<String>,
    git: Option<String>,
    /// The record's side to the byte, which need not be text.
    record_bytes: Option<Vec<u8>>,
    /// The last of our commits that made the record's side. What came before it there may be in no
    /// other history, as where a drop came over an edit that somebody had committed.
    pub led_to: Option<CommitId>,
}

impl Contents {
    /// What is no text is shown as far as it can be.
    pub fn of(base: Option<Vec<u8>>, record: Option<Vec<u8>>, git: Option<Vec<u8>>) -> Contents {
        let text = |it: &[u8]| String::from_utf8_lossy(it).into_owned();
        let [base, git] = [base, git].map(|it| it.as_deref().map(text));
        let shown = record.as_deref().map(text);
        Contents { base, record: shown, git, record_bytes: record, led_to: None }
    }

    fn sides(&self) -> Sides<'_> {
        let (base, record, git) =
            (self.base.as_deref(), self.record.as_deref(), self.git.as_deref());
        Sides { base, record, git }
    }
}

/// Keeps what two sides made of one managed file: under a ref, on record, and ours in `raw/`.
pub(super) fn keep(
    lane: &mut Lane,
    n: usize,
    path: &RepoPath,
    contents: Contents,
) -> Result<(), Error> {
    let fabric = lane.fabrics[n].fabric.clone();
    let raw_path = match &contents.record_bytes {
        Some(bytes) => {
            let blob = lane.repo.blob_id_of(bytes)?;
            let name = RawPath::new(path.file_name()).safe_name();
            Some(RawPath::new(format!("conflict-{}-{name}", blob.short())))
        }
        None => None,
    };
    let (message, kind) = match (&contents.base, &contents.record, &contents.git) {
        (_, Some(_), None) => ("others removed", ConflictKind::MissingResource),
        (_, None, _) => ("others changed what was removed here:", ConflictKind::MissingResource),
        (None, _, _) => ("others made another", ConflictKind::DuplicateIdentity),
        _ => ("others pushed another", ConflictKind::Merge),
    };
    let message = format!(
        "{message} {path} at the same time; theirs is in managed/, this side is kept (git-intake \
         conflicts show)"
    );
    let document = meet::same_resource(lane.settings.limits, contents.sides());
    if let Some(document) = document {
        let rules = &lane.fabrics[n].rules;
        let rule = Rule { strategy: rules.conflict_of(&document.key), ..Rule::default() };
        let fields = match meet::merged(lane.settings.limits, contents.sides(), &document, &rule) {
            Merged::Conflict(fields) => fields,
            Merged::Text(_) | Merged::Gone => {
                let path = FieldPath::default();
                vec![FieldClash { path, base: None, record: None, git: None }]
            }
        };
        let conflict = Conflict {
            id: ResourceId::of(&fabric.name, &document.key),
            fabric: fabric.name.clone(),
            path: path.clone(),
            kind,
            raw_path: raw_path.clone(),
            message: message.clone(),
            detected_at: clock::now(),
            fields,
            strategy: rule.strategy,
            kept: true,
        };
        keep_contents(lane, &conflict, &contents)?;
        lane.store.settle(Settlement { conflicts: vec![conflict], ..Settlement::default() })?;
    }
    match (contents.record_bytes, raw_path) {
        (Some(bytes), Some(raw_path)) => hand_back(lane, n, bytes, raw_path, &message),
        _ => Ok(()),
    }
}

fn keep_contents(lane: &Lane, conflict: &Conflict, contents: &Contents) -> Result<(), Error> {
    let about = serde_json::to_vec_pretty(conflict).map_err(|it| Error::State(it.into()))?;
    let mut files: Vec<(&str, &[u8])> = vec![("conflict.json", &about)];
    let sides = [("base", &contents.base), ("record", &contents.record), ("git", &contents.git)];
    files.extend(sides.iter().filter_map(|(name, it)| Some((*name, it.as_ref()?.as_bytes()))));
    let name = Conflict::ref_name(&conflict.fabric, &conflict.id);
    let message = format!("{}: {}\n", conflict.fabric, conflict.message);
    lane.repo.keep(&name, &files, contents.led_to, &lane.settings.author, &message)?;
    Ok(())
}

/// Puts our side back into `raw/`, with a report.
fn hand_back(
    lane: &mut Lane,
    n: usize,
    bytes: Vec<u8>,
    raw_path: RawPath,
    message: &str,
) -> Result<(), Error> {
    let raw = lane.fabrics[n].fabric.raw();
    let (intake, drop_id) = settle::returned(raw_path, bytes.clone());
    let problems = vec![kept_problem(message)];
    let place = raw.join(&intake.path.to_string());
    let place = place.map_err(|it| Error::NotFound { what: it.to_string() })?;
    let reject = Reject {
        fabric: lane.fabrics[n].fabric.name.clone(),
        path: intake.path.clone(),
        drop_id,
        problems: problems.clone(),
        since: clock::now(),
    };
    // The reject first: a file that is found without one would be filed over theirs.
    lane.store.settle(Settlement { rejects: vec![reject], ..Settlement::default() })?;
    lane.tree.write_all(&[(place, Arc::from(bytes))])?;
    settle::stay(lane, n, &intake, &problems)
}

fn kept_problem(message: &str) -> Problem {
    let hint = "compare the two; to have yours, change this file and rename it, to have theirs, \
                remove it; field by field: git-intake conflicts resolve";
    Problem::error(MERGE_CONFLICT, message).hint(hint)
}

/// The rejects of what lies in `raw/` for conflicts, for a store that forgot them: without them it
/// would be filed over what others pushed.
pub(super) fn kept_back(lane: &Lane, conflicts: &[Conflict]) -> Result<Vec<Reject>, Error> {
    let mut rejects = Vec::new();
    for it in conflicts {
        let name = Conflict::ref_name(&it.fabric, &it.id);
        let kept = lane.repo.kept(&name)?.and_then(|mut it| it.remove("record"));
        let (Some(path), Some(bytes)) = (&it.raw_path, kept) else { continue };
        let (intake, drop_id) = settle::returned(path.clone(), bytes);
        rejects.push(Reject {
            fabric: it.fabric.clone(),
            path: intake.path,
            drop_id,
            problems: vec![kept_problem(&it.message)],
            since: it.detected_at,
        });
    }
    Ok(rejects)
}

/// The conflicts that the refs of a fabric keep, for a store that forgot them.
pub(super) fn remembered(lane: &Lane, n: usize) -> Result<Vec<Conflict>, Error> {
    let mut found = Vec::new();
    for name in lane.repo.refs_below(&Conflict::refs(&lane.fabrics[n].fabric.name))? {
        let files = lane.repo.kept(&name)?.unwrap_or_default();
        let about = files.get("conflict.json").map(|it| serde_json::from_slice::<Conflict>(it));
        match about {
            Some(Ok(it)) => found.push(it),
            _ => tracing::warn!(name, "this ref keeps a conflict that cannot be read"),
        }
    }
    Ok(found)
}

/// One conflict, by its resource's id (or the beginning of it), its path, or `Kind/name`.
pub(super) fn find(lane: &Lane, name: &str) -> Result<Conflict, Error> {
    let all = lane.store.conflicts()?;
    let id = |it: &Conflict| it.id.to_string().starts_with(name) && name.len() >= 4;
    let record = super::find::record(lane, name).ok().map(|it| it.id);
    let is = |it: &&Conflict| {
        id(it) || it.path.as_str() == name || Some(it.id) == record || it.path.file_name() == name
    };
    let mut found = all.iter().filter(is);
    match (found.next(), found.next()) {
        (Some(it), None) => Ok(it.clone()),
        (Some(_), Some(_)) => {
            Err(Error::NotFound { what: format!("single conflict `{name}`; write more of its id") })
        }
        (None, _) => Err(Error::NotFound {
            what: format!("conflict `{name}`; git-intake conflicts list shows all"),
        }),
    }
}

/// The three contents: base and record as they were kept, git's side as HEAD has it.
fn contents(repo: &Repo, conflict: &Conflict) -> Result<Contents, Error> {
    let name = Conflict::ref_name(&conflict.fabric, &conflict.id);
    let mut files = repo.kept(&name)?.unwrap_or_default();
    let mut side = |name: &str| files.remove(name).and_then(|it| String::from_utf8(it).ok());
    let (base, record) = (side("base"), side("record"));
    let head = repo.head()?.commit;
    let git = repo.blob_at(head, conflict.path.as_str().as_bytes())?;
    let git = git.map(|it| repo.blob(it)).transpose()?;
    let git = git.and_then(|it| String::from_utf8(it).ok());
    let record_bytes = record.clone().map(String::into_bytes);
    Ok(Contents { base, record_bytes, record, git, led_to: None })
}

/// A conflict with its contents, and what a rule would make of it.
pub(super) fn view(lane: &Lane, name: &str, decided: &Decided) -> Result<ConflictView, Error> {
    shown(&lane.repo, lane.settings.limits, find(lane, name)?, decided)
}

/// The same for whoever reads beside a lane.
pub fn shown(
    repo: &Repo,
    limits: Limits,
    conflict: Conflict,
    by: &Decided,
) -> Result<ConflictView, Error> {
    let contents = contents(repo, &conflict)?;
    let (preview, fields) = match decided(limits, &conflict, &contents, &by.rule()) {
        Some(Merged::Text(text)) => (Some(text), Vec::new()),
        Some(Merged::Gone) => (Some(String::new()), Vec::new()),
        Some(Merged::Conflict(fields)) => (None, fields),
        None => (None, conflict.fields.clone()),
    };
    let Contents { base, record, git, .. } = contents;
    Ok(ConflictView { conflict, base, record, git, preview, open: fields })
}

fn decided(limits: Limits, it: &Conflict, contents: &Contents, rule: &Rule) -> Option<Merged> {
    if !it.kept {
        return None;
    }
    let mut rule = rule.clone();
    // Of the two, git's side is what came later, unless the record's was kept after it.
    rule.newest = rule.newest.or(Some(Side::Git));
    let document = meet::same_resource(limits, contents.sides())?;
    Some(meet::merged(limits, contents.sides(), &document, &rule))
}

/// What a person decides about what both sides changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Decided {
    /// In general; none is field by field, and what overlaps stays open.
    #[serde(default)]
    pub strategy: Option<ConflictStrategy>,
    /// For single fields.
    #[serde(default)]
    pub fields: BTreeMap<FieldPath, Side>,
}

impl Decided {
    pub(super) fn rule(&self) -> Rule {
        let strategy = self.strategy.unwrap_or_default();
        Rule { strategy, newest: None, decisions: self.fields.clone() }
    }
}

/// What a person decided.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    /// Which conflicts; none are all.
    pub names: Vec<String>,
    /// How.
    pub rule: Rule,
    /// This text instead, for one conflict.
    pub text: Option<String>,
    /// Who.
    pub actor: String,
    /// What set it off.
    pub trigger: Trigger,
    /// Only say what would come of it.
    pub dry_run: bool,
}

/// Resolves conflicts, each for itself: one that stays open keeps no other.
pub(super) fn resolve(lane: &mut Lane, decision: &Decision) -> Result<Vec<Resolved>, Error> {
    let conflicts = match decision.names.is_empty() {
        true => lane.store.conflicts()?,
        false => decision.names.iter().map(|it| find(lane, it)).collect::<Result<_, _>>()?,
    };
    let mut done = Vec::new();
    for conflict in conflicts.into_iter().take(RESOLVED_MAX) {
        done.push(resolve_one(lane, &conflict, decision)?);
    }
    Ok(done)
}

fn resolve_one(
    lane: &mut Lane,
    conflict: &Conflict,
    decision: &Decision,
) -> Result<Resolved, Error> {
    let mut answer = Resolved {
        id: conflict.id,
        fabric: conflict.fabric.clone(),
        path: conflict.path.clone(),
        resolved: false,
        operation: None,
        commit_id: None,
        content: None,
        open: conflict.fields.clone(),
        reason: None,
    };
    let n = lane.fabrics.iter().position(|it| it.fabric.name == conflict.fabric);
    let (Some(n), true) = (n, conflict.kept) else {
        answer.reason = Some(format!("{}; this one is resolved by hand", conflict.message));
        return Ok(answer);
    };
    let contents = contents(&lane.repo, conflict)?;
    let outcome = match &decision.text {
        Some(text) => written(lane, n, conflict, text)?,
        None => decided(lane.settings.limits, conflict, &contents, &decision.rule),
    };
    let bytes: Option<Arc<[u8]>> = match outcome {
        Some(Merged::Text(text)) => Some(Arc::from(text.into_bytes())),
        Some(Merged::Gone) => None,
        Some(Merged::Conflict(open)) => {
            answer.open = open;
            answer.reason = Some("some fields are still undecided".to_owned());
            return Ok(answer);
        }
        None => {
            answer.reason =
                Some("the sides are no longer the same resource; edit the file by hand".to_owned());
            return Ok(answer);
        }
    };
    answer.content = bytes.as_ref().map(|it| String::from_utf8_lossy(it).into_owned());
    answer.open = Vec::new();
    answer.resolved = true;
    if decision.dry_run {
        return Ok(answer);
    }
    let operation = carry_out(lane, n, conflict, decision, bytes)?;
    answer.commit_id = operation.as_ref().and_then(|it| it.state.commit_id());
    answer.operation = operation.map(|it| it.id);
    close(lane, n, conflict)?;
    Ok(answer)
}

/// The text that a person wrote, if it is that resource.
fn written(
    lane: &Lane,
    n: usize,
    conflict: &Conflict,
    text: &str,
) -> Result<Option<Merged>, Error> {
    let key = edits::judge(lane, n, text)?.0.key;
    if ResourceId::of(&conflict.fabric, &key) != conflict.id {
        let what = format!("the text is of {key}, not of the resource in {}", conflict.path);
        return Err(Error::Refused { what });
    }
    Ok(Some(Merged::Text(text.to_owned())))
}

fn carry_out(
    lane: &mut Lane,
    n: usize,
    conflict: &Conflict,
    decision: &Decision,
    bytes: Option<Arc<[u8]>>,
) -> Result<Option<Operation>, Error> {
    let how = match (&decision.text, decision.rule.decisions.len()) {
        (Some(_), _) => "by hand".to_owned(),
        (None, 0) => decision.rule.strategy.to_string(),
        (None, n) => format!("{n} fields decided, {}", decision.rule.strategy),
    };
    let mut trailers = vec![format!("Intake-Resolution: {} {how}", conflict.path)];
    for (field, side) in &decision.rule.decisions {
        let line = format!("{field} {side}");
        trailers.push(format!("Intake-Decision: {}", crate::model::path::escape(line.as_bytes())));
    }
    let edits = Edits {
        files: vec![(conflict.path.clone(), bytes)],
        purpose: Purpose::ConflictResolution,
        trigger: decision.trigger,
        actor: decision.actor.clone(),
        subject: format!("resolve the conflict over {} ({how})", conflict.path.file_name()),
        trailers,
        in_place: false,
    };
    edits::carry_out(lane, n, edits)
}

/// A conflict is over: its entry, its ref and what lay in `raw/` go.
pub(super) fn close(lane: &Lane, n: usize, conflict: &Conflict) -> Result<(), Error> {
    let fabric = lane.fabrics[n].fabric.clone();
    let mut settlement = Settlement { resolved: vec![conflict.id], ..Settlement::default() };
    if let Some(path) = &conflict.raw_path
        && let Some(reject) = lane.store.reject(&fabric.name, path)?
    {
        let raw = fabric.raw();
        lane.tree.remove_raw(&raw, path, &reject.drop_id, lane.settings.bytes_max)?;
        lane.tree.remove_report(&crate::pipeline::tracked::report_path(&fabric, path))?;
        lane.tree.sync_directories([&raw].into_iter())?;
        settlement.cleared.push((fabric.name.clone(), path.clone()));
    }
    lane.store.settle(settlement)?;
    let name = Conflict::ref_name(&conflict.fabric, &conflict.id);
    Ok(lane.repo.let_go(&name)?)
}

/// Refs of conflicts that are over by other means: removed from `raw/`, filed anew, settled in git.
pub(super) fn sweep(lane: &Lane, n: usize) -> Result<(), Error> {
    let fabric = &lane.fabrics[n].fabric.name;
    let refs = lane.repo.refs_below(&Conflict::refs(fabric))?;
    // A store that was begun anew learns of them first.
    if refs.is_empty() || lane.store.synced(fabric)?.is_none() {
        return Ok(());
    }
    let open = lane.store.conflicts()?;
    let open: BTreeSet<String> =
        open.iter().map(|it| Conflict::ref_name(&it.fabric, &it.id)).collect();
    for name in refs.iter().filter(|it| !open.contains(*it)) {
        lane.repo.let_go(name)?;
    }
    Ok(())
}

/// Closes the conflicts whose record's side git has by now.
pub(super) fn close_settled(lane: &Lane) -> Result<(), Error> {
    for conflict in lane.store.conflicts()?.into_iter().filter(|it| it.kept) {
        let n = lane.fabrics.iter().position(|it| it.fabric.name == conflict.fabric);
        let contents = contents(&lane.repo, &conflict)?;
        if let Some(n) = n
            && contents.record == contents.git
        {
            close(lane, n, &conflict)?;
        }
    }
    Ok(())
}
