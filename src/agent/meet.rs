//! A path that both sides changed: a resource is merged by field, other text by line, and what
//! nobody can decide is left to a person.

use super::lane::Lane;
use crate::git::{Meeting, Resolution, merge_text};
use crate::model::conflict::{ConflictStrategy, FieldClash, Side};
use crate::model::document::Document;
use crate::model::field::FieldPath;
use crate::model::ids::CommitId;
use crate::model::path::RepoPath;
use crate::pipeline::merge::{Merged, Rule, Sides, merge};
use crate::pipeline::validation;
use crate::yaml::Limits;

/// How many of others' commits are searched for the time of a change.
const COMMITS_MAX: usize = 10_000;

/// What the other side is, for the strategy that asks who was later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theirs {
    /// Their newest commit.
    pub tip: CommitId,
    /// Where they and we parted.
    pub base: Option<CommitId>,
}

/// Says what a path gets that both sides changed.
pub(super) fn meet(
    lane: &Lane,
    theirs: Theirs,
    strategy: Option<ConflictStrategy>,
    it: &Meeting<'_>,
) -> Resolution {
    let Some((n, path)) = place_of(lane, it.path) else { return by_line(it) };
    let fabric = &lane.fabrics[n].fabric;
    let inside = [fabric.raw(), fabric.managed(), fabric.unmanaged()];
    if !inside.iter().any(|dir| path.is_within(dir)) {
        return by_line(it);
    }
    let managed = super::follow::manifest_path(&it.path.to_owned()).is_some();
    if !managed || !path.is_within(&fabric.managed()) {
        return Resolution::Overlap;
    }
    let texts = [&it.base, &it.ours, &it.theirs].map(|it| it.as_deref().map(std::str::from_utf8));
    let [base, ours, theirs_text] = texts.map(|it| it.and_then(Result::ok));
    let sides = Sides { base, record: ours, git: theirs_text };
    let Some(document) = same_resource(lane.settings.limits, sides) else {
        return Resolution::Overlap;
    };
    let mut rule = Rule {
        strategy: strategy.unwrap_or_else(|| lane.fabrics[n].rules.strategy_of(&document.key)),
        ..Rule::default()
    };
    if rule.strategy == ConflictStrategy::Newest {
        let changed = lane.repo.last_changed(it.path, theirs.tip, theirs.base, COMMITS_MAX);
        rule.newest = changed.ok().flatten().map(|at| match it.at > at {
            true => Side::Record,
            false => Side::Git,
        });
    }
    match merged(lane.settings.limits, sides, &document, &rule) {
        Merged::Text(text) => Resolution::Content(text.into_bytes()),
        Merged::Gone => Resolution::Gone,
        Merged::Conflict(_) => Resolution::Overlap,
    }
}

/// Merges, and lets nothing through that is not the same resource, whole and valid.
pub(super) fn merged(limits: Limits, sides: Sides<'_>, document: &Document, rule: &Rule) -> Merged {
    match merge(sides, &document.key.kind, rule, limits) {
        Merged::Text(text) => match validation::read_managed(text.as_bytes(), &limits) {
            Ok(it) if it.key == document.key => Merged::Text(text),
            _ => Merged::Conflict(vec![FieldClash {
                path: FieldPath::default(),
                base: None,
                record: None,
                git: None,
            }]),
        },
        other => other,
    }
}

/// The resource that all sides hold, where they hold one and the same.
pub(super) fn same_resource(limits: Limits, sides: Sides<'_>) -> Option<Document> {
    let texts = [sides.record, sides.git, sides.base];
    let read = |text: &str| validation::read_managed(text.as_bytes(), &limits).ok();
    let mut documents = texts.into_iter().flatten().map(read);
    let first = documents.next()??;
    documents.all(|it| it.is_some_and(|it| it.key == first.key)).then_some(first)
}

fn by_line(it: &Meeting<'_>) -> Resolution {
    match (&it.base, &it.ours, &it.theirs) {
        (Some(base), Some(ours), Some(theirs)) => {
            merge_text(base, ours, theirs).map_or(Resolution::Overlap, Resolution::Content)
        }
        _ => Resolution::Overlap,
    }
}

/// The fabric that a path lies in, whatever it is there.
pub(super) fn place_of(lane: &Lane, path: &[u8]) -> Option<(usize, RepoPath)> {
    let path = RepoPath::parse(std::str::from_utf8(path).ok()?).ok()?;
    let n = lane.fabrics.iter().position(|it| path.is_within(&it.fabric.dir))?;
    Some((n, path))
}
