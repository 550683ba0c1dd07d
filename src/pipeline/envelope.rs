//! What every Kubernetes resource must say of itself: apiVersion, kind, and who it is.

use crate::catalog::nearest;
use crate::model::key::{DEFAULT_NAMESPACE, Key};
use crate::yaml::value::{Scalar, Value, is_boolean_word, is_finite, resolve, scalar};
use crate::yaml::{Content, Fault, Node, Style};
use std::collections::{BTreeMap, HashSet};

/// Fields that a cluster fills in. They say nothing about what is wanted, and would be wrong in git.
const POPULATED: [&str; 9] = [
    "creationTimestamp",
    "generation",
    "resourceVersion",
    "uid",
    "managedFields",
    "selfLink",
    "ownerReferences",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// More faults than this in one document are not worth anybody's time.
const FAULTS_MAX: usize = 50;

/// What a document says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Envelope {
    pub api_version: String,
    pub key: Key,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Paths of the fields that must not be filed.
    pub populated: Vec<Vec<&'static str>>,
    /// Where apiVersion, kind, name and namespace are written, in bytes of the text.
    pub places: [usize; 4],
}

/// Reads the envelope, or says everything that is wrong with it.
pub(super) fn read(root: &Node) -> Result<Envelope, Vec<Fault>> {
    let mut faults = Vec::new();
    if !matches!(root.content, Content::Mapping(_)) {
        let fault = Fault::new(
            "not-a-mapping",
            "this document is no mapping of keys to values",
            root.span.start,
        );
        let hint = "a resource begins with apiVersion, kind and metadata";
        return Err(vec![fault.hint(hint)]);
    }
    if ["apiVersion", "kind", "metadata"].iter().all(|it| root.get(it).is_none()) {
        let message = "this document has no apiVersion, no kind and no metadata: it is no resource";
        let hint = "add them, or keep the file elsewhere if it is no manifest";
        return Err(vec![Fault::new("not-a-resource", message, root.span.start).hint(hint)]);
    }
    inside(root, &mut faults);
    if let Some((key, items)) = root.entry("items")
        && matches!(items.content, Content::Sequence(_))
    {
        let message = "`items` makes this a list to Argo CD and kubectl, whatever its kind says";
        let hint = "take `items` out, or write `kind: List` without a name of its own";
        faults.push(Fault::new("stray-items", message, key.span.start).hint(hint));
    }
    let api_version = text_at(root, root, "apiVersion", &mut faults);
    let kind = text_at(root, root, "kind", &mut faults);
    let (group, kind) = (group(api_version, &mut faults), kind_word(kind, &mut faults));
    let empty = BTreeMap::new();
    let metadata = match root.get("metadata") {
        Some(it) if matches!(it.content, Content::Mapping(_)) => it,
        Some(it) if !it.is_null() => {
            let fault = Fault::new("no-metadata", "`metadata` is no mapping", it.span.start);
            faults
                .push(fault.hint("write one `name: value` a line below it, first of all the name"));
            return Err(faults);
        }
        other => {
            let at = other.map_or(root.span.start, |it| it.span.start);
            let fault = Fault::new("no-metadata", "`metadata` is missing", at);
            faults.push(or_near(root, "metadata", fault.hint("add metadata with a name")));
            return Err(faults);
        }
    };
    let name = name(metadata, &mut faults);
    let namespace = namespace(metadata, &mut faults);
    let labels = texts(metadata, "labels", &mut faults);
    let annotations = texts(metadata, "annotations", &mut faults);
    match (group, kind, name, namespace) {
        (Some(group), Some(kind), Some(name), Some(namespace)) if faults.is_empty() => {
            Ok(Envelope {
                api_version: api_version.and_then(Node::text).unwrap_or_default().to_owned(),
                key: Key { group, kind, namespace, name },
                labels: labels.unwrap_or(empty),
                annotations: annotations
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|it| it.0 != LAST_APPLIED)
                    .collect(),
                populated: populated(root),
                places: places(root, metadata),
            })
        }
        _ => Err(faults),
    }
}

/// Plain words that Kubernetes takes for truth values, though their writer may not: `no`, `on`, ...
pub(super) fn boolean_words(node: &Node, found: &mut Vec<Fault>) {
    if found.len() >= FAULTS_MAX || node.alias {
        return;
    }
    match &node.content {
        Content::Scalar { text, style: Style::Plain, tag: None } if is_boolean_word(text) => {
            found.push(crate::catalog::boolean_word(text, node.span.start));
        }
        Content::Scalar { .. } => (),
        Content::Sequence(items) => items.iter().for_each(|it| boolean_words(it, found)),
        Content::Mapping(entries) => entries.iter().for_each(|(_, it)| boolean_words(it, found)),
    }
}

fn places(root: &Node, metadata: &Node) -> [usize; 4] {
    let at = |parent: &Node, key| parent.get(key).map(|it| it.span.start);
    let start = root.span.start;
    let name = at(metadata, "name").unwrap_or(start);
    [
        at(root, "apiVersion").unwrap_or(start),
        at(root, "kind").unwrap_or(start),
        name,
        at(metadata, "namespace").unwrap_or(name),
    ]
}

