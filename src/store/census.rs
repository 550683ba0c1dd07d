//! How many records each fabric has, and where the nth of them is, without reading those before it.
//!
//! The places of a fabric's records are one long row in the order of their paths. It is kept here as
//! stretches: where each begins and how many it holds. sled would count them one by one.

use super::fabric_of;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// A stretch is cut so long, where it holds twice as many.
const STRETCH: u64 = 256;

/// The stretches of every fabric, by the first place of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Census {
    fabrics: HashMap<Vec<u8>, BTreeMap<Vec<u8>, u64>>,
}

/// Where the nth record is: so many after this place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nth {
    pub place: Vec<u8>,
    pub passed: usize,
}

/// A stretch that has grown too long: it is cut at the place that comes so many after its first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Long {
    pub place: Vec<u8>,
    pub after: usize,
}

impl Census {
    /// Counts a place that was not there.
    pub fn add(&mut self, place: &[u8]) {
        let row = self.fabrics.entry(fabric_of(place).to_vec()).or_default();
        if let Some((_, count)) = row.range_mut::<[u8], _>(up_to(place)).next_back() {
            *count += 1;
            return;
        }
        // It is before all others: the first stretch begins with it.
        let count = row.pop_first().map_or(0, |(_, count)| count);
        row.insert(place.to_vec(), count + 1);
    }

    /// Counts a place no more. Where it was the first of a stretch, that still begins there.
    pub fn remove(&mut self, place: &[u8]) {
        let Some(row) = self.fabrics.get_mut(fabric_of(place)) else { return };
        let Some((first, count)) = row.range_mut::<[u8], _>(up_to(place)).next_back() else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count == 0 {
            let first = first.clone();
            row.remove(&first);
        }
        if row.is_empty() {
            self.fabrics.remove(fabric_of(place));
        }
    }

    /// The stretch of a place, if it has grown too long.
    pub fn long(&self, place: &[u8]) -> Option<Long> {
        let row = self.fabrics.get(fabric_of(place))?;
        let (first, count) = row.range::<[u8], _>(up_to(place)).next_back()?;
        let after = usize::try_from(STRETCH).unwrap_or(usize::MAX);
        (*count > 2 * STRETCH).then(|| Long { place: first.clone(), after })
    }

    /// Cuts a stretch that was too long at the place that was found there.
    pub fn cut(&mut self, long: &Long, at: &[u8]) {
        let Some(row) = self.fabrics.get_mut(fabric_of(at)) else { return };
        let Some(count) = row.get_mut(&long.place) else { return };
        let rest = count.saturating_sub(STRETCH);
        *count -= rest;
        *row.entry(at.to_vec()).or_default() += rest;
    }

    /// The same where the row is made in its order, and this place came last of all.
    pub fn cut_last(&mut self, long: &Long, at: &[u8]) {
        let Some(row) = self.fabrics.get_mut(fabric_of(at)) else { return };
        let Some(count) = row.get_mut(&long.place) else { return };
        *count -= 1;
        row.insert(at.to_vec(), 1);
    }

    /// Counts what is there.
    pub fn of(places: &sled::Tree) -> sled::Result<Census> {
        let mut census = Census::default();
        for entry in places {
            let place = entry?.0;
            census.add(&place);
            // They come in their order, so what is too long ends here.
            if let Some(long) = census.long(&place) {
                census.cut_last(&long, &place);
            }
        }
        Ok(census)
    }

    /// All stretches: where each begins, and how many it holds.
    pub fn stretches(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.fabrics.values().flat_map(|row| row.iter().map(|(first, n)| (&first[..], *n)))
    }

    /// The census that has these stretches.
    pub fn of_stretches<'a>(stretches: impl Iterator<Item = (&'a [u8], u64)>) -> Census {
        let mut census = Census::default();
        for (first, count) in stretches {
            let row = census.fabrics.entry(fabric_of(first).to_vec()).or_default();
            row.insert(first.to_vec(), count);
        }
        census
    }

    /// How many a fabric has.
    pub fn count(&self, fabric: &[u8]) -> u64 {
        self.fabrics.get(fabric).map_or(0, |row| row.values().sum())
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.fabrics.values().flat_map(|row| row.values()).sum()
    }

    /// Where the one is that comes after `passed` others; none where there are not so many.
    pub fn nth(&self, fabric: &[u8], passed: usize) -> Option<Nth> {
        let mut left = passed as u64;
        for (first, count) in self.fabrics.get(fabric)? {
            if left < *count {
                let passed = usize::try_from(left).unwrap_or(usize::MAX);
                return Some(Nth { place: first.clone(), passed });
            }
            left -= count;
        }
        None
    }
}

fn up_to(place: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn place(fabric: u8, n: u16) -> Vec<u8> {
        format!("f{fabric}\0managed/{n:05}").into_bytes()
    }

    /// Adds or removes, as the store does, and cuts what has grown too long.
    fn kept(census: &mut Census, held: &mut BTreeSet<Vec<u8>>, place: Vec<u8>, there: bool) {
        match there {
            true if held.insert(place.clone()) => census.add(&place),
            false if held.remove(&place) => census.remove(&place),
            _ => (),
        }
        while let Some(long) = census.long(&place) {
            let at = held.range(long.place.clone()..).nth(long.after).unwrap().clone();
            census.cut(&long, &at);
        }
    }

    fn is_right(census: &Census, held: &BTreeSet<Vec<u8>>) {
        for fabric in ["f0", "f1"] {
            let its: Vec<_> = held.iter().filter(|it| fabric_of(it) == fabric.as_bytes()).collect();
            assert_eq!(census.count(fabric.as_bytes()), its.len() as u64);
            let far = its.len();
            for n in (0..far).step_by(37).chain(far.checked_sub(1)) {
                let it = census.nth(fabric.as_bytes(), n).unwrap();
                assert!(it.passed < 2 * usize::try_from(STRETCH).unwrap() + 1, "{it:?}");
                assert_eq!(held.range(it.place..).nth(it.passed), Some(its[n]), "{n}");
            }
            assert_eq!(census.nth(fabric.as_bytes(), far), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn the_nth_is_found_however_the_row_grew_and_shrank(
            steps in proptest::collection::vec((0u8..2, 0u16..3_000, 0u16..900, any::<bool>()), 1..24)
        ) {
            let (mut census, mut held) = (Census::default(), BTreeSet::new());
            for (fabric, from, many, there) in steps {
                for n in from..from + many {
                    kept(&mut census, &mut held, place(fabric, n), there);
                }
                is_right(&census, &held);
            }
        }
    }

    #[test]
    fn a_long_row_is_cut_into_short_stretches() {
        let (mut census, mut held) = (Census::default(), BTreeSet::new());
        for n in (0..10_000).rev() {
            kept(&mut census, &mut held, place(0, n), true);
        }
        is_right(&census, &held);
        let stretches = census.fabrics[b"f0".as_slice()].len();
        assert!((20..=60).contains(&stretches), "{stretches}");
        for n in 0..10_000 {
            kept(&mut census, &mut held, place(0, n), false);
        }
        assert!(census.fabrics.is_empty());
    }
}
