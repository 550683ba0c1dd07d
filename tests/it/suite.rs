//! The YAML test suite, and a second parser: what we read, do they read as well?
//!
//! The suite is not part of the project; where YAML_TEST_SUITE names no file with it, the test
//! says so and passes. CONTRIBUTING.md says how to get it.

use git_intake::yaml::parse::parse;
use git_intake::yaml::value::{self, Value, resolve};
use git_intake::yaml::{Content, Limits, Node, Style};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One case of the suite.
struct Case {
    /// The case's id, with its number where there are several of one id.
    id: String,
    yaml: String,
    /// The values of its documents; none where it says nothing about them.
    json: Option<String>,
    fails: bool,
}

fn suite() -> Option<Vec<Case>> {
    let file = std::env::var_os("YAML_TEST_SUITE").map(PathBuf::from);
    let Some(text) = file.and_then(|it| std::fs::read_to_string(it).ok()) else {
        eprintln!("skipped: YAML_TEST_SUITE names no file with the YAML test suite");
        return None;
    };
    let told: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut cases = Vec::new();
    for it in &told {
        let id = it["filename"].as_str().unwrap().trim_end_matches(".yaml");
        let all = it["cases"].as_array().unwrap();
        for (n, it) in all.iter().enumerate() {
            cases.push(Case {
                id: if all.len() == 1 { id.to_owned() } else { format!("{id}/{n}") },
                yaml: it["yaml"].as_str().unwrap_or_default().to_owned(),
                json: it["json"].as_str().map(str::to_owned),
                fails: it["fail"] == true,
            });
        }
    }
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    Some(cases)
}

/// What becomes of a case with us, in a word.
fn outcome(case: &Case) -> String {
    let (documents, fault) = parse(&case.yaml, Limits::default());
    match (fault, case.fails, &case.json) {
        (Some(_), true, _) => "rejected".into(),
        (None, true, _) => "accepted".into(),
        (Some(fault), false, _) => format!("refused: {}", fault.rule),
        (None, false, None) => "read".into(),
        (None, false, Some(json)) => {
            let ours: Vec<serde_json::Value> = documents
                .iter()
                .map(|it| {
                    it.root.as_ref().map_or(serde_json::Value::Null, |it| json_of(&resolve(it)))
                })
                .collect();
            let theirs: Result<Vec<serde_json::Value>, _> =
                serde_json::Deserializer::from_str(json).into_iter().collect();
            if theirs.is_ok_and(|it| it == ours) { "same".into() } else { "different".into() }
        }
    }
}

fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(it) => (*it).into(),
        Value::Int(it) => i64::try_from(*it).map_or_else(|_| (*it as f64).into(), Into::into),
        Value::Float(bits) => f64::from_bits(*bits).into(),
        Value::Text(it) => it.as_str().into(),
        Value::List(items) => items.iter().map(json_of).collect(),
        Value::Map(map) => map.iter().map(|(k, v)| (k.clone(), json_of(v))).collect(),
    }
}

/// Where the suite and we disagree: what becomes of the cases, why that is right, and which.
///
/// Kubernetes reads with a port of libyaml; what that reads otherwise than YAML 1.2, so do we.
const EXPLAINED: &[(&str, &str, &str)] = &[
    ("accepted", "libyaml wants no blank before a comment here", "9JBA CVW2 SU5Z X4QW"),
    (
        "accepted",
        "libyaml does not count columns within brackets and quotes",
        "9C9N DK95/1 QB6E Y79Y/3",
    ),
    (
        "accepted",
        "libyaml takes a directive, or text like one, without `...` before it",
        "EB22 MUS6/0 MUS6/1 RHX7",
    ),
    ("accepted", "a dash in brackets is text to libyaml", "G5U8 YJV2"),
    ("accepted", "libyaml takes blank lines deeper than the text of a block", "S98Z"),
    ("different", "`?` begins a key within brackets, whatever follows it", "652Z HM87/1"),
    ("different", "to libyaml the name of an anchor ends at a colon", "Y2GN"),
    (
        "refused: complex-key",
        "keys are text in JSON, and so in Kubernetes",
        "4FJ6 6BFJ 6PBE 9MMW DFF7 FH7J KK5P LX3P M2N8/1 M5DY PW8X Q9WF RZP5 SBG9 V9D5 X38W XW4D",
    ),
    ("refused: complex-key", "an anchor ends at a colon, which leaves nothing for a key", "2SXE"),
    (
        "refused: custom-tag",
        "no tag beyond YAML's core means anything to Kubernetes",
        "2XXW 565N 5TYM 6CK3 6WLZ 7FWL 9WXW C4HZ CC74 CUP7 J7PZ M5C3 P76L UGM3 Z67P Z9M4",
    ),
    (
        "refused: syntax",
        "within brackets libyaml wants a key on one line, and its colon behind it with a blank",
        "4ABK 4MUZ/0 4MUZ/1 4MUZ/2 58MP 5MUD 5T43 9SA2 CFD4 DBG4 FRK4 HM87/0 K3WX NJ66 UT92 VJP3/1",
    ),
    (
        "refused: syntax",
        "libyaml wants text before the colon of a key",
        "2JQS 6M2F M2N8/0 NHX8 NKF9 S3PD SM9W/1 UKK6/0",
    ),
    (
        "refused: syntax",
        "libyaml knows no directives but %YAML 1.1, %YAML 1.2 and %TAG",
        "2LFX 6LVF BEC7 MUS6/5 MUS6/6",
    ),
    (
        "refused: syntax",
        "behind `...` libyaml wants a `---`, and before it a document",
        "7Z25 HWV9 QT73",
    ),
    ("refused: syntax", "libyaml takes letters, digits, `-` and `_` in anchors", "8XYN W5VH"),
    ("refused: syntax", "libyaml wants the text of a block to be indented", "DK3J FP8R M7A3 W4TN"),
    (
        "refused: tab",
        "libyaml wants no tab where indentation may stand, blank lines included",
        "6BCT 6CA3 96NN/0 96NN/1 A2M4 DK95/0 DK95/3 DK95/4 Q5MG R4YG Y79Y/1 Y79Y/10",
    ),
    ("refused: unreadable", "the parser fails on a tag without a value within brackets", "WZ62"),
];

