//! A kind as its CustomResourceDefinition describes it.

use super::schema::Schema;
use super::{Entry, Owner, Scope, Version};
use crate::yaml::parse::parse;
use crate::yaml::value::{Value, resolve};
use crate::yaml::{Limits, Lines};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Says, as an annotation of a definition, who writes resources of its kind: `user`, so that they
/// are managed, or `controller`, so that they are refused.
pub const OWNER_ANNOTATION: &str = "git-intake/owner";
const CONTROLLER: &str = "its definition says that a controller writes it";

/// A kind, as a definition has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The kind; people write it, unless something else is known.
    pub entry: Entry,
    /// Who writes it, where the definition says so.
    pub owner: Option<Owner>,
}

/// Reads the definitions of one file. The error says what is wrong, with its line.
pub fn read(text: &str) -> Result<Vec<Definition>, String> {
    let (documents, fault) = parse(text, Limits::default());
    let lines = Lines::new(text);
    if let Some(fault) = fault {
        let (line, column) = lines.position(fault.at);
        return Err(format!("{line}:{column}: {}", fault.message));
    }
    let mut found = Vec::new();
    for root in documents.iter().filter_map(|it| it.root.as_ref()) {
        let line = lines.line(root.span.start);
        let Value::Map(map) = resolve(root) else {
            return Err(format!("{line}: this document is no CustomResourceDefinition"));
        };
        let items = match (text_of(&map, "kind"), map.get("items")) {
            (Some(kind), Some(Value::List(items))) if kind.ends_with("List") => items.clone(),
            _ => vec![Value::Map(map)],
        };
        for it in &items {
            found.push(definition(it).map_err(|why| format!("{line}: {why}"))?);
        }
    }
    match found.is_empty() {
        true => Err("there is no CustomResourceDefinition in it".to_owned()),
        false => Ok(found),
    }
}

fn definition(value: &Value) -> Result<Definition, String> {
    let empty = BTreeMap::new();
    let map = map_of(Some(value)).unwrap_or(&empty);
    if text_of(map, "kind") != Some("CustomResourceDefinition") {
        return Err("this document is no CustomResourceDefinition".to_owned());
    }
    if text_of(map, "apiVersion") != Some("apiextensions.k8s.io/v1") {
        return Err("only definitions of apiextensions.k8s.io/v1 can be read".to_owned());
    }
    let spec = map_of(map.get("spec")).unwrap_or(&empty);
    let names = map_of(spec.get("names")).unwrap_or(&empty);
    let wanted = |map: &BTreeMap<String, Value>, key: &str| {
        text_of(map, key).map(str::to_owned).ok_or(format!("`{key}` is missing"))
    };
    let (group, kind, plural) =
        (wanted(spec, "group")?, wanted(names, "kind")?, wanted(names, "plural")?);
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if plural.is_empty() || !plural.bytes().all(word) || plural.starts_with('-') {
        return Err(format!("`{}` is no plural", plural.escape_debug()));
    }
    if !group.split('.').all(|it| !it.is_empty() && it.bytes().all(word)) {
        return Err(format!("`{}` is no group", group.escape_debug()));
    }
    let annotations = map_of(map.get("metadata"))
        .and_then(|it| map_of(it.get("annotations")))
        .and_then(|it| text_of(it, OWNER_ANNOTATION));
    let owner = match annotations {
        None => None,
        Some("user") => Some(Owner::User),
        Some("controller") => Some(Owner::Controller(CONTROLLER)),
        Some(_) => return Err(format!("the annotation {OWNER_ANNOTATION} is user or controller")),
    };
    let scope = match text_of(spec, "scope") {
        Some("Cluster") => Scope::Cluster,
        _ => Scope::Namespaced,
    };
    let versions = versions(spec).map_err(|why| format!("{kind}: {why}"))?;
    let entry =
        Entry { group, kind, plural, versions, owner: Owner::User, scope, qualified: false };
    Ok(Definition { entry, owner })
}

/// The versions, with the one that is stored first.
fn versions(spec: &BTreeMap<String, Value>) -> Result<Vec<Version>, String> {
    let Some(Value::List(items)) = spec.get("versions") else {
        return Err("`versions` is missing".to_owned());
    };
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        let Some(map) = map_of(Some(item)) else { continue };
        let name = text_of(map, "name").ok_or("a version has no name")?.to_owned();
        let schema = match map_of(map.get("schema")).and_then(|it| it.get("openAPIV3Schema")) {
            Some(it) => {
                let mut schema = Schema::read(it).map_err(|why| format!("{name}: {why}"))?;
                schema.make_resource();
                Some(Arc::new(schema))
            }
            None => None,
        };
        let is = |key| map.get(key) == Some(&Value::Bool(true));
        found.push((!is("storage"), Version { name, served: is("served"), schema }));
    }
    found.sort_by_key(|it| it.0);
    Ok(found.into_iter().map(|it| it.1).collect())
}

fn map_of(value: Option<&Value>) -> Option<&BTreeMap<String, Value>> {
    match value {
        Some(Value::Map(map)) => Some(map),
        _ => None,
    }
}

fn text_of<'a>(map: &'a BTreeMap<String, Value>, key: &str) -> Option<&'a str> {
    match map.get(key) {
        Some(Value::Text(it)) => Some(it),
        _ => None,
    }
}
