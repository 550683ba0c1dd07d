//! Line by line or by libyaml: the same documents, places and faults, whatever the text.

use super::*;
use crate::yaml::parse::{parse_on, parse_on_by_libyaml};
use proptest::prelude::*;
use std::path::Path;

fn is_plain(text: &str) -> bool {
    let text = format!("{}\n", text.trim_end_matches('\n'));
    document(&text, 0, Limits::default()).is_some()
}

fn check(text: &str) {
    let limits = Limits::default();
    assert_eq!(parse_on(text, limits), parse_on_by_libyaml(text, limits), "{text:?}");
}

/// Both under limits that are soon met.
fn check_limits(text: &str) {
    for (documents_max, depth_max, nodes_max) in [(1, 9, 99), (2, 2, 99), (3, 1, 9), (9, 9, 5)] {
        let limits = Limits { documents_max, depth_max, nodes_max };
        assert_eq!(
            parse_on(text, limits),
            parse_on_by_libyaml(text, limits),
            "{text:?} {limits:?}"
        );
    }
}

#[test]
fn what_people_write_is_plain() {
    let texts = [
        "a: b\n",
        "# c\n\n---  \n# d\na: b # e\nf:  # g\n  h: 1\n\n  i: 'x: y' # z\nj: \"k # l\"\n---\nm: n\n",
        "a:\n- b\n- c: d\n  e:\n  - f\n  -\n  - - g\n    - h: i\n      j: k\n-   l: m\n    n:\no:\n",
        "- a\n-\n  b: c\n-\n",
        "  a:\n    b: é # ü\n    \"c\": -1\n    'd': ~\n  e: .5\n",
        "a: http://b:80/#c\nd: e #f\n",
        "a: {}\nb: [ ]\nc: [d, 'e f' ,\"g\",1.5, ] # h\ni:\n- [j/k]\n- {} # l\n- - []\n  - { }\n",
        "a: {b: c}\nd: {e: 1.5, 'f g': \"h\" , i: j/k, } # l\nm:\n- {n: o}\n- [{p: q}, [r]]\n",
        "a: {b: {c: {d: [e, {f: g}]}}, h: []}\n",
        "a: -\u{e9}\nb: c",
        "\u{ff21}: b\n",
    ];
    for text in &texts[..9] {
        assert!(is_plain(text), "{text:?}");
    }
    texts.iter().for_each(|it| check(it));
}

#[test]
fn what_is_not_plain_is_left_to_libyaml() {
    let texts = [
        "",
        "\n",
        "# a\n",
        "---\n",
        "---\n# a\n---\n",
        "a\n",
        "- a\nb: c\n",
        "a: b\n c\n",
        "a: b\n c: d\n",
        "a:\n b: c\n  d: e\n",
        "a:\n  b: c\n d: e\n",
        "a: b: c\n",
        "a: - b\n",
        "a : b\n",
        "'a' : b\n",
        "'a':b\n",
        "'a'b: c\n",
        "'a''b': c\n",
        "\"a\\n\": b\n",
        "a: \"b\n  c\"\n",
        "a: 'b'c\n",
        "a: 'b'#c\n",
        "a:\tb\n",
        "a: b\tc\n",
        "a: b\t\n",
        "\ta: b\n",
        "-\ta\n",
        "-\t- a\n",
        "a: [b]\n",
        "a: {}\n",
        "a: |\n  b\n",
        "a: >\n  b\n",
        "a: &b c\nd: *b\n",
        "a: !!str b\n",
        "? a\n: b\n",
        "a: ?b\n",
        "a: :b\n",
        "~: a\n",
        "null: a\n",
        ": a\n",
        "- : a\n",
        "<<: a\n",
        "<<<<<<< a: b\n",
        "a: @b\n",
        "a: `b\n",
        "a: %b\n",
        "%a: b\n",
        "%YAML 1.1\n---\na: b\n",
        "--- a: b\n",
        "--- # c\na: b\n",
        "---a: b\n",
        "---\ta: b\n",
        "...\n",
        "... a: b\n",
        "...a: b\n",
        "a: ...\n",
        "a: ---\n",
        "a: b\n...\n",
        "a: b\n... # c\n---\nd: e\n",
        "a: b\n--- \nc\n",
        "- --- a\n",
        "- ... a: b\n",
        "a: b\n- c\n",
        "a:\n  - b\nc:\n  d\n",
        "a:\n  - b\n  c: d\n",
        "- - a\n - b\n",
        "a: \u{a0}\nb: c\u{3000}d\n",
        "a: b\u{85}c: d\n",
        "a: b\u{feff}\n",
        "a: b\u{2028}c\n",
        "a: \u{fffe}\n",
        "a: b\rc: d\r\n",
        "\u{ff21}: [[]]\n",
        "a: {b:c}\n",
        "a: {b: }\n",
        "a: {b}\n",
        "a: {b: c d: e}\n",
        "a: {b: c,, d: e}\n",
        "a: {, }\n",
        "a: {b: c]\n",
        "a: [b: c]\n",
        "a: {\"b\":c}\n",
        "a: {[b]: c}\n",
        "a: {b: c\n",
        "a: {b:\n  c}\n",
        "a: {b: c}}\n",
        "a: {b: c}: d\n",
        "a: {b: c, b: d}\n",
        "a: {? b: c}\n",
        "a: {b: c#d}\n",
        "a: {b: c #d}\n",
        "a: {b: :c}\n",
        "{a: b}\n",
        "- {a: b}\n-  {c: d}\n",
        "\u{feff}a: b\n",
    ];
    for text in texts {
        check(text);
        check(&format!("x: y\n---\n{text}"));
        check(&format!("{text}---\nx: y\n"));
        check(&format!("x: y\n---\n{text}---\nx: y\n---\n[]\n---\nx: y"));
        check_limits(&format!("x: y\n---\n{text}---\nx:\n- y\n---\nx: y\n"));
    }
}

