//! Merges by example, and what must hold of all of them.

use super::*;
use crate::yaml::edit::tests::{any_document, leaves, written as commented};
use proptest::prelude::*;

const BASE: &str = "\
spec: # base
  neighbors:
  - ip: 1 # one
    asn: 1
  - ip: 2
    asn: 2
  groups: [a, b]
  vlan: 1
  mtu: 1500
  free: [1, 2]
";

fn sides<'a>(base: &'a str, record: &'a str, git: &'a str) -> Sides<'a> {
    let side = |it: &'a str| (!it.is_empty()).then_some(it);
    Sides { base: side(base), record: side(record), git: side(git) }
}

fn with(strategy: ConflictStrategy) -> Rule {
    Rule { strategy, ..Rule::default() }
}

fn run(base: &str, record: &str, git: &str, rule: &Rule) -> Merged {
    merge(sides(base, record, git), "Gateway", rule, Limits::default())
}

fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

fn check(record: &[(&str, &str)], git: &[(&str, &str)], expect: &[(&str, &str)]) {
    let merged = run(BASE, &edited(record), &edited(git), &Rule::default());
    assert_eq!(merged, Merged::Text(edited(expect)));
}

fn clashes(merged: Merged) -> Vec<String> {
    match merged {
        Merged::Conflict(fields) => fields.iter().map(|it| it.path.to_string()).collect(),
        other => panic!("no conflict: {other:?}"),
    }
}

#[test]
fn fields_of_different_hands_are_both_taken_with_both_comments() {
    let (ours, theirs) = (("vlan: 1", "vlan: 7 # ours"), ("mtu: 1500", "mtu: 9000 # theirs"));
    check(&[ours], &[theirs], &[ours, theirs]);
    check(&[theirs], &[ours], &[ours, theirs]);
    // On one line too.
    let (a, b) = (("groups: [a, b]", "groups: [a, b, c]"), ("groups: [a, b]", "groups: [b] # g"));
    let merged = run(
        &BASE.replace("[a", "  [a"),
        &edited(&[a]),
        &edited(&[b]),
        &with(ConflictStrategy::Merge),
    );
    assert!(matches!(merged, Merged::Conflict(_)), "a list of groups of a Gateway has named items");
}

#[test]
fn items_with_names_are_merged_one_by_one() {
    let ours = ("    asn: 1\n", "    asn: 11 # ours\n");
    let theirs = ("  - ip: 2\n    asn: 2\n", "  - ip: 2\n    asn: 22\n  - ip: 3\n    asn: 3\n");
    check(&[ours], &[theirs], &[ours, theirs]);
    let gone = ("  - ip: 2\n    asn: 2\n", "");
    check(&[gone], &[ours], &[ours, gone]);
    let merged = run(BASE, &edited(&[gone]), &edited(&[("asn: 2", "asn: 5")]), &Rule::default());
    assert_eq!(clashes(merged), ["spec.neighbors[ip=\"2\"]"]);
}

#[test]
fn sets_are_merged_by_their_values() {
    let base = "spec:\n  groups: [a, b]\n";
    let merged = merge(
        sides(base, "spec:\n  groups: [a, b, c]\n", "spec:\n  groups: [b] # g\n"),
        "Switch",
        &Rule::default(),
        Limits::default(),
    );
    assert_eq!(merged, Merged::Text("spec:\n  groups: [b, c] # g\n".to_owned()));
}

#[test]
fn a_field_that_both_changed_waits_for_a_person_with_all_three_values() {
    let (ours, theirs) = (("vlan: 1", "vlan: 2"), ("vlan: 1", "vlan: 3"));
    let merged = run(BASE, &edited(&[ours]), &edited(&[theirs]), &Rule::default());
    let Merged::Conflict(fields) = &merged else { panic!("{merged:?}") };
    assert_eq!(fields.len(), 1);
    let values = [&fields[0].base, &fields[0].record, &fields[0].git];
    assert_eq!(values.map(|it| it.clone().unwrap()), [1, 2, 3].map(serde_json::Value::from));
    // A list without names is one value.
    let (ours, theirs) = (("[1, 2]", "[1, 2, 3]"), ("[1, 2]", "[0, 1, 2]"));
    let merged = run(BASE, &edited(&[ours]), &edited(&[theirs]), &Rule::default());
    assert_eq!(clashes(merged), ["spec.free"]);
    // The same on both sides is no conflict.
    check(&[ours], &[ours], &[ours]);
}

