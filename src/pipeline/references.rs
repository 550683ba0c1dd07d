//! What a drop names, against the drop and the managed set together.
//!
//! A name that leads nowhere is a warning and never keeps a file out: what it names may come in the
//! next drop, or live in the cluster alone. Nothing is said of kinds of which neither the drops nor
//! the managed set hold any: a repository that does not keep its wiring cannot miss a connection.

use super::place::Shown;
use crate::catalog::nearest;
use crate::model::document::{Classified, Document, Naming, Verdict};
use crate::model::key::Key;
use crate::model::problem::Problem;
use std::collections::{HashMap, HashSet};

/// More warnings than this about one file help nobody.
const WARNINGS_MAX: usize = 50;

/// The managed set, as far as it is asked.
pub trait Managed {
    /// Why it cannot be asked.
    type Error;
    /// What others may name of a resource, where it is managed.
    fn parts(&mut self, key: &Key) -> Result<Option<Vec<String>>, Self::Error>;
    /// Says whether any resource of a kind is managed.
    fn keeps(&mut self, group: &str, kind: &str) -> Result<bool, Self::Error>;
}

/// What is known together: what comes now, and what is there.
pub struct Known<'a, M> {
    coming: HashMap<Key, Vec<String>>,
    kinds: HashSet<(String, String)>,
    managed: &'a mut M,
}

impl<'a, M: Managed> Known<'a, M> {
    /// Begins with what is managed.
    pub fn over(managed: &'a mut M) -> Known<'a, M> {
        Known { coming: HashMap::new(), kinds: HashSet::new(), managed }
    }

    /// Adds what comes.
    pub fn add(&mut self, key: &Key, parts: &[String]) {
        self.kinds.insert((key.group.clone(), key.kind.clone()));
        self.coming.insert(key.clone(), parts.to_vec());
    }

    /// Says what is wrong with a name that a resource in `namespace` uses, if anything is.
    pub fn judge(&mut self, namespace: &str, naming: &Naming) -> Result<Option<Problem>, M::Error> {
        let Naming { field, kinds, name, part } = naming;
        let mut kept = false;
        for (group, kind) in *kinds {
            let key = Key {
                group: (*group).to_owned(),
                kind: (*kind).to_owned(),
                namespace: namespace.to_owned(),
                name: name.clone(),
            };
            let parts = match self.coming.get(&key) {
                Some(parts) => Some(parts.clone()),
                None => self.managed.parts(&key)?,
            };
            match (parts, part) {
                (Some(parts), Some(part)) if !parts.contains(part) => {
                    let message =
                        format!("{field} names {part} of {key}, which has no such subnet");
                    let hint = match nearest(part, parts.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean {name}/{near}?"),
                        None => format!("it has {}", parts.join(", ")),
                    };
                    return Ok(Some(Problem::warning("dangling-reference", message).hint(hint)));
                }
                (Some(_), _) => return Ok(None),
                (None, _) => kept |= self.keeps(group, kind)?,
            }
        }
        if !kept {
            return Ok(None);
        }
        let words: Vec<&str> = kinds.iter().map(|it| it.1).collect();
        let what = words.join(" or ");
        let message = format!("{field} names the {what} {name}, which is neither here nor managed");
        let coming = self.coming.keys().filter(|it| words.contains(&it.kind.as_str()));
        let hint = match nearest(name, coming.map(|it| it.name.as_str())) {
            Some(near) => format!("did you mean {near}? Else drop it too"),
            None => {
                "check the name, or drop it too; the fabric refuses names of nothing".to_owned()
            }
        };
        Ok(Some(Problem::warning("dangling-reference", message).hint(hint)))
    }

    fn keeps(&mut self, group: &str, kind: &str) -> Result<bool, M::Error> {
        let pair = (group.to_owned(), kind.to_owned());
        if self.kinds.contains(&pair) {
            return Ok(true);
        }
        let kept = self.managed.keeps(group, kind)?;
        if kept {
            self.kinds.insert(pair);
        }
        Ok(kept)
    }
}

/// Adds a warning for each name in the drops that leads nowhere.
pub fn warn<M: Managed>(classified: &mut [Classified], managed: &mut M) -> Result<(), M::Error> {
    let mut known = Known::over(managed);
    for document in classified.iter().flat_map(filed) {
        known.add(&document.key, &document.parts);
    }
    for it in classified {
        let shown = Shown::of(&it.intake);
        let mut warnings = Vec::new();
        for document in filed(it) {
            for (naming, mark) in &document.namings {
                if warnings.len() < WARNINGS_MAX
                    && let Some(problem) = known.judge(&document.key.namespace, naming)?
                {
                    warnings.push(shown.place(problem, document, *mark));
                }
            }
        }
        it.warnings.extend(warnings);
    }
    Ok(())
}

/// What a file that would be filed brings, and what it names, each name with its place.
#[derive(Debug, Clone)]
pub struct Brought {
    /// Which resource.
    pub key: Key,
    /// What others may name of it.
    pub parts: Vec<String>,
    /// What it names; the problem has the place and no words yet.
    pub namings: Vec<(Naming, Problem)>,
}

/// The same for those who look at the names only when every file has been read.
pub fn brought(it: &Classified) -> Vec<Brought> {
    let shown = Shown::of(&it.intake);
    let blank = || Problem::warning("dangling-reference", "");
    let of = |document: &Document| Brought {
        key: document.key.clone(),
        parts: document.parts.clone(),
        namings: document
            .namings
            .iter()
            .map(|(naming, mark)| (naming.clone(), shown.place(blank(), document, *mark)))
            .collect(),
    };
    filed(it).map(of).collect()
}

fn filed(it: &Classified) -> impl Iterator<Item = &Document> {
    let managed = it.judged.iter().filter(|it| matches!(it.verdict, Verdict::Managed { .. }));
    managed.map(|it| &it.document)
}
