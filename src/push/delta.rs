//! An object as the difference to one that the other side has.
//!
//! Trees are aligned entry by entry, which is exact and needs no search. Anything else is matched
//! by blocks of the base, grown in both directions, so that edits in several places of a file
//! stay small. Both give up when the result would not be clearly smaller than the object.

use std::{cmp::Ordering, collections::HashMap};

/// The largest base that is indexed; larger ones only get their common ends cut off.
const INDEX_BYTES_MAX: usize = 64 << 20;

/// Blocks of the base that are looked up.
const BLOCK_BYTES: usize = 32;

/// How many blocks with the same hash are tried.
const CANDIDATES_MAX: usize = 8;

/// A size in seven-bit groups, least first.
fn size(mut n: usize, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn copy(mut offset: usize, mut length: usize, out: &mut Vec<u8>) {
    while length > 0 {
        let n = length.min(0xff_ffff);
        let at = out.len();
        out.push(0);
        let mut op = 0x80;
        for (bit, byte) in offset.to_le_bytes().into_iter().take(4).enumerate() {
            if byte != 0 {
                op |= 1 << bit;
                out.push(byte);
            }
        }
        // 64 KiB is what no length at all means.
        if n != 0x1_0000 {
            for (bit, byte) in n.to_le_bytes().into_iter().take(3).enumerate() {
                if byte != 0 {
                    op |= 0x10 << bit;
                    out.push(byte);
                }
            }
        }
        out[at] = op;
        offset += n;
        length -= n;
    }
}

fn insert(data: &[u8], out: &mut Vec<u8>) {
    for piece in data.chunks(127) {
        out.push(piece.len() as u8);
        out.extend_from_slice(piece);
    }
}

/// Copies and insertions in order, the neighbouring ones joined.
struct Script {
    out: Vec<u8>,
    run: Option<(usize, usize)>,
    fresh: Vec<u8>,
    limit: usize,
}

impl Script {
    /// `None` if the format cannot say it.
    fn new(base: &[u8], new: &[u8]) -> Option<Self> {
        if u32::try_from(base.len()).is_err() {
            return None;
        }
        let mut out = Vec::with_capacity(64);
        size(base.len(), &mut out);
        size(new.len(), &mut out);
        Some(Script { out, run: None, fresh: Vec::new(), limit: new.len() / 2 })
    }

    fn copy(&mut self, offset: usize, length: usize) {
        if length == 0 {
            return;
        }
        match &mut self.run {
            Some((start, run)) if *start + *run == offset && self.fresh.is_empty() => {
                *run += length
            }
            _ => {
                self.settle();
                self.run = Some((offset, length));
            }
        }
    }

    fn insert(&mut self, data: &[u8]) {
        self.fresh.extend_from_slice(data);
    }

    fn settle(&mut self) {
        if let Some((offset, length)) = self.run.take() {
            copy(offset, length, &mut self.out);
        }
        insert(&self.fresh, &mut self.out);
        self.fresh.clear();
    }

    fn hopeless(&self) -> bool {
        self.out.len() + self.fresh.len() > self.limit
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        self.settle();
        (!self.hopeless()).then_some(self.out)
    }
}

/// One raw entry of a tree.
struct Entry<'a> {
    raw: &'a [u8],
    name: &'a [u8],
    is_tree: bool,
    start: usize,
}

fn entry(tree: &[u8], start: usize, hash_bytes: usize) -> Option<Entry<'_>> {
    let rest = tree.get(start..).filter(|it| !it.is_empty())?;
    let space = rest.iter().take(8).position(|b| *b == b' ')?;
    let nul = space + memchr(&rest[space..])?;
    let raw = rest.get(..nul + 1 + hash_bytes)?;
    Some(Entry { raw, name: &rest[space + 1..nul], is_tree: rest[0] == b'4', start })
}

fn memchr(text: &[u8]) -> Option<usize> {
    use gix::bstr::ByteSlice;
    text.find_byte(0)
}

