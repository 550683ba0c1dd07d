//! Documents nobody wrote: whatever their shape, what is not cut stays byte for byte, what is filed
//! is read as the same and filed again as it is, and a second parser reads it as we do.

use super::*;
use crate::model::path::RawPath;
use proptest::prelude::*;
use std::fmt::Write as _;

/// A value as somebody may write it.
#[derive(Debug, Clone)]
enum Tree {
    Plain(String),
    Single(String),
    Double(String),
    Block(char, Vec<String>),
    Flow(String),
    Map(Vec<(String, Option<String>, Tree)>),
    List(Vec<Tree>),
}

/// A word that is text to every reader.
fn word() -> impl Strategy<Value = String> {
    "[g-m][a-z-]{0,7}[g-m]"
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        word().prop_map(Tree::Plain),
        (1u32..99_999).prop_map(|n| Tree::Plain(n.to_string())),
        "[a-z: #{-]{0,9}".prop_map(Tree::Single),
        "[a-z: #{-]{0,9}".prop_map(Tree::Double),
        (prop_oneof![Just('|'), Just('>')], proptest::collection::vec("[a-z #:]{0,6}[a-z]", 1..4))
            .prop_map(|(sign, lines)| Tree::Block(sign, lines)),
        (word(), word()).prop_map(|(a, b)| Tree::Flow(format!("{{{a}: [1, {b}], x: '#'}}"))),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let entry = (word(), proptest::option::of(word()), inner.clone());
        prop_oneof![
            proptest::collection::vec(entry, 1..4).prop_map(Tree::Map),
            proptest::collection::vec(inner, 1..4).prop_map(Tree::List),
        ]
    })
}

/// Writes `key: value` at a column; keys get a number, so that none stands twice.
fn write(out: &mut String, indent: usize, key: &str, comment: Option<&str>, tree: &Tree) {
    let blank = " ".repeat(indent);
    let comment = comment.map(|it| format!(" # {it}")).unwrap_or_default();
    match tree {
        Tree::Plain(it) => writeln!(out, "{blank}{key} {it}{comment}"),
        Tree::Single(it) => writeln!(out, "{blank}{key} '{it}'{comment}"),
        Tree::Double(it) => writeln!(out, "{blank}{key} \"{it}\"{comment}"),
        Tree::Flow(it) => writeln!(out, "{blank}{key} {it}{comment}"),
        Tree::Block(sign, lines) => {
            let _ = writeln!(out, "{blank}{key} {sign}2{comment}");
            lines.iter().try_for_each(|it| writeln!(out, "{blank}  {it}"))
        }
        Tree::Map(entries) => {
            let _ = writeln!(out, "{blank}{key}{comment}");
            for (n, (key, comment, it)) in entries.iter().enumerate() {
                write(out, indent + 2, &format!("{key}{n}:"), comment.as_deref(), it);
            }
            Ok(())
        }
        Tree::List(items) => {
            let _ = writeln!(out, "{blank}{key}{comment}");
            for it in items {
                match it {
                    // A list or mapping in a list needs a key of its own to stay simple to write.
                    Tree::Map(_) | Tree::List(_) => {
                        let _ = writeln!(out, "{blank}-");
                        write(out, indent + 2, "k:", None, it);
                    }
                    _ => write(out, indent, "-", None, it),
                }
            }
            Ok(())
        }
    }
    .expect("text takes every text");
}

fn judge(text: &str) -> Result<Validated, Rejected> {
    let catalog = Catalog::hedgehog();
    let rules = Rules {
        limits: Limits::default(),
        catalog: &catalog,
        schema: SchemaStrategy::Off,
        partial: false,
    };
    validate(Intake::new(RawPath::new("a.yaml"), text.as_bytes()), &rules)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_not_cut_stays_byte_for_byte(
        spec in tree(),
        status in proptest::option::of(tree()),
        fields in proptest::option::of(tree()),
        first in any::<bool>(),
        comment in word(),
        marker in prop_oneof![Just(""), Just("---\n"), Just("# top\n---\n"), Just("--- # here\n")],
    ) {
        let (mut kept, mut whole) = (String::new(), String::new());
        let mut both = |text: &str, cut: bool| {
            whole.push_str(text);
            if !cut {
                kept.push_str(text);
            }
        };
        let piece = |key: &str, indent, tree: &Tree| {
            let mut out = String::new();
            write(&mut out, indent, key, Some(&comment), tree);
            out
        };
        let status = status.map(|it| piece("status:", 0, &it)).unwrap_or_default();
        if first {
            both(&status, true);
        }
        both("apiVersion: vpc.githedgehog.com/v1beta1 # v\nkind: VPC\nmetadata:\n", false);
        both(&fields.map(|it| piece("managedFields:", 2, &it)).unwrap_or_default(), true);
        both("  # who\n  name: vpc-1\n", false);
        both(&piece("spec:", 0, &spec), false);
        if !first {
            both(&status, true);
        }
        let text = format!("{marker}{whole}");
        let it = match judge(&text) {
            Ok(it) => it,
            Err(it) => panic!("{text}\n{:#?}", it.problems),
        };
        let filed = &it.documents[0];
        let top = match marker {
            "# top\n---\n" => "# top\n",
            "--- # here\n" => "# here\n",
            _ => "",
        };
        prop_assert_eq!(&filed.text, &format!("{top}{kept}"), "{}", text);
        // Normal form is a fixed point.
        let again = read_managed(filed.text.as_bytes(), &Limits::default()).unwrap();
        prop_assert_eq!((&again.text, again.content), (&filed.text, filed.content));
        // What we read is what others read.
        let root = only(&filed.text, Limits::default()).unwrap();
        let theirs: serde_yaml::Value = serde_yaml::from_str(&filed.text).unwrap();
        prop_assert_eq!(resolve(&root).to_yaml(), theirs, "{}", filed.text);
        // And in one file with others it is the same.
        let other = text.replace("vpc-1", "vpc-2");
        let two = format!("{text}\n---\n{}", other.trim_start_matches("---\n"));
        if let Ok(it) = judge(&two) {
            prop_assert_eq!(&it.documents[0].text, &filed.text, "{}", two);
        }
    }
}