fn populated(root: &Node) -> Vec<Vec<&'static str>> {
    let mut paths = Vec::new();
    if let Some(metadata) = root.get("metadata") {
        let fields = POPULATED.iter().filter(|it| metadata.get(it).is_some());
        paths.extend(fields.map(|it| vec!["metadata", *it]));
        if metadata.get("annotations").is_some_and(|it| it.get(LAST_APPLIED).is_some()) {
            paths.push(vec!["metadata", "annotations", LAST_APPLIED]);
        }
    }
    if root.get("status").is_some() {
        paths.push(vec!["status"]);
    }
    paths
}

/// Faults anywhere inside: keys that stand twice, and templates.
fn inside(node: &Node, faults: &mut Vec<Fault>) {
    if faults.len() >= FAULTS_MAX || node.alias {
        return;
    }
    match &node.content {
        Content::Scalar { text, .. } => {
            if is_template(text) {
                faults.push(crate::yaml::fault::template(node.span.start));
            }
            if !is_finite(node) {
                let message =
                    format!("`{}` is a number that JSON, and so Kubernetes, lacks", shown(text));
                let fault = Fault::new("not-finite", message, node.span.start);
                faults.push(fault.hint("write a number, or put it in quotes if you mean the word"));
            }
        }
        Content::Sequence(items) => items.iter().for_each(|it| inside(it, faults)),
        Content::Mapping(entries) => {
            for key in twins(entries) {
                let text = shown(key.text().unwrap_or_default());
                let message = format!("the key `{text}` stands here twice");
                let fault = Fault::new("duplicate-key", message, key.span.start);
                let hint = "keep one of the two; Kubernetes would take the last in silence";
                faults.push(fault.hint(hint));
            }
            entries.iter().for_each(|(_, value)| inside(value, faults));
        }
    }
}

/// Keys that stand in front of their like: all but the first of each.
fn twins(entries: &[(Node, Node)]) -> Vec<&Node> {
    const FEW: usize = 16;
    let keys = || entries.iter().map(|it| &it.0).filter(|it| it.text() != Some("<<"));
    // Most mappings are small, and comparing is faster than hashing then.
    if entries.len() <= FEW {
        let before = |n: usize, key: &Node| keys().take(n).any(|it| it.text() == key.text());
        return keys().enumerate().filter(|(n, it)| before(*n, it)).map(|it| it.1).collect();
    }
    let mut seen = HashSet::new();
    keys().filter(|it| !seen.insert(it.text())).collect()
}

fn is_template(text: &str) -> bool {
    // Few texts hold one of these signs, and looking for a byte is cheap.
    if !text.bytes().any(|it| matches!(it, b'{' | b'<' | b'$')) {
        return false;
    }
    let between = |open: &str, close: &str| {
        text.find(open).is_some_and(|at| text[at + open.len()..].contains(close))
    };
    if between("{{", "}}") || text.contains("<no value>") {
        return true;
    }
    // `$(NAME)` and `${NAME}`, with a name that a shell would take.
    ["$(", "${"].iter().any(|open| {
        text.find(open).is_some_and(|at| {
            let rest = &text[at + 2..];
            let name = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            name.len() < rest.len() && name.starts_with([')', '}'])
        })
    })
}

fn text_at<'a>(
    root: &Node,
    parent: &'a Node,
    key: &'static str,
    faults: &mut Vec<Fault>,
) -> Option<&'a Node> {
    match parent.get(key) {
        Some(node) if matches!(scalar(node), Some(Scalar::Text(_))) => Some(node),
        Some(node) if node.is_null() => {
            faults.push(missing(key, node.span.start));
            None
        }
        Some(node) => {
            let message = format!("`{key}` is not text");
            faults.push(Fault::new("not-text", message, node.span.start).hint("put it in quotes"));
            None
        }
        None => {
            faults.push(or_near(parent, key, missing(key, root.span.start)));
            None
        }
    }
}

/// A key that is missing may only be misspelled: then that is where to look.
fn or_near(parent: &Node, key: &str, fault: Fault) -> Fault {
    let keys = || parent.entries().iter().map(|it| &it.0);
    let near = nearest(key, keys().filter_map(Node::text).filter(|it| *it != key));
    let Some(found) = near.and_then(|near| keys().find(|it| it.text() == Some(near))) else {
        return fault;
    };
    let text = shown(found.text().unwrap_or_default());
    let hint = match text.eq_ignore_ascii_case(key) {
        true => format!("write `{key}`, not `{text}`: upper and lower case matter"),
        false => format!("did you mean `{key}` by `{text}`?"),
    };
    Fault { at: found.span.start, ..fault }.hint(hint)
}

fn missing(key: &str, at: usize) -> Fault {
    let (rule, hint) = match key {
        "apiVersion" => {
            ("no-api-version", "add apiVersion, for example vpc.githedgehog.com/v1beta1")
        }
        _ => ("no-kind", "add kind, for example VPC"),
    };
    Fault::new(rule, format!("`{key}` is missing"), at).hint(hint)
}

