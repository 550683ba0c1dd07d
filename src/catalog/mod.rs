//! Which kinds there are, where their files belong, who may write them, and what their fields are.
//!
//! Hedgehog's kinds are built in. Definitions (CRDs) that an operator adds come above them: they
//! add kinds, or newer versions of kinds that are known. Under [`Breadth::Any`] Kubernetes' own
//! kinds are known too, and a kind that nobody has described is filed by a rule.

mod definition;
mod form;
mod hedgehog;
mod judge;
mod kubernetes;
pub mod lists;
mod near;
pub mod references;
mod schema;

pub use definition::{Definition, OWNER_ANNOTATION, read as read_definitions};
pub use judge::{Finding, Weight, boolean_word, judge};
pub use near::nearest;
pub use schema::{Bounds, ListType, Pattern, Range, Rule, Schema, Sort};

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

/// How many kinds are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breadth {
    /// Hedgehog's kinds, and those of the operator's definitions.
    #[default]
    Hedgehog,
    /// Every kind in the manner of Kubernetes.
    Any,
}

/// Who writes resources of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// People, through git.
    User,
    /// A controller in the cluster; the text says from what, and what to write instead.
    Controller(&'static str),
}

/// Which namespaces a kind can live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The only one that the API accepts.
    Only(&'static str),
    /// Any.
    Namespaced,
    /// None.
    Cluster,
}

/// One version of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Its name, such as `v1beta1`.
    pub name: String,
    /// The API takes it.
    pub served: bool,
    /// Its fields, where they are known.
    pub schema: Option<Arc<Schema>>,
}

/// One kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The API group; empty for Kubernetes' core.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The plural, which names its directory.
    pub plural: String,
    /// Its versions, with the one to write first.
    pub versions: Vec<Version>,
    /// Who writes it.
    pub owner: Owner,
    /// Where it lives.
    pub scope: Scope,
    /// Another kind has the same plural, or may have: the group is part of the directory.
    pub qualified: bool,
}

impl Entry {
    /// The directory of its files, below `managed/`.
    pub fn directory(&self) -> Cow<'_, str> {
        match self.qualified && !self.group.is_empty() {
            true => format!("{}.{}", self.plural, self.group).into(),
            false => self.plural.as_str().into(),
        }
    }

    /// A version that the API takes.
    pub fn served(&self, version: &str) -> Option<&Version> {
        self.versions.iter().find(|it| it.served && it.name == version)
    }

    /// Group and version as one writes them, in the version to write.
    pub fn api_version(&self) -> String {
        let version = self.versions.iter().find(|it| it.served).map_or("v1", |it| &it.name);
        match self.group.as_str() {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }
}

/// The kinds that are known.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// By group, then by kind.
    entries: HashMap<String, HashMap<String, Entry>>,
    breadth: Breadth,
}

impl Catalog {
    /// Hedgehog's kinds.
    pub fn hedgehog() -> Catalog {
        Catalog::new(Breadth::Hedgehog, &[])
    }

    /// The built-in kinds, and above them what `definitions` say.
    pub fn new(breadth: Breadth, definitions: &[Definition]) -> Catalog {
        static BUILT_IN: LazyLock<Vec<Definition>> = LazyLock::new(|| {
            read_definitions(hedgehog::DEFINITIONS).expect("a test reads our own definitions")
        });
        let mut catalog = Catalog { entries: HashMap::new(), breadth };
        for row in hedgehog::ROWS {
            catalog.add(row.entry());
        }
        if breadth == Breadth::Any {
            kubernetes::entries().for_each(|it| catalog.add(it));
        }
        for it in BUILT_IN.iter().chain(definitions) {
            let mut entry = it.entry.clone();
            // What the built-in table knows of owner and namespace, no definition says.
            if let Some(known) = catalog.known(&entry.group, &entry.kind) {
                entry.owner = known.owner;
                if entry.scope == Scope::Namespaced {
                    entry.scope = known.scope;
                }
            }
            entry.owner = it.owner.unwrap_or(entry.owner);
            catalog.add(entry);
        }
        catalog.qualify();
        catalog
    }

