//! Two versions of a text, each made from the same base, become one: line by line.
//!
//! Neighbouring lines may be changed by different hands, unlike in git's merge: a line of YAML says
//! one thing, and whoever calls this parses the outcome and compares it with the value wanted.

use gix::diff::blob::{Algorithm, Diff, InternedInput, diff_with_slider_heuristics};
use std::ops::Range;

/// Lines of the base that one side replaced, and what by.
struct Hunk {
    before: Range<usize>,
    after: Range<usize>,
}

/// Merges the changes of both sides into the base; none where both changed the same lines to
/// different ones, or added different lines at one place.
///
/// Of additions at one place, `theirs` come first.
pub fn merge(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let (base_lines, our_lines, their_lines) = (split(base), split(ours), split(theirs));
    let (left, right) = (hunks(base, theirs), hunks(base, ours));
    let mut out = String::with_capacity(ours.len().max(theirs.len()));
    let mut at = 0;
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        let (hunk, lines) = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => (left.next()?, &their_lines),
            (None, Some(_)) => (right.next()?, &our_lines),
            (Some(l), Some(r)) => {
                if l.before == r.before
                    && their_lines[l.after.clone()] == our_lines[r.after.clone()]
                {
                    // Both did the same.
                    right.next();
                    (left.next()?, &their_lines)
                } else if l.before.start < r.before.end && r.before.start < l.before.end {
                    return None;
                } else if (l.before.start, l.before.end) <= (r.before.start, r.before.end) {
                    (left.next()?, &their_lines)
                } else {
                    (right.next()?, &our_lines)
                }
            }
        };
        // An addition within what the other side replaced has no place any more.
        if hunk.before.start < at {
            return None;
        }
        base_lines[at..hunk.before.start].iter().for_each(|it| out.push_str(it));
        lines[hunk.after.clone()].iter().for_each(|it| out.push_str(it));
        at = hunk.before.end;
    }
    base_lines[at..].iter().for_each(|it| out.push_str(it));
    Some(out)
}

fn split(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn hunks(base: &str, side: &str) -> Vec<Hunk> {
    let input = InternedInput::new(base, side);
    let diff: Diff = diff_with_slider_heuristics(Algorithm::Histogram, &input);
    let range = |it: Range<u32>| it.start as usize..it.end as usize;
    diff.hunks().map(|it| Hunk { before: range(it.before), after: range(it.after) }).collect()
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn neighbouring_lines_of_two_hands_are_both_kept() {
        let base = "a: 1\nb: 2\nc: 3\n";
        let merged = merge(base, "a: 9 # ours\nb: 2\nc: 3\n", "a: 1\nb: 8 # theirs\nc: 3\n");
        assert_eq!(merged.as_deref(), Some("a: 9 # ours\nb: 8 # theirs\nc: 3\n"));
    }

    #[test]
    fn additions_at_one_place_are_both_kept_and_the_same_one_once() {
        let merged = merge("a: 1\n", "a: 1\nours: 2\n", "a: 1\ntheirs: 3\n");
        assert_eq!(merged.as_deref(), Some("a: 1\ntheirs: 3\nours: 2\n"));
        assert_eq!(
            merge("a: 1\n", "a: 1\nb: 2\n", "a: 1\nb: 2\n").as_deref(),
            Some("a: 1\nb: 2\n")
        );
    }

    #[test]
    fn one_line_changed_twice_is_nobodys_guess() {
        assert_eq!(merge("a: 1\n", "a: 2\n", "a: 3\n"), None);
        assert_eq!(merge("a: 1\nb: 2\nc: 3\n", "a: 1\nx: 1\nb: 2\nc: 3\n", "c: 3\n"), None);
    }

    #[test]
    fn a_side_that_did_nothing_gives_the_other() {
        for (base, other) in [("", "a: 1\n"), ("a: 1\n", ""), ("a: 1", "a: 1\nb: 2")] {
            assert_eq!(merge(base, base, other).as_deref(), Some(other));
            assert_eq!(merge(base, other, base).as_deref(), Some(other));
        }
    }
}
