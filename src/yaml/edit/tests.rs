//! Edits by example, and what must hold of all of them.

use super::*;
use proptest::prelude::*;

const TEXT: &str = "\
# head
apiVersion: v1
spec: # the spec
  # about a
  a: 1 # one
  list:
  # first
  - name: x # ex
    vlan: 5
  - name: y
  flow: {p: 1, q: [1, 2]} # flowing
  text: |
    line

    more
# tail
";

fn value(text: &str) -> Value {
    resolve(&only(text, Limits::default()).unwrap())
}

fn check(text: &str, wanted: &str, expect: &str) {
    let edited = rewrite(text, &value(wanted), None, Limits::default());
    assert_eq!(edited.as_deref(), Some(expect));
}

/// The text with one replacement in its value and the one expected in its words.
fn check_part(from: &str, to: &str, words: (&str, &str)) {
    assert!(TEXT.contains(from) && TEXT.contains(words.0));
    check(TEXT, &TEXT.replacen(from, to, 1), &TEXT.replacen(words.0, words.1, 1));
}

#[test]
fn what_says_the_same_is_not_touched() {
    check(TEXT, TEXT, TEXT);
    check("a: 0x10\nb: 'x'", "{b: x, a: 16}", "a: 0x10\nb: 'x'\n");
}

#[test]
fn a_scalar_changes_in_its_place() {
    check_part("a: 1", "a: 2", ("a: 1 # one", "a: 2 # one"));
    check_part("vlan: 5", "vlan: [5]", ("    vlan: 5\n", "    vlan:\n      - 5\n"));
    check_part("q: [1, 2]", "q: [1, 'no']", ("[1, 2]", "[1, \"no\"]"));
    check_part("    more\n", "    less\n", ("    more\n", "    less\n"));
    check("a:\nb: 1\n", "{a: 1, b: 1}", "a: 1\nb: 1\n");
    check("a: [] # c\n", "{a: [1]}", "a: [1] # c\n");
}

#[test]
fn fields_come_and_go_and_comments_stay() {
    check_part("  a: 1 # one\n", "", ("  a: 1 # one\n", ""));
    check_part("vlan: 5", "vlan: 5\n    more: z", ("vlan: 5\n", "vlan: 5\n    more: z\n"));
    check_part("p: 1, ", "", ("p: 1, ", ""));
    check_part("p: 1, ", "p: 1, r: {}, ", ("2]}", "2], r: {}}"));
    check("a: {b: 1}\nc: 2\n", "{a: {}, c: 2}", "a: {}\nc: 2\n");
    check("a:\n  b: 1\nc: 2\n", "{a: {}, c: 2}", "a: {}\nc: 2\n");
    check("a:\n- 1\n", "{a: []}", "a: []\n");
}

#[test]
fn items_come_and_go() {
    check_part("  - name: y\n", "", ("  - name: y\n", ""));
    check_part(
        "  - name: y\n",
        "  - name: y\n  - z: 1\n    w: 2\n",
        ("name: y\n", "name: y\n  - w: 2\n    z: 1\n"),
    );
    check("- 1\n- 2 # two\n- 3\n", "[0, 2, 3, 4]", "- 0\n- 2 # two\n- 3\n- 4\n");
    check("a: [1, 2, 3]\n", "{a: [1, 3]}", "a: [1, 3]\n");
    check("- - 1\n  - 2\n", "[[1, 3]]", "- - 1\n  - 3\n");
    check("-\n  # c\n  a: 1\n", "[{a: 2}]", "-\n  # c\n  a: 2\n");
}

#[test]
fn json_stays_json() {
    let text = "{\n  \"a\": 1,\n  \"b\": [\n    1\n  ]\n}\n";
    let edited = rewrite(text, &value("{a: 2, b: [1, x], c: z}"), None, Limits::default()).unwrap();
    let read: serde_json::Value = serde_json::from_str(&edited).unwrap();
    assert_eq!(read, serde_json::json!({"a": 2, "b": [1, "x"], "c": "z"}));
    assert!(edited.contains(",\n  \"c\": \"z\"\n"), "{edited}");
}

#[test]
fn what_would_change_something_else_is_refused() {
    let text = "a: &x {p: 1}\nb: *x\n";
    assert_eq!(rewrite(text, &value("{a: {p: 2}, b: {p: 1}}"), None, Limits::default()), None);
    assert_eq!(rewrite("a: 1\n---\nb: 2\n", &value("{a: 2}"), None, Limits::default()), None);
    // An alias alone can give way to what it does not stand for.
    check(text, "{a: {p: 1}, b: {p: 3}}", "a: &x {p: 1}\nb:\n  p: 3\n");
}