    fn add(&mut self, entry: Entry) {
        let group = self.entries.entry(entry.group.clone()).or_default();
        group.insert(entry.kind.clone(), entry);
    }

    /// Kinds that share a plural get their group into their directory, all but the first: ours,
    /// then Kubernetes' core, then by group.
    fn qualify(&mut self) {
        let mut taken: BTreeMap<String, Vec<(bool, String, String)>> = BTreeMap::new();
        for it in self.all().filter(|it| it.owner == Owner::User) {
            let rank = (!self.is_own_group(&it.group), it.group.clone(), it.kind.clone());
            taken.entry(it.plural.clone()).or_default().push(rank);
        }
        for mut sharing in taken.into_values().filter(|it| it.len() > 1) {
            sharing.sort();
            for (_, group, kind) in sharing.into_iter().skip(1) {
                if let Some(it) = self.entries.get_mut(&group).and_then(|it| it.get_mut(&kind)) {
                    it.qualified = true;
                }
            }
        }
    }

    /// One kind; under [`Breadth::Any`] also one that nobody has described, whose plural follows a
    /// rule and whose directory names its group.
    pub fn find(&self, group: &str, kind: &str, version: &str) -> Option<Cow<'_, Entry>> {
        if let Some(it) = self.known(group, kind) {
            return Some(Cow::Borrowed(it));
        }
        (self.breadth == Breadth::Any && !self.is_complete(group)).then(|| {
            Cow::Owned(Entry {
                group: group.to_owned(),
                kind: kind.to_owned(),
                plural: kubernetes::plural(kind),
                versions: vec![Version { name: version.to_owned(), served: true, schema: None }],
                owner: Owner::User,
                scope: Scope::Namespaced,
                qualified: true,
            })
        })
    }

    /// One kind that somebody has described.
    pub fn known(&self, group: &str, kind: &str) -> Option<&Entry> {
        self.entries.get(group)?.get(kind)
    }

    /// What is known of the fields of one kind, in one version.
    pub fn schema(&self, group: &str, kind: &str, version: &str) -> Option<&Schema> {
        self.known(group, kind)?.served(version)?.schema.as_deref()
    }

    fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().flat_map(HashMap::values)
    }

    /// Says whether a group is Hedgehog's.
    fn is_own_group(&self, group: &str) -> bool {
        group == "githedgehog.com" || group.ends_with(".githedgehog.com")
    }

    /// Says whether all kinds of a group are known, so that another one is a mistake and not a
    /// foreign resource.
    pub fn is_complete(&self, group: &str) -> bool {
        self.is_own_group(group) || (self.breadth == Breadth::Any && kubernetes::is_group(group))
    }

    /// The kind that was meant, where `kind` is of another group or nearly spelled like it.
    pub fn nearest(&self, kind: &str) -> Option<&Entry> {
        let near = nearest(kind, self.all().map(|it| it.kind.as_str()))?;
        self.all()
            .filter(|it| it.kind == near)
            .min_by_key(|it| (!self.is_own_group(&it.group), &it.group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - {name: v1alpha1, served: false, storage: false}
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {size: {type: integer}}}}
";

    fn with(breadth: Breadth, text: &str) -> Catalog {
        Catalog::new(breadth, &read_definitions(text).unwrap())
    }

    #[test]
    fn no_two_user_kinds_share_a_directory() {
        for breadth in [Breadth::Hedgehog, Breadth::Any] {
            let catalog = Catalog::new(breadth, &[]);
            let user = |it: &&Entry| it.owner == Owner::User;
            let mut dirs: Vec<_> = catalog.all().filter(user).map(Entry::directory).collect();
            let n = dirs.len();
            dirs.sort_unstable();
            dirs.dedup();
            assert_eq!(dirs.len(), n);
        }
    }

    #[test]
    fn every_kind_that_people_write_has_its_fields_known() {
        let catalog = Catalog::hedgehog();
        for it in catalog.all().filter(|it| it.owner == Owner::User) {
            let known = it.versions.iter().all(|it| it.schema.is_some());
            // No definition of this one has been published.
            assert_eq!(known, it.kind != "Fabric", "{}", it.kind);
            let only = matches!(it.scope, Scope::Only(_));
            assert_eq!(only, it.kind != "Gateway", "{}", it.kind);
        }
    }

    #[test]
    fn a_slip_of_the_pen_finds_its_kind() {
        let catalog = Catalog::hedgehog();
        assert_eq!(catalog.nearest("Conection").map(|it| it.kind.as_str()), Some("Connection"));
        assert_eq!(catalog.nearest("Deployment"), None);
    }

    #[test]
    fn a_definition_adds_a_kind_with_its_versions() {
        let catalog = with(Breadth::Hedgehog, DEFINITION);
        let it = catalog.known("example.com", "Widget").unwrap();
        assert_eq!((it.directory().as_ref(), it.scope), ("widgets", Scope::Namespaced));
        assert_eq!(it.api_version(), "example.com/v1");
        assert!(it.served("v1").is_some() && it.served("v1alpha1").is_none());
        let size = catalog.schema("example.com", "Widget", "v1").unwrap().at(&["spec", "size"]);
        assert_eq!(size.map(|it| it.sort), Some(Sort::Integer));
    }

    #[test]
    fn a_definition_of_ours_brings_versions_and_leaves_the_rest() {
        let text = DEFINITION
            .replace("example.com", "vpc.githedgehog.com")
            .replace("Widget", "VPC")
            .replace("widgets", "vpcs");
        let catalog = with(Breadth::Hedgehog, &text);
        let it = catalog.known("vpc.githedgehog.com", "VPC").unwrap();
        assert!(it.served("v1").is_some() && it.served("v1beta1").is_none());
        assert_eq!(it.scope, Scope::Only("default"));
        let agent = |annotation: &str| {
            let text = DEFINITION
                .replace("example.com", "agent.githedgehog.com")
                .replace("Widget", "Agent")
                .replace("{name:", &format!("{{{annotation} name:"));
            let catalog = with(Breadth::Hedgehog, &text);
            catalog.known("agent.githedgehog.com", "Agent").unwrap().owner
        };
        assert!(matches!(agent(""), Owner::Controller(_)));
        assert_eq!(agent("annotations: {git-intake/owner: user},"), Owner::User);
    }

    #[test]
    fn plurals_that_collide_get_their_group() {
        let text = DEFINITION.replace("Widget", "Server").replace("widgets", "servers");
        let catalog = with(Breadth::Hedgehog, &text);
        let dir = |group, kind| catalog.known(group, kind).unwrap().directory().into_owned();
        assert_eq!(dir("wiring.githedgehog.com", "Server"), "servers");
        assert_eq!(dir("example.com", "Server"), "servers.example.com");
        let any = Catalog::new(Breadth::Any, &[]);
        let dir = |group, kind| any.find(group, kind, "v1").unwrap().directory().into_owned();
        assert_eq!(dir("", "Event"), "events");
        assert_eq!(dir("events.k8s.io", "Event"), "events.events.k8s.io");
        assert_eq!(dir("some.org", "Policy"), "policies.some.org");
        assert!(any.find("apps", "Deploymnt", "v1").is_none(), "a slip in a group that is known");
        assert!(Catalog::hedgehog().find("some.org", "Policy", "v1").is_none());
    }

    #[test]
    fn a_definition_with_a_mistake_is_told_with_its_line() {
        let told = |text: &str| read_definitions(text).unwrap_err();
        assert!(told("a: [\n").starts_with("1:4: "), "{}", told("a: [\n"));
        assert!(told("# x\nkind: ConfigMap\n").starts_with("2: "));
        assert!(told("").contains("no CustomResourceDefinition"));
        let slip =
            DEFINITION.replace("size: {type: integer}", "size: {type: string, pattern: '('}");
        let text = told(&slip);
        assert!(text.contains("Widget: v1: spec: size: pattern"), "{text}");
        assert!(told(&DEFINITION.replace("widgets}", "../x}")).contains("no plural"));
    }
}
