//! The third stage: what each document is, and where its file belongs.

use super::place::Shown;
use crate::catalog::{Catalog, Entry, Owner, Scope};
use crate::model::document::{Classified, Document, Judged, Mark, Validated, Verdict};
use crate::model::fabric::Fabric;
use crate::model::key::DEFAULT_NAMESPACE;
use crate::model::path::RepoPath;
use crate::model::problem::Problem;
use std::borrow::Cow;

/// Judges every document of an intake.
pub fn classify(validated: Validated, fabric: &Fabric, catalog: &Catalog) -> Classified {
    let Validated { intake, documents, mut warnings, faults } = validated;
    let shown = Shown::of(&intake);
    let mut judged = Vec::with_capacity(documents.len());
    for document in documents {
        let place = |it: Problem, mark| shown.place(it, &document, mark);
        let verdict = match kind_of(&document, catalog) {
            Kind::Known(entry) => {
                warnings.extend(foreign_namespace(&document, &entry).map(|(it, at)| place(it, at)));
                match fabric.managed_path(&entry.directory(), &document.key) {
                    Ok(target) => Verdict::Managed { target },
                    Err(why) => {
                        let problem = Problem::error("no-place", why.to_string());
                        let problem = problem.hint("choose a shorter name");
                        Verdict::Rejected { why: place(problem, document.marks.name) }
                    }
                }
            }
            Kind::Foreign(why) => Verdict::Unmanaged { why: place(why, document.marks.kind) },
            Kind::Wrong(why, mark) => Verdict::Rejected { why: place(why, mark) },
        };
        judged.push(Judged { document, verdict });
    }
    Classified { intake, judged, warnings, faults }
}

/// Where the file of a resource belongs that lies in `managed/` already, or why it is none of ours.
pub fn home(document: &Document, fabric: &Fabric, catalog: &Catalog) -> Result<RepoPath, String> {
    match kind_of(document, catalog) {
        Kind::Known(entry) => {
            fabric.managed_path(&entry.directory(), &document.key).map_err(|why| why.to_string())
        }
        Kind::Foreign(why) | Kind::Wrong(why, _) => Err(why.message),
    }
}

/// What the catalog says of a document's kind.
pub(super) enum Kind<'a> {
    /// It has a place.
    Known(Cow<'a, Entry>),
    /// It is somebody else's.
    Foreign(Problem),
    /// It must not be filed.
    Wrong(Problem, Mark),
}

/// Looks a document's kind up.
pub(super) fn kind_of<'a>(document: &Document, catalog: &'a Catalog) -> Kind<'a> {
    let key = &document.key;
    let version = document.api_version.rsplit('/').next().unwrap_or_default();
    let Some(entry) = catalog.find(&key.group, &key.kind, version) else {
        return unknown(document, catalog);
    };
    if let Owner::Controller(why) = entry.owner {
        let message = format!("{} is not for people to write: {why}", key.kind);
        let hint = "take this document out of the file";
        let problem = Problem::error("controller-owned", message).hint(hint);
        return Kind::Wrong(problem, document.marks.kind);
    }
    if entry.served(version).is_none() {
        return Kind::Wrong(unserved(&entry, version), document.marks.api_version);
    }
    Kind::Known(entry)
}

fn foreign_namespace(document: &Document, entry: &Entry) -> Option<(Problem, Mark)> {
    let key = &document.key;
    let (message, hint) = match entry.scope {
        Scope::Only(namespace) if key.namespace != namespace => {
            let message = format!(
                "{} is in namespace {}, but {} accepts this kind only in {namespace}",
                key.kind, key.namespace, entry.group
            );
            let hint = match namespace {
                DEFAULT_NAMESPACE => "take metadata.namespace out".to_owned(),
                namespace => format!("set metadata.namespace to {namespace}"),
            };
            (message, hint)
        }
        Scope::Cluster if key.namespace != DEFAULT_NAMESPACE => {
            let message =
                format!("{} lives in no namespace, and this one names {}", key.kind, key.namespace);
            (message, "take metadata.namespace out".to_owned())
        }
        Scope::Only(_) | Scope::Namespaced | Scope::Cluster => return None,
    };
    Some((Problem::warning("foreign-namespace", message).hint(hint), document.marks.namespace))
}

