//! Which of what waits somebody means, for one command.

use super::key::Key;
use super::rules::like;
use serde::{Deserialize, Serialize};

/// Which drops and resources are meant; a list without entries leaves nothing out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Drops by where they lie in `raw/`, in gitignore syntax.
    #[serde(default)]
    pub files: Vec<String>,
    /// Resources of these kinds.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Resources with names like these; `*` stands for any letters.
    #[serde(default)]
    pub names: Vec<String>,
    /// Resources in these namespaces; `*` stands for any letters.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

impl Selection {
    /// One resource.
    pub fn one(key: &Key) -> Selection {
        Selection {
            files: Vec::new(),
            kinds: vec![key.kind.clone()],
            names: vec![key.name.clone()],
            namespaces: vec![key.namespace.clone()],
        }
    }

    /// Says whether it tells resources apart.
    pub fn is_of_resources(&self) -> bool {
        !(self.kinds.is_empty() && self.names.is_empty() && self.namespaces.is_empty())
    }

    /// Says whether it leaves nothing out.
    pub fn is_everything(&self) -> bool {
        self.files.is_empty() && !self.is_of_resources()
    }

    /// Says whether a resource is meant.
    pub fn takes(&self, key: &Key) -> bool {
        let any = |list: &[String], is: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|it| is(it))
        };
        any(&self.kinds, &|it| it.eq_ignore_ascii_case(&key.kind))
            && any(&self.names, &|it| like(it, &key.name))
            && any(&self.namespaces, &|it| like(it, &key.namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_list_takes_is_meant() {
        let key = Key {
            group: "vpc.githedgehog.com".into(),
            kind: "VPC".into(),
            namespace: "default".into(),
            name: "vpc-1".into(),
        };
        let of = |kinds: &[&str], names: &[&str], namespaces: &[&str]| {
            let list = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect();
            let (kinds, names, namespaces) = (list(kinds), list(names), list(namespaces));
            Selection { files: Vec::new(), kinds, names, namespaces }.takes(&key)
        };
        assert!(of(&[], &[], &[]) && Selection::one(&key).takes(&key));
        assert!(of(&["switch", "vpc"], &["vpc-*"], &["def*"]));
        assert!(!of(&["switch"], &[], &[]) && !of(&[], &["vpc"], &[]) && !of(&[], &[], &["team"]));
        assert!(!of(&["vpc"], &["vpc-1"], &["team"]));
    }
}