/// Git's order of tree entries: a folder's name counts as if it ended in a slash.
pub(crate) fn entry_order(left: (&[u8], bool), right: (&[u8], bool)) -> Ordering {
    let shared = left.0.len().min(right.0.len());
    left.0[..shared].cmp(&right.0[..shared]).then_with(|| {
        let next = |(name, is_tree): (&[u8], bool)| {
            name.get(shared).copied().unwrap_or(if is_tree { b'/' } else { 0 })
        };
        next(left).cmp(&next(right)).then(left.0.len().cmp(&right.0.len()))
    })
}

/// How much of two raw trees is the same at either end, in whole entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) head: usize,
    pub(crate) tail: usize,
}

impl Ends {
    /// Compares bytes first, which is fast, and then looks where entries begin: one change in a
    /// large folder costs one look at each name in front of it.
    pub(crate) fn of(base: &[u8], new: &[u8], hash_bytes: usize) -> Ends {
        let same = common_head(base, new);
        let mut head = 0;
        while let Some(length) = entry_length(&new[head..], hash_bytes)
            && head + length <= same
        {
            head += length;
        }
        let most = common_tail(&base[head..], &new[head..]);
        let (mut theirs, mut ours) = (&base[head..], &new[head..]);
        while theirs.len() != ours.len() || ours.len() > most {
            let longer = if ours.len() >= theirs.len() { &mut ours } else { &mut theirs };
            let Some(length) = entry_length(longer, hash_bytes) else {
                return Ends { head, tail: 0 };
            };
            *longer = &longer[length..];
        }
        Ends { head, tail: ours.len() }
    }

    /// What lies between.
    pub(crate) fn middle<'t>(&self, tree: &'t [u8]) -> &'t [u8] {
        &tree[self.head..tree.len() - self.tail]
    }
}

fn entry_length(rest: &[u8], hash_bytes: usize) -> Option<usize> {
    let length = memchr(rest)? + 1 + hash_bytes;
    (length <= rest.len()).then_some(length)
}

/// How many bytes are compared at once: many first, and few where the difference is near.
const STRIDES_BYTES: [usize; 2] = [4096, 32];

fn common_head(left: &[u8], right: &[u8]) -> usize {
    let same = STRIDES_BYTES.iter().fold(0, |same, bytes| {
        let strides = left[same..].chunks_exact(*bytes).zip(right[same..].chunks_exact(*bytes));
        same + strides.take_while(|(a, b)| a == b).count() * bytes
    });
    same + common(left[same..].iter(), right[same..].iter())
}

fn common_tail(left: &[u8], right: &[u8]) -> usize {
    let (mut left, mut right, whole) = (left, right, left.len());
    for bytes in STRIDES_BYTES {
        let strides = left.rchunks_exact(bytes).zip(right.rchunks_exact(bytes));
        let same = strides.take_while(|(a, b)| a == b).count() * bytes;
        (left, right) = (&left[..left.len() - same], &right[..right.len() - same]);
    }
    whole - left.len() + common(left.iter().rev(), right.iter().rev())
}

/// The difference of two raw trees that have such ends in common.
pub(crate) fn tree(base: &[u8], new: &[u8], ends: Ends, hash_bytes: usize) -> Option<Vec<u8>> {
    let mut script = Script::new(base, new)?;
    script.copy(0, ends.head);
    let (old_middle, middle) = (ends.middle(base), ends.middle(new));
    let mut at = 0;
    let mut theirs = entry(old_middle, 0, hash_bytes);
    while let Some(ours) = entry(middle, at, hash_bytes) {
        at += ours.raw.len();
        while let Some(it) = &theirs {
            if it.raw == ours.raw
                || entry_order((it.name, it.is_tree), (ours.name, ours.is_tree)).is_ge()
            {
                break;
            }
            theirs = entry(old_middle, it.start + it.raw.len(), hash_bytes);
        }
        match &theirs {
            Some(it) if it.raw == ours.raw => {
                script.copy(ends.head + it.start, it.raw.len());
                theirs = entry(old_middle, it.start + it.raw.len(), hash_bytes);
            }
            _ => script.insert(ours.raw),
        }
        if script.hopeless() {
            return None;
        }
    }
    script.copy(base.len() - ends.tail, ends.tail);
    // Anything but a whole tree is left to the other kind.
    if at == middle.len() { script.finish() } else { None }
}

