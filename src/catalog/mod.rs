//! Which kinds there are, where their files belong, and who may write them.

mod hedgehog;
pub mod lists;

use std::collections::HashMap;

/// Who writes resources of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// People, through git.
    User,
    /// A controller in the cluster; the text says from what, and what to write instead.
    Controller(&'static str),
}

/// One kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The API group.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The plural, which names its directory.
    pub plural: &'static str,
    /// The versions that the API serves.
    pub served: &'static [&'static str],
    /// Who writes it.
    pub owner: Owner,
    /// The only namespace that the API accepts.
    pub namespace: &'static str,
}

/// The kinds that are known.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// By group, then by kind.
    entries: HashMap<&'static str, HashMap<&'static str, Entry>>,
}

impl Catalog {
    /// Hedgehog's kinds.
    pub fn hedgehog() -> Catalog {
        let mut entries: HashMap<_, HashMap<_, _>> = HashMap::new();
        for it in hedgehog::ENTRIES {
            entries.entry(it.group).or_default().insert(it.kind, it.clone());
        }
        Catalog { entries }
    }

    /// One kind.
    pub fn find(&self, group: &str, kind: &str) -> Option<&Entry> {
        self.entries.get(group)?.get(kind)
    }

    fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().flat_map(HashMap::values)
    }

    /// Says whether a group is Hedgehog's, so that an unknown kind of it is a mistake and not a
    /// foreign resource.
    pub fn is_own_group(&self, group: &str) -> bool {
        group == "githedgehog.com" || group.ends_with(".githedgehog.com")
    }

    /// The kind that was meant, where `kind` is of another group or nearly spelled like it.
    pub fn nearest(&self, kind: &str) -> Option<&Entry> {
        let lower = kind.to_lowercase();
        let near = |it: &&Entry| distance(&it.kind.to_lowercase(), &lower) <= 2;
        self.all()
            .filter(near)
            .min_by_key(|it| (distance(&it.kind.to_lowercase(), &lower), it.kind))
    }
}

/// How many letters two words differ in (Levenshtein's distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (n, x) in a.chars().take(64).enumerate() {
        let mut corner = n;
        row[0] = n + 1;
        for (m, y) in b.iter().enumerate() {
            let swap = corner + usize::from(x != *y);
            corner = row[m + 1];
            row[m + 1] = swap.min(corner + 1).min(row[m] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_user_kinds_share_a_directory() {
        let catalog = Catalog::hedgehog();
        let user = |it: &&Entry| it.owner == Owner::User;
        let mut plurals: Vec<_> = catalog.all().filter(user).map(|it| it.plural).collect();
        let n = plurals.len();
        plurals.sort_unstable();
        plurals.dedup();
        assert_eq!(plurals.len(), n);
    }

    #[test]
    fn a_slip_of_the_pen_finds_its_kind() {
        let catalog = Catalog::hedgehog();
        assert_eq!(catalog.nearest("Conection").map(|it| it.kind), Some("Connection"));
        assert_eq!(catalog.nearest("Deployment"), None);
    }
}