/// A kind that is not in the catalog: somebody else's, or a mistake in one of ours.
fn unknown<'a>(document: &Document, catalog: &Catalog) -> Kind<'a> {
    let key = &document.key;
    let nearest = catalog.nearest(&key.kind);
    if !catalog.is_complete(&key.group) {
        let message = format!("{} of {} is no kind of this fabric", key.kind, document.api_version);
        let hint = match nearest {
            Some(it) => format!("if you meant {}, its apiVersion is {}", it.kind, it.api_version()),
            None => "it is kept in unmanaged/, as it is; apply it by other means".to_owned(),
        };
        return Kind::Foreign(Problem::warning("foreign-kind", message).hint(hint));
    }
    let message = format!("there is no {} in {}", key.kind, group_of(&key.group));
    let hint = match nearest {
        Some(it) => format!("did you mean {}, apiVersion {}?", it.kind, it.api_version()),
        None => {
            "compare kind and apiVersion with the fabric's documentation; a kind that is newer than \
             this program needs its definition in `kinds_dir`"
        }
        .to_owned(),
    };
    let problem = Problem::error("unknown-kind", message).hint(hint);
    let mark = if nearest.is_some_and(|it| it.kind == key.kind) {
        document.marks.api_version
    } else {
        document.marks.kind
    };
    Kind::Wrong(problem, mark)
}

/// A group in words.
fn group_of(group: &str) -> &str {
    if group.is_empty() { "Kubernetes' core group" } else { group }
}

fn unserved(entry: &Entry, version: &str) -> Problem {
    let message = format!("{} is not served in version {version}", entry.kind);
    let hint = format!(
        "write apiVersion: {}, and check the fields: they changed between the versions, so nothing \
         is rewritten for you; a version that is newer needs its definition in `kinds_dir`",
        entry.api_version()
    );
    Problem::error("unserved-version", message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::Intake;
    use crate::model::fabric::FabricName;
    use crate::model::path::{RawPath, RepoPath};
    use crate::pipeline::validation::{Rules, SchemaStrategy, validate};
    use crate::yaml::Limits;

    fn check(text: &str, expect: &str) {
        let catalog = Catalog::hedgehog();
        let rules = Rules {
            limits: Limits::default(),
            catalog: &catalog,
            schema: SchemaStrategy::Warn,
            partial: false,
        };
        let intake = Intake::new(RawPath::new("a.yaml"), text.as_bytes());
        let valid = validate(intake, &rules).unwrap();
        let fabric = Fabric::flat(FabricName::parse("f").unwrap(), RepoPath::parse("f").unwrap());
        let Classified { judged, warnings, .. } = classify(valid, &fabric, &catalog);
        let told = judged.into_iter().map(|it| match it.verdict {
            Verdict::Managed { target } => target.to_string(),
            Verdict::Unmanaged { why } | Verdict::Rejected { why } => shown(&why),
        });
        let told: Vec<String> = told.chain(warnings.iter().map(shown)).collect();
        assert_eq!(told.join("; "), expect, "{text}");
    }

    fn shown(it: &Problem) -> String {
        let place = (it.line.unwrap(), it.column.unwrap());
        format!("{} {place:?} {}", it.rule, it.excerpt.as_deref().unwrap_or("?"))
    }

    #[test]
    fn each_verdict_points_at_the_word_it_is_about() {
        let of = |group: &str, kind: &str, rest: &str| {
            format!("apiVersion: {group}\nkind: {kind}\nmetadata:\n  name: a\n{rest}")
        };
        let vpc = "vpc.githedgehog.com/v1beta1";
        check(&of(vpc, "VPC", ""), "f/managed/vpcs/a.yaml");
        check(&of(vpc, "Vpc", ""), "unknown-kind (2, 7) kind: Vpc");
        check(
            &of("wiring.githedgehog.com/v1beta1", "VPC", ""),
            "unknown-kind (1, 13) apiVersion: wiring.githedgehog.com/v1beta1",
        );
        check(
            &of("vpc.githedgehog.com/v1alpha2", "VPC", ""),
            "unserved-version (1, 13) apiVersion: vpc.githedgehog.com/v1alpha2",
        );
        check(
            &of("agent.githedgehog.com/v1beta1", "Agent", ""),
            "controller-owned (2, 7) kind: Agent",
        );
        check(&of("v1", "ConfigMap", ""), "foreign-kind (2, 7) kind: ConfigMap");
        check(
            &of(vpc, "VPC", "  namespace: x\n"),
            "f/managed/vpcs/x/a.yaml; foreign-namespace (5, 14)   namespace: x",
        );
    }
}
