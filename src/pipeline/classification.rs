//! The third stage: what each document is, and where its file belongs.

use crate::catalog::{Catalog, Entry, Owner};
use crate::model::document::{Classified, Document, Judged, Validated, Verdict};
use crate::model::fabric::Fabric;
use crate::model::key::DEFAULT_NAMESPACE;
use crate::model::problem::Problem;

/// Judges every document of an intake.
pub fn classify(validated: Validated, fabric: &Fabric, catalog: &Catalog) -> Classified {
    let Validated { intake, documents, mut warnings } = validated;
    let mut judged = Vec::with_capacity(documents.len());
    for document in documents {
        let verdict = judge(&document, fabric, catalog, &mut warnings);
        judged.push(Judged { document, verdict });
    }
    Classified { intake, judged, warnings }
}

fn judge(
    document: &Document,
    fabric: &Fabric,
    catalog: &Catalog,
    warnings: &mut Vec<Problem>,
) -> Verdict {
    let key = &document.key;
    let place = |it: Problem| it.in_document(document.index).at(document.line, 1);
    let Some(entry) = catalog.find(&key.group, &key.kind) else {
        return unknown(document, catalog);
    };
    if let Owner::Controller(why) = entry.owner {
        let message = format!("{} is not for people to write: {why}", key.kind);
        let hint = "take this document out of the file";
        return Verdict::Rejected {
            why: place(Problem::error("controller-owned", message).hint(hint)),
        };
    }
    let version = document.api_version.rsplit('/').next().unwrap_or_default();
    if !entry.served.contains(&version) {
        return Verdict::Rejected { why: place(unserved(entry, version)) };
    }
    if key.namespace != entry.namespace {
        let message = format!(
            "{} is in namespace {}, but {} accepts this kind only in {}",
            key.kind, key.namespace, entry.group, entry.namespace
        );
        let hint = match entry.namespace {
            DEFAULT_NAMESPACE => "take metadata.namespace out".to_owned(),
            namespace => format!("set metadata.namespace to {namespace}"),
        };
        warnings.push(place(Problem::warning("foreign-namespace", message).hint(hint)));
    }
    match fabric.managed_path(entry.plural, key) {
        Ok(target) => Verdict::Managed { target },
        Err(why) => Verdict::Rejected {
            why: place(Problem::error("no-place", why.to_string()).hint("choose a shorter name")),
        },
    }
}

/// A kind that is not in the catalog: somebody else's, or a mistake in one of ours.
fn unknown(document: &Document, catalog: &Catalog) -> Verdict {
    let key = &document.key;
    let place = |it: Problem| it.in_document(document.index).at(document.line, 1);
    let nearest = catalog.nearest(&key.kind);
    if !catalog.is_own_group(&key.group) {
        let message = format!("{} of {} is no kind of this fabric", key.kind, document.api_version);
        let hint = match nearest {
            Some(it) => format!("if you meant {}, its apiVersion is {}", it.kind, api_version(it)),
            None => "it is kept in unmanaged/, as it is; apply it by other means".to_owned(),
        };
        return Verdict::Unmanaged {
            why: place(Problem::warning("foreign-kind", message).hint(hint)),
        };
    }
    let message = format!("there is no {} in {}", key.kind, key.group);
    let hint = match nearest {
        Some(it) => format!("did you mean {}, apiVersion {}?", it.kind, api_version(it)),
        None => "compare kind and apiVersion with the fabric's documentation".to_owned(),
    };
    Verdict::Rejected { why: place(Problem::error("unknown-kind", message).hint(hint)) }
}

fn unserved(entry: &Entry, version: &str) -> Problem {
    let message = format!("{} is not served in version {version}", entry.kind);
    let hint = format!(
        "write apiVersion: {}, and check the fields: they changed between the versions, so nothing \
         is rewritten for you",
        api_version(entry)
    );
    Problem::error("unserved-version", message).hint(hint)
}

fn api_version(entry: &Entry) -> String {
    format!("{}/{}", entry.group, entry.served.first().unwrap_or(&"v1beta1"))
}