/// The difference of any two objects.
pub(crate) fn bytes(base: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let mut script = Script::new(base, new)?;
    let head = common_head(base, new);
    let tail = common_tail(&base[head..], &new[head..]);
    let (old_mid, mid) = (&base[head..base.len() - tail], &new[head..new.len() - tail]);
    script.copy(0, head);
    if mid.len() < BLOCK_BYTES || old_mid.len() < BLOCK_BYTES || base.len() > INDEX_BYTES_MAX {
        if mid.len() > script.limit {
            return None;
        }
        script.insert(mid);
    } else {
        blocks(&mut script, old_mid, mid, head)?;
    }
    script.copy(base.len() - tail, tail);
    script.finish()
}

fn common<'a>(left: impl Iterator<Item = &'a u8>, right: impl Iterator<Item = &'a u8>) -> usize {
    left.zip(right).take_while(|(a, b)| a == b).count()
}

/// A rolling hash of a block.
#[derive(Clone, Copy)]
struct Rolling(u32);

const FACTOR: u32 = 0x0100_0193;

/// `FACTOR` to the power of the block's length less one: the weight of its oldest byte.
const OLDEST: u32 = {
    let (mut weight, mut n) = (1u32, 1);
    while n < BLOCK_BYTES {
        weight = weight.wrapping_mul(FACTOR);
        n += 1;
    }
    weight
};

impl Rolling {
    fn of(block: &[u8]) -> Self {
        let step =
            |acc: u32, byte: &u8| acc.wrapping_mul(FACTOR).wrapping_add(u32::from(*byte) + 1);
        Rolling(block.iter().fold(0, step))
    }

    fn roll(&mut self, out: u8, into: u8) {
        let without = self.0.wrapping_sub((u32::from(out) + 1).wrapping_mul(OLDEST));
        self.0 = without.wrapping_mul(FACTOR).wrapping_add(u32::from(into) + 1);
    }
}