/// The parser panics there, which is a fault of that document and of no other.
#[test]
fn what_libyaml_cannot_read_is_told_at_its_own_document() {
    let text = "# |\na: b\n---\nc: {d: e,!-/,757 f: g\nh: i}\n";
    let found = parse_on(text, Limits::default());
    let Err(broken) = &found[1] else { panic!("{found:?}") };
    assert_eq!((broken.fault.rule, &text[broken.fault.at..][..1]), ("unreadable", "{"));
    check(text);
}

#[test]
fn what_is_too_long_for_a_key_is_none() {
    for n in (990..1040).chain([2000, 5000]) {
        let word = "k".repeat(n);
        check(&format!("{word}: a\n"));
        check(&format!("- '{word}': a\n"));
        check(&format!("- {word}\n- b: {word}\n"));
        check(&format!("a: {{b: c, {word}: {{'{word}': d}}}}\n"));
    }
}

#[test]
fn limits_hold() {
    check_limits("a: b\n---\nc: d\n---\ne: f\n---\ng: h\n");
    check_limits("a:\n  b:\n    c: d\n---\n- - - - a\n");
    check_limits("a:\n- b\n- c\n- d\n- e\n- f\n---\ng: h\n");
    let deep = (0..120).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
    check(&deep);
    check(&format!("{}a\n", "- ".repeat(120)));
    for n in 1..120 {
        check(&format!("a: {}b: c{}\n", "{b: ".repeat(n) + "{", "}".repeat(n + 1)));
        check(&format!("a: {}{}\n", "[".repeat(n), "]".repeat(n)));
    }
}

/// Their letters taken out, doubled or exchanged, one at a time.
#[test]
fn the_fixtures_are_read_the_same_however_they_are_bent() {
    let mut texts = Vec::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in ["tests/fixtures/verdicts", "../shared/corpus/samples"] {
        for it in std::fs::read_dir(here.join(dir)).into_iter().flatten() {
            let bytes = std::fs::read(it.unwrap().path()).unwrap();
            texts.extend(crate::yaml::decode::decode(&bytes));
        }
    }
    assert!(texts.len() > 20);
    for text in texts {
        check(&text);
        check_limits(&text);
        let mut random = 1_u64;
        for _ in 0..30 {
            let mut bent: Vec<char> = text.chars().take(2_000).collect();
            for _ in 0..3 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let n = usize::try_from(random >> 33).unwrap() % bent.len().max(1);
                match (random >> 20) % 5 {
                    _ if bent.is_empty() => (),
                    0 => drop(bent.remove(n)),
                    1 => bent.insert(n, ' '),
                    2 => bent.insert(n, '\n'),
                    3 => bent.insert(n, ['-', ':', '#', '\'', '"', '.', '~', '\t'][n % 8]),
                    _ => bent[n] = bent[(random >> 40) as usize % bent.len()],
                }
            }
            check(&bent.into_iter().collect::<String>());
        }
    }
}

/// Bits of text as they stand in manifests, plain and not.
fn soup() -> impl Strategy<Value = String> {
    const PLAIN: [&str; 38] = [
        "{}",
        "[]",
        "[a]",
        "[a, 'b']",
        "{a: b}",
        "{a: b, c: {d: e}}",
        "{a: ",
        ", ",
        "[",
        "]",
        "a",
        "b",
        "key",
        "1",
        "-1",
        "é",
        "'q'",
        "\"r\"",
        ": ",
        ":",
        ":\n",
        ":\n  ",
        ":\n    ",
        "\n",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        "- ",
        "- ",
        "-\n",
        " # c",
        "# d",
        "  ",
        " ",
        "\n---\n",
        "~",
        ".",
    ];
    const OTHER: [&str; 22] = [
        "[", "]", "{", "}", ",", "|\n", ">\n  ", "&x ", "*x", "!t ", "? ", "%", "\t", "\\", "'",
        "\"", "\n...\n", "\n--- ", "<<: ", "@", "''", "null",
    ];
    let bit = prop_oneof![
        12 => proptest::sample::select(&PLAIN[..]),
        1 => proptest::sample::select(&OTHER[..]),
    ];
    proptest::collection::vec(bit, 0..40).prop_map(|it| it.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 10_000 } else { 300_000 }))]

    #[test]
    fn any_text_is_read_the_same(text in soup()) {
        check(&text);
        check_limits(&text);
    }
}