#[test]
fn the_donors_words_are_taken_with_their_comments() {
    let donor = "spec:\n    a: 1\n    # why so large\n    mtu: 9000 # jumbo\n    list:\n    - {n: 1}\n    # new\n    - n: 2 # two\n    b: 0x10 # hex\n";
    let text = "spec:\n  a: 1\n  list:\n  - {n: 1}\n  b: 1\n  z: 1\n";
    let wanted = value("spec: {a: 1, mtu: 9000, list: [{n: 1}, {n: 2}], b: 16, z: 1}");
    let edited = rewrite(text, &wanted, Some(donor), Limits::default()).unwrap();
    let expect = "spec:\n  a: 1\n  # why so large\n  mtu: 9000 # jumbo\n  list:\n  - {n: 1}\n  # new\n  - n: 2 # two\n  b: 0x10 # hex\n  z: 1\n";
    assert_eq!(edited, expect);
}

#[test]
fn text_that_others_take_for_numbers_is_put_in_quotes() {
    for text in [
        "no",
        "y",
        "1e3",
        "12:30",
        "0777",
        "1_000",
        "",
        " x",
        "a: b",
        "x #y",
        "- a",
        "*a",
        "null",
        "~",
        "2001-01-01",
        "\u{2028}",
        "a\tb",
    ] {
        let wanted = Value::Map([("k".to_owned(), Value::Text(text.to_owned()))].into());
        let edited = rewrite("k: 1\n", &wanted, None, Limits::default()).unwrap();
        assert!(edited.starts_with("k: \""), "{edited}");
    }
    check("k: 1\n", "{k: leaf-01/Ethernet1}", "k: leaf-01/Ethernet1\n");
    check("k: 1\n", "{k: 10.0.0.0/24}", "k: 10.0.0.0/24\n");
}

/// Any value that a manifest may hold.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (0i128..50).prop_map(Value::Int),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        (0u8..40).prop_map(|it| Value::Float(f64::from(it).sqrt().to_bits())),
        "[a-z]{1,6}".prop_map(Value::Text),
        "[ -~]{0,8}".prop_map(Value::Text),
        "[a-z]{1,4}\n[a-z \u{e9}]{0,4}\n{0,2}[a-z]{1,3}\n{0,2}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            map_of(inner, 0)
        ]
    })
}

fn map_of(inner: impl Strategy<Value = Value>, min: usize) -> impl Strategy<Value = Value> {
    // Few names, so that two maps share some.
    proptest::collection::btree_map("[a-h]", inner, min..5).prop_map(Value::Map)
}

/// A document: a mapping that says something.
pub(crate) fn any_document() -> impl Strategy<Value = Value> {
    map_of(any_value(), 1)
}

/// The value in block style, with a comment above each field and one behind each scalar of a
/// mapping that says where it stands.
pub(crate) fn written(value: &Value) -> String {
    fn fields(map: &BTreeMap<String, Value>, at: &str, indent: usize, out: &mut String) {
        for (key, value) in map {
            let here = format!("{at}/{key}");
            out.push_str(&format!("{:indent$}# above {here}\n", ""));
            match value {
                Value::Map(inner) if !inner.is_empty() => {
                    out.push_str(&format!("{:indent$}{key}:\n", ""));
                    fields(inner, &here, indent + 2, out);
                }
                _ => {
                    let text = entry_as(key, value, indent);
                    match text.trim_end_matches('\n').contains('\n') {
                        true => out.push_str(&text),
                        false => out.push_str(&format!("{} # at {here};\n", text.trim_end())),
                    }
                }
            }
        }
    }
    match value {
        Value::Map(map) if !map.is_empty() => {
            let mut out = String::new();
            fields(map, "", 0, &mut out);
            out
        }
        _ => "{}\n".to_owned(),
    }
}

/// The scalars and empty collections below mappings, by where they stand.
pub(crate) fn leaves(value: &Value, at: &str, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Map(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), out));
        }
        _ => {
            out.insert(at.to_owned(), value.clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_can_be_made_to_say_any_other_value(old in any_document(), new in any_document()) {
        let text = written(&old);
        prop_assert_eq!(value(&text), old.clone());
        let edited = rewrite(&text, &new, None, Limits::default());
        prop_assert!(edited.is_some(), "{text}\n=> {new:?}");
        let edited = edited.unwrap();
        prop_assert_eq!(value(&edited), new.clone());
        // What stays keeps its words.
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        leaves(&old, "", &mut before);
        leaves(&new, "", &mut after);
        for (at, value) in &before {
            if after.get(at) == Some(value) && text.contains(&format!("# at {at};")) {
                prop_assert!(edited.contains(&format!("# at {at};")), "{at} of\n{text}\n=>\n{edited}");
            }
        }
        // Done again it does nothing.
        let again = rewrite(&edited, &new, None, Limits::default());
        prop_assert_eq!(again, Some(edited));
    }

    #[test]
    fn a_donor_changes_words_and_never_the_value(
        old in any_document(),
        new in any_document(),
        donor in any_document(),
    ) {
        for donor in [written(&donor), written(&new)] {
            let edited = rewrite(&written(&old), &new, Some(&donor), Limits::default());
            prop_assert_eq!(edited.map(|it| value(&it)), Some(new.clone()));
        }
    }
}