fn group(node: Option<&Node>, faults: &mut Vec<Fault>) -> Option<String> {
    let node = node?;
    let text = node.text()?;
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    let word = |it: &str| {
        !it.is_empty()
            && it.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if text.len() <= 300 && word(version) && (group.is_empty() || group.split('.').all(word)) {
        return Some(group.to_owned());
    }
    let message = format!("`{}` is no apiVersion", shown(text));
    let hint = "write group/version, for example wiring.githedgehog.com/v1beta1";
    faults.push(Fault::new("bad-api-version", message, node.span.start).hint(hint));
    None
}

fn kind_word(node: Option<&Node>, faults: &mut Vec<Fault>) -> Option<String> {
    let node = node?;
    let text = node.text()?;
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if first && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Some(text.to_owned());
    }
    let message = format!("`{}` is no kind", shown(text));
    faults.push(
        Fault::new("bad-kind", message, node.span.start)
            .hint("a kind is one word of letters, such as VPC"),
    );
    None
}

fn name(metadata: &Node, faults: &mut Vec<Fault>) -> Option<String> {
    let node = match metadata.get("name") {
        Some(it) if !it.is_null() => it,
        _ if metadata.get("generateName").is_some() => {
            let at =
                metadata.entry("generateName").map_or(metadata.span.start, |it| it.0.span.start);
            let message =
                "`generateName` lets the cluster invent a name, but a file needs one of its own";
            faults.push(Fault::new("generate-name", message, at).hint("write metadata.name"));
            return None;
        }
        other => {
            let at = other.map_or(metadata.span.start, |it| it.span.start);
            let fault = Fault::new("no-name", "`metadata.name` is missing", at);
            faults.push(or_near(metadata, "name", fault.hint("add metadata.name")));
            return None;
        }
    };
    let Some(Scalar::Text(text)) = scalar(node) else {
        let message = "`metadata.name` is a number or a truth value, not text";
        faults.push(Fault::new("not-text", message, node.span.start).hint("put it in quotes"));
        return None;
    };
    if is_subdomain(text) {
        return Some(text.to_owned());
    }
    let message = format!("`{}` cannot name a resource", shown(text));
    let rule = "use lower-case letters, digits, `-` and `.`, at most 253, with a letter or digit at both ends";
    let hint = or_plain(text, is_subdomain, rule);
    faults.push(Fault::new("bad-name", message, node.span.start).hint(hint));
    None
}

fn namespace(metadata: &Node, faults: &mut Vec<Fault>) -> Option<String> {
    let node = match metadata.get("namespace") {
        Some(it) if !it.is_null() => it,
        _ => return Some(DEFAULT_NAMESPACE.to_owned()),
    };
    match scalar(node) {
        Some(Scalar::Text("")) => Some(DEFAULT_NAMESPACE.to_owned()),
        Some(Scalar::Text(text)) if is_label(text) => Some(text.to_owned()),
        _ => {
            let text = node.text().unwrap_or("a collection");
            let message = format!("`{}` cannot name a namespace", shown(text));
            let rule = "use lower-case letters, digits and `-`, at most 63, with a letter or digit at both ends";
            let hint = or_plain(text, is_label, rule);
            faults.push(Fault::new("bad-namespace", message, node.span.start).hint(hint));
            None
        }
    }
}

/// `metadata.labels` or `metadata.annotations`.
fn texts(metadata: &Node, key: &str, faults: &mut Vec<Fault>) -> Option<BTreeMap<String, String>> {
    let node = metadata.get(key).filter(|it| !it.is_null())?;
    let Value::Map(entries) = resolve(node) else {
        let message = format!("`metadata.{key}` is no mapping");
        let hint = format!("write one `name: value` a line below {key}");
        faults.push(Fault::new("not-a-mapping", message, node.span.start).hint(hint));
        return None;
    };
    let mut found = BTreeMap::new();
    for (name, value) in entries {
        match value {
            Value::Text(text) => {
                found.insert(name, text);
            }
            // Kubernetes takes an empty value for empty text.
            Value::Null => {
                found.insert(name, String::new());
            }
            _ => {
                let at = node.get(&name).map_or(node.span.start, |it| it.span.start);
                let message = format!("`metadata.{key}.{}` is not text", shown(&name));
                faults.push(Fault::new("not-text", message, at).hint("put the value in quotes"));
            }
        }
    }
    Some(found)
}

/// The name that was probably meant, where capitals and blanks are all that is wrong with it.
fn or_plain(text: &str, fits: fn(&str) -> bool, rule: &str) -> String {
    let plain = text.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    match fits(&plain) {
        true => format!("did you mean `{plain}`? {rule}"),
        false => rule.to_owned(),
    }
}

/// A part of an RFC 1123 name: lower-case letters, digits and dashes, none at an end.
fn is_part(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// What Kubernetes takes for a namespace: an RFC 1123 label.
fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// What Kubernetes takes for a name: an RFC 1123 subdomain. It bounds the whole, not its parts.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn shown(text: &str) -> String {
    crate::model::path::escape(text.as_bytes()).chars().take(80).collect()
}