#[test]
fn strategies_decide_what_overlaps_and_nothing_else() {
    let (ours, theirs) = (("vlan: 1", "vlan: 2"), ("vlan: 1", "vlan: 3"));
    let other = ("mtu: 1500", "mtu: 9000");
    let outcome = |rule: &Rule| run(BASE, &edited(&[ours]), &edited(&[theirs, other]), rule);
    let text = |edits: &[(&str, &str)]| Merged::Text(edited(edits));
    use ConflictStrategy::*;
    assert_eq!(outcome(&with(RecordWins)), text(&[ours, other]));
    assert_eq!(outcome(&with(GitWins)), text(&[theirs, other]));
    let newest = |side| Rule { newest: Some(side), ..with(Newest) };
    assert_eq!(outcome(&newest(Side::Record)), text(&[ours, other]));
    assert_eq!(outcome(&newest(Side::Git)), text(&[theirs, other]));
    assert_eq!(clashes(outcome(&with(Newest))), ["spec.vlan"], "nobody knows which is newer");
    assert_eq!(clashes(outcome(&with(Manual))), ["spec.mtu", "spec.vlan"]);
    let mut rule = with(Manual);
    rule.decisions.insert("spec.vlan".parse().unwrap(), Side::Base);
    rule.decisions.insert("spec".parse().unwrap(), Side::Record);
    assert_eq!(outcome(&rule), text(&[]), "the nearest decision counts");
}

#[test]
fn a_removal_meets_a_change() {
    let changed = edited(&[("vlan: 1", "vlan: 2")]);
    assert_eq!(run(BASE, "", BASE, &Rule::default()), Merged::Gone);
    assert_eq!(run(BASE, BASE, "", &Rule::default()), Merged::Gone);
    assert_eq!(clashes(run(BASE, "", &changed, &Rule::default())), ["."]);
    assert_eq!(clashes(run(BASE, &changed, "", &Rule::default())), ["."]);
    let wins = |strategy| run(BASE, "", &changed, &with(strategy));
    assert_eq!(wins(ConflictStrategy::RecordWins), Merged::Gone);
    assert_eq!(wins(ConflictStrategy::GitWins), Merged::Text(changed.clone()));
}

#[test]
fn two_that_made_one_name_are_never_mixed() {
    let merged = run("", "spec: {a: 1}\n", "spec: {b: 1}\n", &Rule::default());
    assert_eq!(clashes(merged), ["spec.a", "spec.b"]);
    let same = run("", "spec: {a: 1} # x\n", "spec:\n  a: 1\n", &Rule::default());
    assert_eq!(same, Merged::Text("spec:\n  a: 1\n".to_owned()));
}

#[test]
fn what_is_no_yaml_is_a_conflict_as_a_whole() {
    assert_eq!(
        clashes(run(BASE, &edited(&[("vlan: 1", "vlan: 2")]), "a: [", &Rule::default())),
        ["."]
    );
}

fn value(text: &str) -> Value {
    resolve(&edit::only(text, Limits::default()).unwrap())
}

/// A version of a document with some of its fields changed.
fn version(base: &Value, other: &Value, picks: &[bool]) -> Value {
    fn go(base: &Value, other: &Value, picks: &mut impl Iterator<Item = bool>) -> Value {
        match (base, other) {
            (Value::Map(base), Value::Map(other)) => {
                let names: BTreeSet<&String> = base.keys().chain(other.keys()).collect();
                let mut map = BTreeMap::new();
                for name in names {
                    let kept = match (base.get(name), other.get(name)) {
                        (Some(a), Some(b)) => Some(go(a, b, picks)),
                        (a, b) => if picks.next().unwrap() { b } else { a }.cloned(),
                    };
                    map.extend(kept.map(|it| (name.clone(), it)));
                }
                Value::Map(map)
            }
            _ => if picks.next().unwrap() { other } else { base }.clone(),
        }
    }
    go(base, other, &mut picks.iter().copied().cycle())
}

