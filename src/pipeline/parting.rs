//! Taking a drop apart: what is good goes through, and the rest stays as a file of its own.
//!
//! The rest is the drop's own text, from one `---` to the next, in its order and with its line ends.
//! What stays is read again: unless it is the same documents as before, with the same that cannot be
//! read, the drop is not taken apart. A list is one document: it goes or stays as a whole.

use super::validation::list_items;
use crate::yaml::parse::{Broken, Parsed, parse_on};
use crate::yaml::value::{Value, resolve};
use crate::yaml::{Limits, decode};
use std::collections::BTreeSet;

/// A drop, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parting {
    /// The numbers of the documents that stay: the bad ones, and what cannot be parted from them.
    pub stays: BTreeSet<u32>,
    /// The file that they stay in.
    pub rest: Vec<u8>,
}

/// One or more documents that go or stay together.
struct Piece {
    /// The number of the first resource, and of the first behind it.
    numbers: std::ops::Range<u32>,
    /// Where it begins in the text; it reaches to the next.
    start: usize,
    /// What it says; nothing of one that cannot be read.
    says: Vec<Option<Value>>,
}

/// Parts the documents with these numbers from the rest of a drop; none where that cannot be done,
/// or where nothing good is left.
pub(super) fn part(bytes: &[u8], bad: &BTreeSet<u32>, limits: Limits) -> Option<Parting> {
    let text = decode::decode(bytes).ok()?;
    let pieces = pieces(&parse_on(&text, limits));
    let (mut stays, mut rest, mut wanted) = (BTreeSet::new(), String::new(), Vec::new());
    let mut goes = false;
    for (n, it) in pieces.iter().enumerate() {
        if !bad.iter().any(|number| it.numbers.contains(number)) {
            goes |= !it.numbers.is_empty();
            continue;
        }
        let end = pieces.get(n + 1).map_or(text.len(), |it| it.start);
        // Only the first document of a file may do without a `---`.
        stays.extend(it.numbers.clone());
        rest.push_str(text.get(it.start..end)?);
        wanted.extend(it.says.iter().cloned());
    }
    if !goes || stays.is_empty() || !bad.is_subset(&stays) {
        return None;
    }
    let found = pieces_said(&parse_on(&rest, limits));
    let ends = line_ends(bytes);
    let rest = if ends == "\n" { rest } else { rest.replace('\n', ends) };
    (found == wanted).then(|| Parting { stays, rest: rest.into_bytes() })
}

fn pieces(read: &[Result<Parsed, Broken>]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut next = 1;
    for (n, it) in read.iter().enumerate() {
        let (start, count) = match it {
            Ok(it) => (it.preface.start, count(it)),
            Err(it) => (it.region.start, 1),
        };
        let says = said(it);
        let numbers = next..next + count;
        next += count;
        match pieces.last_mut() {
            // A fault behind a document without a `---` between: nobody can say where that ends.
            Some(last) if start <= last.start => {
                last.numbers.end = numbers.end;
                last.says.extend(says);
            }
            _ => {
                let start = if n == 0 { 0 } else { start };
                pieces.push(Piece { numbers, start, says: says.into_iter().collect() });
            }
        }
    }
    pieces
}

/// How many resources a document counts for.
fn count(it: &Parsed) -> u32 {
    match &it.root {
        None => 0,
        Some(root) => list_items(root).map_or(1, |it| u32::try_from(it.len()).unwrap_or(u32::MAX)),
    }
}

/// What one document says: nothing where there is none, nothing known where it cannot be read.
fn said(it: &Result<Parsed, Broken>) -> Option<Option<Value>> {
    match it {
        Ok(it) => it.root.as_ref().map(|it| Some(resolve(it))),
        Err(_) => Some(None),
    }
}

fn pieces_said(read: &[Result<Parsed, Broken>]) -> Vec<Option<Value>> {
    read.iter().filter_map(said).collect()
}

/// How the lines of a file end, where all do so in one way.
fn line_ends(bytes: &[u8]) -> &'static str {
    let count = |it: u8| bytes.iter().filter(|b| **b == it).count();
    let pairs = bytes.windows(2).filter(|it| it == b"\r\n").count();
    let utf16 = matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
    if pairs > 0 && pairs == count(b'\n') && pairs == count(b'\r') && !utf16 {
        "\r\n"
    } else {
        "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, bad: &[u32], expect: Option<(&[u32], &str)>) {
        let bad = bad.iter().copied().collect();
        let found = part(text.as_bytes(), &bad, Limits::default());
        let found = found.map(|it| {
            let stays: Vec<u32> = it.stays.into_iter().collect();
            (stays, String::from_utf8(it.rest).unwrap())
        });
        let expect = expect.map(|(stays, rest)| (stays.to_vec(), rest.to_owned()));
        assert_eq!(found, expect, "{text:?}");
    }

    #[test]
    fn what_stays_is_the_drop_s_own_text() {
        let text = "# one\na: 1\n---\n# two\nb: [\n--- # three\nc: 3 # c\n\n---\nd: 4\n";
        check(text, &[2], Some((&[2], "---\n# two\nb: [\n")));
        check(text, &[1, 3], Some((&[1, 3], "# one\na: 1\n--- # three\nc: 3 # c\n\n")));
        check(text, &[4], Some((&[4], "---\nd: 4\n")));
        check(text, &[1, 2, 3, 4], None);
    }

    #[test]
    fn line_ends_stay_as_they_were() {
        check("a: 1\r\n---\r\nb: [\r\n", &[2], Some((&[2], "---\r\nb: [\r\n")));
        check("a: 1\r\n---\nb: [\n", &[2], Some((&[2], "---\nb: [\n")));
        check("\u{feff}b: [\n---\na: 1", &[1], Some((&[1], "b: [\n")));
    }

    #[test]
    fn what_cannot_be_parted_stays_together() {
        let list = "kind: List\nitems:\n- a: 1\n- b: 2\n---\nc: 3\n";
        check(list, &[2], Some((&[1, 2], &list[..list.find("---").unwrap()])));
        check(list, &[3], Some((&[3], "---\nc: 3\n")));
        // What stands behind the first document is in its way, and nothing of it can go.
        check("{a: 1}\n}\n---\nb: 2\n", &[2], Some((&[1, 2], "{a: 1}\n}\n")));
        check("a: 1\n...\n}\n---\nb: 2\n", &[2], Some((&[2], "...\n}\n")));
        check("a: 1\n", &[1], None);
        check("a: \u{0}\n---\nb: 2\n", &[1], None);
    }

    #[test]
    fn documents_with_comments_alone_count_for_nothing() {
        check("# x\n---\na: 1\n---\n# y\n---\nb: 2\n", &[2], Some((&[2], "---\nb: 2\n")));
    }
}
