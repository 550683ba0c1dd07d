//! Which references a push means: refspecs, against what is here and what is there.

use gix::{
    ObjectId,
    bstr::{BString, ByteSlice},
};
use std::collections::BTreeMap;

use super::{
    args::Asked,
    here::{Here, Local, Remote, git, mapped, object},
};
use git_intake::push::{Expect, RefUpdate};

/// One refspec, taken apart.
pub struct Refspec {
    force: bool,
    from: String,
    to: Option<String>,
    /// `:`, all branches that both sides have.
    matching: bool,
}

/// One reference to be moved.
pub struct Spec {
    /// What it is called here; nothing to delete.
    pub from: String,
    pub update: RefUpdate,
    /// A lease that force overrides would have been stale.
    pub forced: bool,
}

/// Why there is nothing to push.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// Git's words fit as they are.
    #[error("{0}")]
    Said(String),
    /// Git can say it better, and nothing has been pushed.
    #[error("it is git's to explain")]
    Gits,
}

type Names = BTreeMap<BString, ObjectId>;

impl Refspec {
    /// Takes one apart; none if git would refuse it, or it subtracts.
    pub fn parse(text: &str) -> Option<Refspec> {
        let (force, text) = match text.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if text.starts_with('^') {
            return None;
        }
        if text == ":" {
            return Some(Refspec { force, from: String::new(), to: None, matching: true });
        }
        let (from, to) = match text.rsplit_once(':') {
            Some((from, to)) => (from, Some(to.to_owned())),
            None => (text, None),
        };
        let stars = |it: &str| it.matches('*').count();
        let fits = to.as_ref().is_none_or(|it| stars(it) == stars(from)) && stars(from) <= 1;
        let valid = |it: &str| {
            let name = format!("refs/heads/{}", it.replace('*', "x"));
            gix::validate::reference::name(name.as_bytes().as_bstr()).is_ok()
        };
        let named = to.as_deref().unwrap_or(from);
        if !fits || !valid(named) {
            return None;
        }
        let from = if from == "@" { "HEAD" } else { from };
        Some(Refspec { force, from: from.to_owned(), to, matching: false })
    }

    fn is_pattern(&self) -> bool {
        self.from.contains('*')
    }
}

/// The refspecs that the words and the settings ask for; none if git would refuse them.
pub fn asked(asked: &Asked, here: &Here, remote: &Remote) -> Option<Vec<Refspec>> {
    let mut texts = Vec::new();
    let mut words = asked.rest.iter().skip(1);
    while let Some(word) = words.next() {
        texts.push(match (word.as_str(), asked.delete) {
            ("tag", true) => format!(":refs/tags/{}", words.next()?),
            ("tag", false) => format!("refs/tags/{}", words.next()?),
            (name, true) if name.is_empty() || name.contains(':') => return None,
            (name, true) => format!(":{name}"),
            (name, false) if name.contains(':') => name.to_owned(),
            (name, false) => completed(name, here, remote)?,
        });
    }
    if asked.tags {
        texts.push("refs/tags/*".into());
    }
    if texts.is_empty() && !asked.all {
        texts = match (remote.push.is_empty(), asked.mirror) {
            (false, _) => remote.push.clone(),
            (true, true) => Vec::new(),
            (true, false) => vec![default(here, remote)?],
        };
    }
    if texts.is_empty() {
        texts.push(":".into());
    }
    let specs: Option<Vec<_>> = texts.iter().map(|it| Refspec::parse(it)).collect();
    let specs = specs?;
    // What is not here is not worth a connection.
    for spec in specs.iter().filter(|it| !it.matching && !it.is_pattern()) {
        let here = here.refs.iter().map(|it| it.name.as_str());
        match fitting(&spec.from, here) {
            Fit::One(_) => {}
            Fit::None if spec.from.is_empty() || object(&spec.from).is_some() => {}
            Fit::None | Fit::Many => return None,
        }
    }
    Some(specs)
}

/// A name without a colon, as the remote's refspecs or the upstream would have it.
fn completed(name: &str, here: &Here, remote: &Remote) -> Option<String> {
    let Fit::One(full) = fitting(name, here.refs.iter().map(|it| it.name.as_str())) else {
        return Some(name.to_owned());
    };
    for text in &remote.push {
        let spec = Refspec::parse(text)?;
        let Some(to) = &spec.to else { continue };
        let plus = if spec.force { "+" } else { "" };
        if spec.from == full {
            return Some(format!("{plus}{full}:{to}"));
        }
        if let Some(to) = mapped(&spec.from, full, to) {
            return Some(format!("{plus}{full}:{to}"));
        }
    }
    if here.get("push.default") == Some("upstream")
        && let Some(branch) = full.strip_prefix("refs/heads/")
        && let [merge] = &here.all(&format!("branch.{branch}.merge"))[..]
    {
        return Some(format!("{name}:{merge}"));
    }
    Some(name.to_owned())
}

