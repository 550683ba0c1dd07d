//! In which order objects go into the pack, and as what.
//!
//! A delta that lies in a local pack is sent as it is if its base is sent too, or is with the
//! remote; bases come first. Where deltas of several packs lean on each other, one is sent whole.

use gix::{ObjectId, hashtable::HashMap};

use super::{
    reuse::{Form, Packs, Place},
    walk::Wanted,
};

/// The longest chain of deltas.
const DELTA_DEPTH_MAX: u16 = 50;

/// What is compressed to so little is sent whole: the name of a base alone takes 20 bytes.
const WHOLE_BYTES_MAX: usize = 64;

/// One object of the pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Which of the wanted objects.
    pub(crate) at: u32,
    /// What it may be a delta against.
    pub(crate) base: Option<ObjectId>,
    /// An entry that may be copied: a delta against `base`, or the whole object.
    pub(crate) place: Option<Place>,
    /// The entry is a delta, so that without its base it is of no use.
    leans: bool,
}

/// Decides on all objects. Bases that are sent come before what leans on them.
pub(crate) fn plan(
    wanted: &[Wanted],
    positions: &HashMap<ObjectId, u32>,
    packs: &Packs,
    thin: bool,
) -> Vec<Planned> {
    let mut planned: Vec<_> = (0u32..)
        .zip(wanted)
        .map(|(at, object)| choose(at, object, wanted, positions, packs, thin))
        .collect();
    let mut ranks = vec![0u32; planned.len()];
    for (rank, at) in (0u32..).zip(order(&mut planned, positions)) {
        ranks[at as usize] = rank;
    }
    // In place: a second list would be the largest thing held.
    planned.sort_unstable_by_key(|it| ranks[it.at as usize]);
    planned
}

fn choose(
    at: u32,
    object: &Wanted,
    wanted: &[Wanted],
    positions: &HashMap<ObjectId, u32>,
    packs: &Packs,
    thin: bool,
) -> Planned {
    let base = object.base.filter(|it| thin || positions.contains_key(it));
    let planned = Planned { at, base, place: None, leans: false };
    // A delta of the walk's own is at hand; one that lies in a pack saves compressing it.
    let own_bytes = object.delta.as_ref().filter(|_| base.is_some()).map(|it| it.len());
    let Some(place) = packs.find(object.id) else { return planned };
    let entry = packs.entry(place);
    let is_larger = |own| entry.as_ref().is_none_or(|it| it.compressed.len() > own);
    if own_bytes.is_some_and(is_larger) {
        return planned;
    }
    match entry.as_ref().map(|it| it.form) {
        Some(Form::Whole(kind)) if kind == object.kind && own_bytes.is_none() => {
            if entry.is_some_and(|it| it.compressed.len() <= WHOLE_BYTES_MAX) {
                return Planned { base: None, place: Some(place), ..planned };
            }
            // Whoever made the pack had both and kept this one whole: another try gains little.
            let together =
                |base: &ObjectId| packs.find(*base).is_some_and(|it| it.pack == place.pack);
            Planned { base: base.filter(|it| !together(it)), place: Some(place), ..planned }
        }
        Some(Form::Delta(on)) => {
            let sent =
                positions.get(&on).is_some_and(|it| wanted[*it as usize].kind == object.kind);
            if sent || base == Some(on) {
                return Planned { base: Some(on), place: Some(place), leans: true, ..planned };
            }
            planned
        }
        Some(Form::Whole(_)) | None => planned,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    /// Its base is being placed first.
    Waits,
    Placed,
}

fn order(planned: &mut [Planned], positions: &HashMap<ObjectId, u32>) -> Vec<u32> {
    let mut marks = vec![Mark::New; planned.len()];
    let mut depths = vec![0u16; planned.len()];
    let mut order = Vec::with_capacity(planned.len());
    let mut stack = Vec::new();
    for first in (0u32..).take(planned.len()) {
        stack.push(first);
        while let Some(top) = stack.last().copied() {
            let at = top as usize;
            let base = planned[at].base.and_then(|it| positions.get(&it).copied());
            let before = base.map_or(Mark::Placed, |it| marks[it as usize]);
            match (marks[at], before) {
                (Mark::Placed, _) => drop(stack.pop()),
                (Mark::New, Mark::New) if base != Some(top) => {
                    marks[at] = Mark::Waits;
                    stack.extend(base);
                }
                (_, Mark::Placed) => {
                    let depth = base.map_or(0, |it| depths[it as usize] + 1);
                    if depth > DELTA_DEPTH_MAX {
                        planned[at].alone();
                    } else {
                        depths[at] = depth;
                    }
                    marks[at] = Mark::Placed;
                    order.push(top);
                }
                // They lean on each other.
                (_, Mark::New | Mark::Waits) => planned[at].alone(),
            }
        }
    }
    order
}

impl Planned {
    /// Goes without its base.
    fn alone(&mut self) {
        self.base = None;
        if std::mem::take(&mut self.leans) {
            self.place = None;
        }
    }
}
