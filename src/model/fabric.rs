//! A fabric: one GitOps directory in a repository, with its inbox, its files and its leftovers.

use super::path::{PathError, RepoPath};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A fabric's name: lower-case letters, digits and dashes, at most 63 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FabricName(String);

impl FabricName {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<FabricName, String> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = !text.is_empty()
            && text.len() <= 63
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits {
            Ok(FabricName(text.to_owned()))
        } else {
            Err(format!(
                "`{}` cannot name a fabric: use 1 to 63 lower-case letters, digits and dashes, such as fabric-1",
                super::path::escape(text.as_bytes())
            ))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FabricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FabricName {
    type Error = String;
    fn try_from(text: String) -> Result<FabricName, String> {
        FabricName::parse(&text)
    }
}

impl From<FabricName> for String {
    fn from(name: FabricName) -> String {
        name.0
    }
}

/// Whose name a commit bears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
}

/// Where the file of a resource lies below the directory of its kind.
///
/// Only what is new goes where this says: what has a file already keeps it, wherever it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// All in one directory.
    #[default]
    Flat,
    /// In one of 256 directories, by the digest of the name: each commit costs a directory's tree,
    /// and the tree of one in which everything lies grows with everything.
    Sharded,
}

/// One GitOps directory in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fabric {
    /// What people call it.
    pub name: FabricName,
    /// Where it lies in the repository; the top means the repository is one fabric.
    pub dir: RepoPath,
    /// Where new files lie in it.
    pub layout: Layout,
}

impl Fabric {
    /// A flat one.
    pub fn flat(name: FabricName, dir: RepoPath) -> Fabric {
        Fabric { name, dir, layout: Layout::Flat }
    }

    /// The inbox.
    pub fn raw(&self) -> RepoPath {
        self.dir.join_fixed("raw")
    }

    /// Where each resource has its one file.
    pub fn managed(&self) -> RepoPath {
        self.dir.join_fixed("managed")
    }

    /// What is nobody's business: never read, moved or rewritten.
    pub fn unmanaged(&self) -> RepoPath {
        self.dir.join_fixed("unmanaged")
    }

    /// Says whether a path of git's is below one of the three directories.
    pub fn owns(&self, path: &[u8]) -> bool {
        [self.raw(), self.managed(), self.unmanaged()].iter().any(|dir| {
            let below = path.strip_prefix(dir.as_str().as_bytes());
            below.is_some_and(|it| it.first() == Some(&b'/'))
        })
    }

    /// The ref that keeps the originals of what was filed.
    pub fn archive_ref(&self) -> String {
        format!("refs/intake/archive/{}", self.name)
    }

    /// The canonical file of a resource below `managed/`:
    /// `<plural>/<name>.yaml`, or `<plural>/<namespace>/<name>.yaml` outside of `default`; sharded,
    /// the name stands in a directory `_<two digits>`, which no namespace can be called.
    pub fn managed_path(&self, plural: &str, key: &super::key::Key) -> Result<RepoPath, PathError> {
        let mut stem = key.name.clone();
        // A name may be 253 characters; with the extension that is too long for a file.
        let too_long = stem.len() + ".yaml".len() > super::path::COMPONENT_BYTES_MAX;
        // Kustomize, and Flux with it, takes a file of this name for its own, in any directory.
        if too_long || stem == "kustomization" {
            let digest = super::digest::Sha256::of(stem.as_bytes()).short();
            stem.truncate(200);
            stem = format!("{}-{digest}", stem.trim_end_matches(['.', '-']));
        }
        let mut tail = format!("{plural}/");
        if key.namespace != super::key::DEFAULT_NAMESPACE {
            tail.push_str(&key.namespace);
            tail.push('/');
        }
        if self.layout == Layout::Sharded {
            let digest = super::digest::Sha256::of(key.name.as_bytes()).short();
            tail.push_str(&format!("_{}/", &digest[..2]));
        }
        self.managed().join(&format!("{tail}{stem}.yaml"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::Key;

    fn path(layout: Layout, namespace: &str, name: &str) -> String {
        let mut it = Fabric::flat(FabricName::parse("f").unwrap(), RepoPath::parse("f").unwrap());
        it.layout = layout;
        let key = Key {
            group: "vpc.githedgehog.com".to_owned(),
            kind: "VPC".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        it.managed_path("vpcs", &key).unwrap().to_string()
    }

    #[test]
    fn a_resource_lies_in_its_kind_its_namespace_and_its_shard() {
        assert_eq!(path(Layout::Flat, "default", "a"), "f/managed/vpcs/a.yaml");
        assert_eq!(path(Layout::Flat, "x", "a"), "f/managed/vpcs/x/a.yaml");
        assert_eq!(path(Layout::Sharded, "default", "a"), "f/managed/vpcs/_ca/a.yaml");
        assert_eq!(path(Layout::Sharded, "x", "a"), "f/managed/vpcs/x/_ca/a.yaml");
        assert_eq!(path(Layout::Sharded, "default", "b"), "f/managed/vpcs/_3e/b.yaml");
    }

    #[test]
    fn no_resource_gets_a_file_that_other_tools_take_for_their_own() {
        let own = path(Layout::Flat, "default", "kustomization");
        assert_eq!(own, "f/managed/vpcs/kustomization-59ee43019cb1.yaml");
    }
}