/// What a push without refspecs means; none where git has something to explain.
fn default(here: &Here, remote: &Remote) -> Option<String> {
    let kind = here.get("push.default").unwrap_or("simple");
    if kind == "matching" {
        return Some(":".into());
    }
    let full = here.head.as_deref()?;
    let branch = full.strip_prefix("refs/heads/")?;
    let merges = here.all(&format!("branch.{branch}.merge"));
    let same = remote.name == here.upstream_remote();
    let known = here.get(&format!("branch.{branch}.remote")).is_some();
    let upstream = match &merges[..] {
        [one] if known => Some(one.as_str()),
        _ => None,
    };
    let to = match kind {
        "current" => full,
        "simple" if !same || upstream == Some(full) => full,
        "upstream" if same => upstream?,
        _ => return None,
    };
    if here.is_on("push.autosetupremote") {
        return None;
    }
    Some(format!("{full}:{to}"))
}

enum Fit<'a> {
    None,
    One(&'a str),
    Many,
}

/// The reference that a short name means.
fn fitting<'a>(short: &str, names: impl Iterator<Item = &'a str>) -> Fit<'a> {
    let (mut strong, mut weak) = (Vec::new(), Vec::new());
    for name in names {
        let forms = ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"];
        let ends_with = |form: &str| name.strip_prefix(form) == Some(short);
        let remote_head =
            name.strip_prefix("refs/remotes/").and_then(|it| it.strip_suffix("/HEAD"));
        if !forms.iter().any(|it| ends_with(it)) && remote_head != Some(short) {
            continue;
        }
        let spelled_out = name == short || name.strip_prefix("refs/") == Some(short);
        if spelled_out || name.starts_with("refs/heads/") || name.starts_with("refs/tags/") {
            strong.push(name);
        } else {
            weak.push(name);
        }
    }
    match (&strong[..], &weak[..]) {
        ([one], _) => Fit::One(one),
        ([], [one]) => Fit::One(one),
        ([], []) => Fit::None,
        _ => Fit::Many,
    }
}

/// What is to be moved, in git's order: what is there first, by name, then what is new.
struct Chosen<'a> {
    there: &'a Names,
    new: Vec<BString>,
    peers: BTreeMap<BString, (Option<Local>, bool)>,
}

impl<'a> Chosen<'a> {
    fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.there.keys().chain(&self.new);
        all.filter_map(|it| it.to_str().ok()).filter(|it| it.starts_with("refs/"))
    }

    fn add(&mut self, name: &str, source: Option<Local>, force: bool) {
        let name = BString::from(name);
        if !self.there.contains_key(&name) && !self.new.contains(&name) {
            self.new.push(name.clone());
        }
        self.peers.insert(name, (source, force));
    }
}