fn any_three() -> impl Strategy<Value = (Value, Value, Value)> {
    let picks = || proptest::collection::vec(any::<bool>(), 1..12);
    (any_document(), any_document(), any_document(), picks(), picks()).prop_map(
        |(base, a, b, picks_a, picks_b)| {
            let (a, b) = (version(&base, &a, &picks_a), version(&base, &b, &picks_b));
            // A resource always says what it is.
            let identified = |mut it: Value| {
                if let Value::Map(entries) = &mut it {
                    entries.insert("id".to_owned(), Value::Int(1));
                }
                it
            };
            (identified(base), identified(a), identified(b))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_side_that_did_nothing_gives_way((base, a, _) in any_three()) {
        let (base, a) = (commented(&base), commented(&a));
        for strategy in [ConflictStrategy::Merge, ConflictStrategy::RecordWins, ConflictStrategy::GitWins, ConflictStrategy::Newest] {
            let rule = with(strategy);
            prop_assert_eq!(run(&base, &base, &a, &rule), Merged::Text(a.clone()));
            prop_assert_eq!(run(&base, &a, &base, &rule), Merged::Text(a.clone()));
            prop_assert_eq!(run(&base, &a, &a, &rule), Merged::Text(a.clone()));
        }
    }

    #[test]
    fn no_edit_of_a_side_is_lost_and_the_sides_can_be_swapped((base, a, b) in any_three()) {
        let outcome = run(&commented(&base), &commented(&a), &commented(&b), &Rule::default());
        let swapped = run(&commented(&base), &commented(&b), &commented(&a), &Rule::default());
        let [mut in_base, mut in_a, mut in_b] = [(); 3].map(|()| BTreeMap::new());
        leaves(&base, "", &mut in_base);
        leaves(&a, "", &mut in_a);
        leaves(&b, "", &mut in_b);
        match (outcome, swapped) {
            (Merged::Text(text), Merged::Text(other)) => {
                let merged = value(&text);
                prop_assert_eq!(&merged, &value(&other));
                let mut there = BTreeMap::new();
                leaves(&merged, "", &mut there);
                for side in [&in_a, &in_b] {
                    for (at, leaf) in side.iter().filter(|(at, leaf)| in_base.get(*at) != Some(leaf)) {
                        // An empty collection may have been filled by the other side.
                        let filled = there.keys().any(|it| it.starts_with(&format!("{at}/")));
                        prop_assert!(there.get(at) == Some(leaf) || filled, "{at} is lost");
                    }
                }
            }
            (Merged::Conflict(fields), Merged::Conflict(other)) => {
                let paths = |fields: &[FieldClash]| {
                    fields.iter().map(|it| it.path.clone()).collect::<BTreeSet<_>>()
                };
                prop_assert_eq!(paths(&fields), paths(&other));
                for it in &fields {
                    prop_assert!(it.record != it.git && it.base != it.record && it.base != it.git);
                }
            }
            other => prop_assert!(false, "swapping the sides changes the outcome: {other:?}"),
        }
    }

    #[test]
    fn every_conflict_can_be_decided_for_either_side((base, a, b) in any_three()) {
        let texts = [commented(&base), commented(&a), commented(&b)];
        let [base, a, b] = &texts;
        for (strategy, side) in [(ConflictStrategy::RecordWins, Side::Record), (ConflictStrategy::GitWins, Side::Git)] {
            let merged = run(base, a, b, &with(strategy));
            prop_assert!(!matches!(merged, Merged::Conflict(_)), "{merged:?}");
            if let Merged::Conflict(fields) = run(base, a, b, &Rule::default()) {
                let decisions = fields.into_iter().map(|it| (it.path, side)).collect();
                let decided = run(base, a, b, &Rule { decisions, ..Rule::default() });
                prop_assert_eq!(decided, merged);
            }
        }
    }
}
