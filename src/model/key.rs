//! Which resource: group, kind, namespace and name.

use super::fabric::FabricName;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::LazyLock;

/// The ids of resources are their own space among UUIDs (RFC 9562, section 6.5).
static SPACE: LazyLock<uuid::Uuid> =
    LazyLock::new(|| uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, b"urn:git-intake:resource"));

/// What an absent namespace means.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The identity of a resource. The version is not part of it: `v1alpha1` and `v1beta1` of one
/// name are the same thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The API group, such as `vpc.githedgehog.com`; empty for the core group.
    pub group: String,
    /// The kind, such as `VPC`.
    pub kind: String,
    /// The namespace; never empty, see [`DEFAULT_NAMESPACE`].
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            DEFAULT_NAMESPACE => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// A resource's id: a UUIDv5 of fabric and key, so that it is the same after a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(pub uuid::Uuid);

impl ResourceId {
    /// The id of `key` in `fabric`.
    pub fn of(fabric: &FabricName, key: &Key) -> ResourceId {
        // NUL cannot occur in any of the parts, so no two keys share a text.
        let text =
            format!("{fabric}\0{}\0{}\0{}\0{}", key.group, key.kind, key.namespace, key.name);
        ResourceId(uuid::Uuid::new_v5(&SPACE, text.as_bytes()))
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_for_ever() {
        let fabric = FabricName::parse("fabric-1").unwrap();
        let key = Key {
            group: "vpc.githedgehog.com".into(),
            kind: "VPC".into(),
            namespace: "default".into(),
            name: "vpc-1".into(),
        };
        let id = ResourceId::of(&fabric, &key);
        assert_eq!(id, ResourceId::of(&fabric, &key));
        assert_eq!(id.0.get_version_num(), 5);
        let other = Key { name: "vpc-2".into(), ..key };
        assert_ne!(id, ResourceId::of(&fabric, &other));
    }
}