/// Resolves refspecs as git does.
pub fn choose(
    asked: &Asked,
    here: &Here,
    remote: &Remote,
    specs: &[Refspec],
    there: &Names,
) -> Result<Vec<Spec>, Vec<Wrong>> {
    let mut chosen = Chosen { there, new: Vec::new(), peers: BTreeMap::new() };
    let mut wrong = Vec::new();
    for spec in specs.iter().filter(|it| !it.matching && !it.is_pattern()) {
        if let Err(err) = explicit(&mut chosen, here, spec) {
            wrong.push(err);
        }
    }
    for local in &here.refs {
        let Some((to, spec)) = counterpart(specs, &local.name, asked.mirror, false) else {
            continue;
        };
        let exists = chosen.names().any(|it| it == to);
        let skip = !exists && spec.matching && !asked.all && !asked.mirror;
        if !skip && !chosen.peers.contains_key(to.as_bytes().as_bstr()) {
            chosen.add(&to, Some(local.clone()), spec.force);
        }
    }
    if asked.follow_tags.unwrap_or_else(|| here.is_on("push.followtags")) {
        follow_tags(&mut chosen, here);
    }
    if asked.prune || asked.mirror {
        let known = here.by_name();
        let names: Vec<_> = chosen.names().map(str::to_owned).collect();
        for name in names {
            let free = !chosen.peers.contains_key(name.as_bytes().as_bstr());
            let source = counterpart(specs, &name, asked.mirror, true);
            if free && source.is_some_and(|it| !known.contains_key(it.0.as_str())) {
                chosen.add(&name, None, false);
            }
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let order: Vec<_> = there.keys().chain(&chosen.new).cloned().collect();
    let peers = order.into_iter().filter_map(|it| chosen.peers.remove(&it).map(|peer| (it, peer)));
    peers.map(|(name, peer)| update(asked, here, remote, there, name, peer)).collect()
}

fn explicit(chosen: &mut Chosen<'_>, here: &Here, spec: &Refspec) -> Result<(), Wrong> {
    let known = here.by_name();
    let source = match fitting(&spec.from, known.keys().copied()) {
        Fit::One(name) => Some(known[name].clone()),
        _ if spec.from.is_empty() => None,
        _ => {
            let id = object(&spec.from).ok_or(Wrong::Gits)?;
            Some(Local { name: spec.from.clone(), id, is_tag_object: false })
        }
    };
    let resolved = |local: &Local| here.resolve(&local.name);
    let to = match (&spec.to, &source) {
        (Some(to), _) => to.clone(),
        (None, Some(local)) => resolved(local).ok_or(Wrong::Gits)?,
        (None, None) => return Err(Wrong::Gits),
    };
    let target = match fitting(&to, chosen.names()) {
        Fit::One(name) => name.to_owned(),
        Fit::Many => return Err(Wrong::Said(format!("dst refspec {to} matches more than one"))),
        Fit::None if to.starts_with("refs/") => to,
        Fit::None => {
            let Some(local) = &source else {
                let text = format!("unable to delete '{to}': remote ref does not exist");
                return Err(Wrong::Said(text));
            };
            let full = resolved(local).ok_or(Wrong::Gits)?;
            let kind = ["refs/heads/", "refs/tags/"].into_iter().find(|it| full.starts_with(it));
            format!("{}{to}", kind.ok_or(Wrong::Gits)?)
        }
    };
    if chosen.peers.contains_key(target.as_bytes().as_bstr()) {
        return Err(Wrong::Said(format!("dst ref {target} receives from more than one src")));
    }
    chosen.add(&target, source, spec.force);
    Ok(())
}

/// What a name becomes on the other side by a pattern, or by matching; `back` asks from there.
fn counterpart<'a>(
    specs: &'a [Refspec],
    name: &str,
    mirror: bool,
    back: bool,
) -> Option<(String, &'a Refspec)> {
    let mut matching = None;
    for spec in specs {
        if spec.matching {
            if matching.is_none() || spec.force {
                matching = Some(spec);
            }
        } else if spec.is_pattern() {
            let to = spec.to.as_deref().unwrap_or(&spec.from);
            let (from, to) = if back { (to, spec.from.as_str()) } else { (spec.from.as_str(), to) };
            if let Some(to) = mapped(from, name, to) {
                return Some((to, spec));
            }
        }
    }
    let spec = matching?;
    (mirror || name.starts_with("refs/heads/")).then(|| (name.to_owned(), spec))
}

/// Adds the annotated tags that lie on what the remote is going to have.
fn follow_tags(chosen: &mut Chosen<'_>, here: &Here) {
    let moved = chosen.peers.values().filter_map(|it| it.0.as_ref()).map(|it| it.id);
    let kept = chosen.there.iter().filter(|it| !chosen.peers.contains_key(it.0)).map(|it| *it.1);
    let tips: Vec<_> = moved.chain(kept).map(|it| it.to_string()).collect();
    for tag in here.refs.iter().filter(|it| it.is_tag_object && it.name.starts_with("refs/tags/")) {
        let absent = !chosen.names().any(|it| it == tag.name);
        let on = |tip: &String| git(&["merge-base", "--is-ancestor", &tag.name, tip]).is_some();
        if absent && tips.iter().any(on) {
            chosen.add(&tag.name, Some(tag.clone()), false);
        }
    }
}

fn update(
    asked: &Asked,
    here: &Here,
    remote: &Remote,
    there: &Names,
    name: BString,
    (source, force): (Option<Local>, bool),
) -> Result<Spec, Vec<Wrong>> {
    let null = gix::hash::Kind::Sha1.null();
    let new = source.as_ref().map_or(null, |it| it.id);
    let old = there.get(&name).copied().unwrap_or(null);
    let lease = lease(asked, here, remote, &name.to_str_lossy()).map_err(|it| vec![it])?;
    let force = force || asked.force || asked.mirror;
    let expect = match lease {
        _ if force => Expect::Force,
        Some(id) => Expect::Exactly(id),
        None => Expect::FastForward,
    };
    let forced = force && lease.is_some_and(|it| it != old) && !old.is_null();
    let from = source.map(|it| it.name).unwrap_or_default();
    Ok(Spec { from, update: RefUpdate { name, new, expect }, forced })
}

/// What the remote's reference must be.
fn lease(
    asked: &Asked,
    here: &Here,
    remote: &Remote,
    name: &str,
) -> Result<Option<ObjectId>, Wrong> {
    let null = gix::hash::Kind::Sha1.null();
    // What is not followed here must not be there either.
    let seen = || here.tracking(remote, name).and_then(|it| object(&it)).unwrap_or(null);
    for lease in asked.leases.iter().flatten() {
        let (which, expected) = match lease.split_once(':') {
            Some((which, expected)) => (which, Some(expected)),
            None => (lease.as_str(), None),
        };
        if matches!(fitting(which, [name].into_iter()), Fit::One(_)) {
            return Ok(Some(match expected {
                Some("") => null,
                Some(revision) => object(revision).ok_or(Wrong::Gits)?,
                None => seen(),
            }));
        }
    }
    Ok(asked.leases.iter().any(Option::is_none).then(seen))
}