#[test]
fn the_yaml_test_suite_agrees_but_for_what_is_explained() {
    let Some(cases) = suite() else { return };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut odd: BTreeMap<String, String> = BTreeMap::new();
    for case in &cases {
        let outcome = outcome(case);
        *counts.entry(outcome.clone()).or_default() += 1;
        if !["same", "rejected", "read"].contains(&outcome.as_str()) {
            odd.insert(case.id.clone(), outcome);
        }
    }
    eprintln!("{} cases: {counts:?}", cases.len());
    let explained: BTreeMap<String, String> = EXPLAINED
        .iter()
        .flat_map(|(outcome, _, ids)| {
            ids.split(' ').map(|id| (id.to_owned(), (*outcome).to_owned()))
        })
        .collect();
    assert_eq!(odd, explained);
}

/// Compares what we read with what serde_yaml reads. It goes by YAML 1.2, where `no` and `0777` are
/// other things than in Kubernetes; such words are passed over.
fn differs(ours: &Node, theirs: &serde_yaml::Value) -> Option<String> {
    use serde_yaml::Value as Theirs;
    let told = || Some(format!("{:?} / {theirs:?}", ours.content));
    match (&ours.content, theirs) {
        (Content::Scalar { text, style: Style::Plain, .. }, _) if is_read_otherwise(text) => None,
        (Content::Scalar { .. }, _) if resolve(ours).to_yaml() == *theirs => None,
        (Content::Sequence(items), Theirs::Sequence(them)) if items.len() == them.len() => {
            items.iter().zip(them).find_map(|(a, b)| differs(a, b))
        }
        (Content::Mapping(entries), Theirs::Mapping(them)) if entries.len() == them.len() => {
            entries.iter().zip(them).find_map(|((k, v), (tk, tv))| {
                // Keys are text to Kubernetes, whatever they look like.
                let same = tk.as_str().is_none_or(|it| k.text() == Some(it));
                if same { differs(v, tv) } else { told() }
            })
        }
        _ => told(),
    }
}

fn is_read_otherwise(text: &str) -> bool {
    let word = value::is_boolean_word(text);
    let number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    word || (number && (text.contains('_') || text.trim_start_matches(['+', '-']).starts_with('0')))
}

/// Each document of a text that we take, read by the second parser.
fn disagreements(text: &str) -> Vec<String> {
    let (documents, fault) = parse(text, Limits::default());
    if fault.is_some() {
        return vec![];
    }
    let mut found = Vec::new();
    for it in documents.iter().filter(|it| it.alone) {
        let (Some(root), own) = (&it.root, &text[it.region.clone()]) else { continue };
        found.extend(match serde_yaml::from_str::<serde_yaml::Value>(own) {
            Ok(theirs) => differs(root, &theirs),
            Err(error) => Some(format!("{error}: {own:?}")),
        });
    }
    found
}

#[test]
fn a_second_parser_reads_the_suite_as_we_do() {
    let Some(cases) = suite() else { return };
    let told: Vec<&str> = cases
        .iter()
        .filter(|it| !disagreements(&it.yaml).is_empty())
        .map(|it| it.id.as_str())
        .collect();
    // A lone `!` says text, which serde_yaml leaves to its caller; and a block that ends with the
    // file has a line end with us, as every file of ours does.
    assert_eq!(told, ["52DL", "8MK2", "JEF9/2", "L24T/1", "S4JQ", "UKK6/2"]);
}

#[test]
fn a_second_parser_reads_real_manifests_as_we_do() {
    let Some(samples) = crate::corpus::samples() else { return };
    let mut documents = 0;
    for (name, bytes) in &samples {
        let text = git_intake::yaml::decode::decode(bytes).unwrap();
        documents += parse(&text, Limits::default()).0.len();
        assert_eq!(disagreements(&text), Vec::<String>::new(), "{name}");
    }
    eprintln!("{documents} documents read the same");
}