/// Matches `new` against blocks of `base`, which begins at `shift` of the whole base.
fn blocks(script: &mut Script, base: &[u8], new: &[u8], shift: usize) -> Option<()> {
    let mut index: HashMap<u32, Vec<u32>> = HashMap::with_capacity(base.len() / BLOCK_BYTES);
    for (block, at) in base.chunks_exact(BLOCK_BYTES).zip((0u32..).step_by(BLOCK_BYTES)) {
        let places = index.entry(Rolling::of(block).0).or_default();
        if places.len() < CANDIDATES_MAX {
            places.push(at);
        }
    }
    let (mut done, mut at) = (0, 0);
    let mut hash = Rolling::of(&new[..BLOCK_BYTES]);
    loop {
        let best = index.get(&hash.0).into_iter().flatten().filter_map(|place| {
            let place = *place as usize;
            let ahead = common(base[place..].iter(), new[at..].iter());
            (ahead >= BLOCK_BYTES).then_some((ahead, place))
        });
        if let Some((ahead, place)) = best.max() {
            let back = common(base[..place].iter().rev(), new[done..at].iter().rev());
            script.insert(&new[done..at - back]);
            script.copy(shift + place - back, back + ahead);
            at += ahead;
            done = at;
            if new.len() - at < BLOCK_BYTES {
                break;
            }
            hash = Rolling::of(&new[at..at + BLOCK_BYTES]);
        } else {
            if at + BLOCK_BYTES >= new.len() || at - done > script.limit {
                break;
            }
            hash.roll(new[at], new[at + BLOCK_BYTES]);
            at += 1;
        }
        if script.hopeless() {
            return None;
        }
    }
    script.insert(&new[done..]);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Undoes a delta with gix's own code path: the reader's.
    fn apply(base: &[u8], delta: &[u8]) -> Vec<u8> {
        let mut at = 0;
        let mut sizes = [0usize; 2];
        for size in &mut sizes {
            let mut shift = 0;
            loop {
                let byte = delta[at];
                at += 1;
                *size |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        assert_eq!(sizes[0], base.len());
        let mut out = Vec::new();
        while at < delta.len() {
            let op = delta[at];
            at += 1;
            if op & 0x80 == 0 {
                assert_ne!(op, 0);
                out.extend_from_slice(&delta[at..at + usize::from(op)]);
                at += usize::from(op);
                continue;
            }
            let mut field = |bits: std::ops::Range<u32>, low: u32| {
                bits.fold(0usize, |acc, bit| {
                    if op & (1 << bit) == 0 {
                        return acc;
                    }
                    at += 1;
                    acc | usize::from(delta[at - 1]) << (8 * (bit - low))
                })
            };
            let offset = field(0..4, 0);
            let length = match field(4..7, 4) {
                0 => 0x1_0000,
                n => n,
            };
            out.extend_from_slice(&base[offset..offset + length]);
        }
        assert_eq!(sizes[1], out.len());
        out
    }

    fn file(name: &str, fill: u8) -> Vec<u8> {
        let mut out = format!("100644 {name}\0").into_bytes();
        out.extend([fill; 20]);
        out
    }

    #[test]
    fn one_entry_of_five_thousand_costs_little() {
        let base: Vec<u8> = (0..5000).flat_map(|n| file(&format!("f{n:05}"), n as u8)).collect();
        for edit in [0, 1, 17, 2500, 4999] {
            let name = |n: i32| file(&format!("f{n:05}"), if n == edit { 0xee } else { n as u8 });
            let new: Vec<u8> = (0..5000).flat_map(name).collect();
            let delta = tree(&base, &new, Ends::of(&base, &new, 20), 20).unwrap();
            assert_eq!(apply(&base, &delta), new);
            assert!(delta.len() < 100, "{}", delta.len());
        }
    }

    #[test]
    fn edits_in_several_places_stay_small() {
        let base: Vec<u8> =
            (0..20_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut new = base.clone();
        for at in [70_000, 40_000, 3] {
            new.splice(at..at + 10, *b"hello world, this is longer");
        }
        let delta = bytes(&base, &new).unwrap();
        assert_eq!(apply(&base, &delta), new);
        assert!(delta.len() < 400, "{}", delta.len());
    }

    #[test]
    fn what_does_not_resemble_is_not_a_delta() {
        assert!(bytes(&[1; 1000], &[2; 1000]).is_none());
    }

    proptest! {
        #[test]
        fn a_delta_gives_back_the_object(
            base in proptest::collection::vec(0u8..4, 0..600),
            cuts in proptest::collection::vec((0usize..600, 0usize..200, 0usize..60), 0..4),
        ) {
            let mut new = base.clone();
            for (at, gone, fresh) in cuts {
                let at = at.min(new.len());
                let end = (at + gone).min(new.len());
                new.splice(at..end, std::iter::repeat_n(9, fresh));
            }
            if let Some(delta) = bytes(&base, &new) {
                prop_assert_eq!(apply(&base, &delta), new);
            }
        }

        #[test]
        fn a_tree_delta_gives_back_any_bytes(
            base in proptest::collection::vec(any::<u8>(), 0..200),
            new in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let ends = Ends::of(&base, &new, 20);
            if let Some(delta) = tree(&base, &new, ends, 20) {
                prop_assert_eq!(apply(&base, &delta), new);
            }
        }

        #[test]
        fn ends_in_common_are_whole_entries_and_all_of_them(
            base in proptest::collection::btree_map("[ab]{1,3}", 0u8..3, 0..9),
            new in proptest::collection::btree_map("[ab]{1,3}", 0u8..3, 0..9),
        ) {
            let entries = |tree: &std::collections::BTreeMap<String, u8>| -> Vec<Vec<u8>> {
                tree.iter().map(|(name, fill)| file(name, *fill)).collect()
            };
            let (base, new) = (entries(&base), entries(&new));
            let same = |pair: &(&Vec<u8>, &Vec<u8>)| pair.0 == pair.1;
            let head = base.iter().zip(&new).take_while(same).count();
            let tail = base[head..].iter().rev().zip(new[head..].iter().rev());
            let tail = tail.take_while(same).count();
            let bytes = |entries: &[Vec<u8>]| entries.concat().len();
            let ends = Ends::of(&base.concat(), &new.concat(), 20);
            prop_assert_eq!(ends.head, bytes(&new[..head]));
            prop_assert_eq!(ends.tail, bytes(&new[new.len() - tail..]));
        }
    }
}
