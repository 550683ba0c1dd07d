//! Which item of an old list becomes which of a new one.

use super::Node;
use super::value::{Value, resolve};

/// Lists are aligned item by item up to this many pairs; longer ones by their common ends alone.
const PAIRS_MAX: usize = 1_000_000;

/// What becomes of a list: for each old item the new one it turns into, and what is added before it.
pub(super) struct Alignment {
    /// By old item: the new item, or none where it goes.
    pub kept: Vec<Option<usize>>,
    /// New items, by the old item they come before; the last entry is the end.
    pub added: Vec<Vec<usize>>,
}

/// Says which old item becomes which new one: equal ones first, in order, then by their place
/// between those.
pub(super) fn align(old: &[Node], new: &[Value]) -> Alignment {
    let values: Vec<Value> = old.iter().map(resolve).collect();
    let common = values.iter().zip(new).take_while(|(a, b)| a == b).count();
    let rest = (values.len() - common).min(new.len() - common);
    let tail = (0..rest).take_while(|n| values[values.len() - 1 - n] == new[new.len() - 1 - n]);
    let tail = tail.count();
    let mut pairs: Vec<(usize, usize)> = (0..common).map(|n| (n, n)).collect();
    let (a, b) = (&values[common..values.len() - tail], &new[common..new.len() - tail]);
    if a.len().saturating_mul(b.len()) <= PAIRS_MAX {
        pairs.extend(longest_common(a, b).into_iter().map(|(n, m)| (n + common, m + common)));
    }
    pairs.extend((0..tail).rev().map(|n| (values.len() - 1 - n, new.len() - 1 - n)));
    let mut it = Alignment { kept: vec![None; old.len()], added: vec![Vec::new(); old.len() + 1] };
    let (mut n, mut m) = (0, 0);
    pairs.push((old.len(), new.len()));
    for (next_n, next_m) in pairs {
        // Between two that are equal: one becomes the other as long as there are both.
        while n < next_n && m < next_m {
            it.kept[n] = Some(m);
            (n, m) = (n + 1, m + 1);
        }
        it.added[next_n].extend(m..next_m);
        if next_n < old.len() {
            it.kept[next_n] = Some(next_m);
        }
        (n, m) = (next_n + 1, next_m + 1);
    }
    it
}

fn longest_common(a: &[Value], b: &[Value]) -> Vec<(usize, usize)> {
    let width = b.len() + 1;
    let mut lengths = vec![0u32; (a.len() + 1) * width];
    for n in (0..a.len()).rev() {
        for m in (0..b.len()).rev() {
            lengths[n * width + m] = match a[n] == b[m] {
                true => lengths[(n + 1) * width + m + 1] + 1,
                false => lengths[(n + 1) * width + m].max(lengths[n * width + m + 1]),
            };
        }
    }
    let (mut n, mut m, mut pairs) = (0, 0, Vec::new());
    while n < a.len() && m < b.len() {
        if a[n] == b[m] {
            pairs.push((n, m));
            (n, m) = (n + 1, m + 1);
        } else if lengths[(n + 1) * width + m] >= lengths[n * width + m + 1] {
            n += 1;
        } else {
            m += 1;
        }
    }
    pairs
}
