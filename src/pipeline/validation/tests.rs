//! Files as people write them, and as nobody should.

use super::*;
use crate::model::path::RawPath;
use proptest::prelude::*;

const VPC: &str = "apiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC\nmetadata:\n  name: vpc-1\n";

fn judge(name: &str, bytes: &[u8]) -> Result<Validated, Rejected> {
    let catalog = Catalog::hedgehog();
    let rules = Rules {
        limits: Limits::default(),
        catalog: &catalog,
        schema: SchemaStrategy::Warn,
        partial: false,
    };
    validate(Intake::new(RawPath::new(name), bytes), &rules)
}

fn good(text: &str) -> Vec<Document> {
    match judge("a.yaml", text.as_bytes()) {
        Ok(it) => it.documents,
        Err(it) => panic!("{text}\n{:#?}", it.problems),
    }
}

fn with(spec: &str) -> String {
    format!("{VPC}spec:\n{spec}")
}

fn named(name: &str) -> String {
    format!("apiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC\nmetadata:\n  name: {name}\n")
}

#[test]
fn every_document_keeps_its_own_words() {
    let text = format!(
        "# the first\n{VPC}spec: {{}} # empty\n---\n# only a comment\n---\n{}",
        named("vpc-2")
    );
    let documents = good(&text);
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0].text, format!("# the first\n{VPC}spec: {{}} # empty\n"));
    assert_eq!((documents[1].index, documents[1].line), (2, 10));
    assert_eq!(documents[1].text, named("vpc-2"));
    assert_eq!(documents[1].key.namespace, "default");
}

#[test]
fn what_a_cluster_filled_in_is_cut_and_nothing_else() {
    let text = "apiVersion: wiring.githedgehog.com/v1beta1\nkind: Switch\nmetadata:\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {\"a\": 1}\n  creationTimestamp: null\n  name: leaf-01 # ours\n  uid: abc\nspec:\n  role: spine\nstatus:\n  x:\n  - y\n";
    let it = &good(text)[0];
    assert_eq!(
        it.text,
        "apiVersion: wiring.githedgehog.com/v1beta1\nkind: Switch\nmetadata:\n  name: leaf-01 # ours\nspec:\n  role: spine\n"
    );
    assert_eq!(it.cut.len(), 4);
}

#[test]
fn a_list_becomes_its_items() {
    let text = "apiVersion: v1\nkind: List\nitems:\n# one\n- apiVersion: vpc.githedgehog.com/v1beta1\n  kind: VPC # c\n  metadata:\n    name: a\n  spec:\n    note: |\n      x\n        y\n- {apiVersion: vpc.githedgehog.com/v1beta1, kind: VPC, metadata: {name: b}}\n";
    let documents = good(text);
    assert_eq!(
        documents[0].text,
        "# one\napiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC # c\nmetadata:\n  name: a\nspec:\n  note: |\n    x\n      y\n"
    );
    assert_eq!(
        documents[1].text,
        "{apiVersion: vpc.githedgehog.com/v1beta1, kind: VPC, metadata: {name: b}}\n"
    );
    assert_eq!((documents[1].index, documents[1].line), (2, 13));
}

#[test]
fn an_item_that_leans_on_another_is_written_out() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: vpc.githedgehog.com/v1beta1\n  kind: VPC\n  metadata: {name: a}\n  spec: &s {mode: l3vni}\n- apiVersion: vpc.githedgehog.com/v1beta1\n  kind: VPC\n  metadata: {name: b}\n  spec: *s\n";
    let it = judge("a.yaml", text.as_bytes()).unwrap();
    assert_eq!(it.warnings[0].rule, "list-rewritten");
    assert!(it.documents[1].text.contains("mode: l3vni"), "{}", it.documents[1].text);
}

#[test]
fn a_list_may_end_in_any_letter() {
    for end in ["caf\u{e9}", "\u{1f600}", "x"] {
        let text = format!(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: vpc.githedgehog.com/v1beta1\n  kind: VPC\n  metadata:\n    name: a\n  spec:\n    note: {end}"
        );
        assert!(good(&text)[0].text.ends_with(&format!("note: {end}\n")), "{end}");
    }
}

#[test]
fn json_is_kept_as_json() {
    let text = "{\n  \"apiVersion\": \"vpc.githedgehog.com/v1beta1\",\n  \"kind\": \"VPC\",\n  \"metadata\": {\"uid\": \"x\", \"name\": \"a\"},\n  \"status\": {}\n}\n";
    let it = judge("a.json", text.as_bytes()).unwrap();
    assert_eq!(
        it.documents[0].text,
        "{\n  \"apiVersion\": \"vpc.githedgehog.com/v1beta1\",\n  \"kind\": \"VPC\",\n  \"metadata\": {\"name\": \"a\"}\n}\n"
    );
    assert_eq!(judge("a.json", VPC.as_bytes()).unwrap_err().problems[0].rule, "json");
}

#[test]
fn a_file_of_comments_has_no_documents() {
    assert_eq!(good("# apiVersion: x\n# kind: y\n").len(), 0);
    assert_eq!(good("---\n# a\n---\n").len(), 0);
}

#[test]
fn real_habits_are_fine() {
    let texts = [
        named("leaf-01.rack-2"),
        with("  subnets:\n    \"1\": 10.0.0.0/8\n  key:\n"),
        VPC.replace('\n', "\r\n"),
        format!("\u{feff}{VPC}"),
        format!("---\n{VPC}---\n"),
        format!("{VPC}spec: &a\n  x: 1\nother: *a\n"),
        VPC.trim_end().to_owned(),
        named("'123'"),
        format!("{VPC}  labels:\n    a:\n    b: \"1\"\n"),
    ];
    for text in texts {
        assert_eq!(good(&text).len(), 1, "{text}");
    }
}

#[test]
fn each_mistake_has_its_rule_and_its_way_out() {
    let twice = format!("{VPC}---\n{VPC}");
    let long = "a".repeat(254);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "empty-file"),
        (b" \n\n".to_vec(), "empty-file"),
        (b"a: \xff".to_vec(), "not-utf-8"),
        (b"\xff\xfea".to_vec(), "not-utf-16"),
        (b"a: \0".to_vec(), "control-character"),
        (b"a: \x1b[0m".to_vec(), "control-character"),
        (b"hello".to_vec(), "not-a-mapping"),
        (b"- a\n- b\n".to_vec(), "not-a-mapping"),
        (b"a: b: c\n".to_vec(), "syntax"),
        (b"a: [1, 2\n".to_vec(), "syntax"),
        (b"a: \"x\n".to_vec(), "syntax"),
        (b"a: 1\n b: 2\n".to_vec(), "syntax"),
        (b"a:\n\tb: 1\n".to_vec(), "tab"),
        (b"a: *b\n".to_vec(), "unknown-alias"),
        (b"a: !secret x\n".to_vec(), "custom-tag"),
        (b"a: !!python/object:x y\n".to_vec(), "custom-tag"),
        (b"{a: 1}: b\n".to_vec(), "complex-key"),
        (b"a: {{ .Values.x }}\n".to_vec(), "template"),
        (b"{{ if .x }}\na: 1\n{{ end }}\n".to_vec(), "template"),
        (b"{{- if .x }}\na: 1\n{{- end }}\n".to_vec(), "template"),
        (named("'{{ .name }}'").into_bytes(), "template"),
        (with("  x: $(NAME)\n").into_bytes(), "template"),
        (with("  x: a-${NAME}\n").into_bytes(), "template"),
        (with("  x: <no value>\n").into_bytes(), "template"),
        (with("  a: 1\n  a: 2\n").into_bytes(), "duplicate-key"),
        (format!("{VPC}kind: VPC\n").into_bytes(), "duplicate-key"),
        (b"kind: VPC\nmetadata: {name: a}\n".to_vec(), "no-api-version"),
        (b"apiVersion: v1\nmetadata: {name: a}\n".to_vec(), "no-kind"),
        (b"apiVersion: v1\nkind: VPC\n".to_vec(), "no-metadata"),
        (b"apiVersion: v1\nkind: VPC\nmetadata: x\n".to_vec(), "no-metadata"),
        (b"apiVersion: v1\nkind: VPC\nmetadata: {}\n".to_vec(), "no-name"),
        (b"apiVersion: v1\nkind: VPC\nmetadata: {name: }\n".to_vec(), "no-name"),
        (b"apiVersion: v1\nkind: VPC\nmetadata: {generateName: a-}\n".to_vec(), "generate-name"),
        (b"apiVersion: [1]\nkind: VPC\nmetadata: {name: a}\n".to_vec(), "not-text"),
        (b"apiVersion: a/b/c\nkind: VPC\nmetadata: {name: a}\n".to_vec(), "bad-api-version"),
        (b"apiVersion: v1\nkind: ../x\nmetadata: {name: a}\n".to_vec(), "bad-kind"),
        (named("123").into_bytes(), "not-text"),
        (named("no").into_bytes(), "not-text"),
        (named("../../etc/passwd").into_bytes(), "bad-name"),
        (named("a/b").into_bytes(), "bad-name"),
        (named("VPC-1").into_bytes(), "bad-name"),
        (named("-a").into_bytes(), "bad-name"),
        (named("a..b").into_bytes(), "bad-name"),
        (named("\"a\\nb\"").into_bytes(), "bad-name"),
        (named("\"a\\u202eb\"").into_bytes(), "bad-name"),
        (named(&long).into_bytes(), "bad-name"),
        (format!("{VPC}  namespace: a.b\n").into_bytes(), "bad-namespace"),
        (format!("{VPC}  namespace: ../x\n").into_bytes(), "bad-namespace"),
        (format!("{VPC}  labels: x\n").into_bytes(), "not-a-mapping"),
        (format!("{VPC}  labels: {{a: 1}}\n").into_bytes(), "not-text"),
        (twice.into_bytes(), "duplicate-resource"),
        (format!("{VPC}items: []\n").into_bytes(), "stray-items"),
        ("a: x\u{2028}y".as_bytes().to_vec(), "odd-line-end"),
        (b"racks: {}\n".to_vec(), "not-a-resource"),
        (b"apiVersion: v1\nKind: A\nmetadata: {name: a}\n".to_vec(), "no-kind"),
        (named("y").into_bytes(), "not-text"),
        (with("  a: .inf\n").into_bytes(), "not-finite"),
        (with("  ~: a\n").into_bytes(), "complex-key"),
        (with("  <<: 5\n").into_bytes(), "merge-key"),
        (with("<<<<<<< HEAD\n  a: 1\n=======\n  a: 2\n>>>>>>> x\n").into_bytes(), "merge-conflict"),
        (format!("x: &m {{uid: u}}\n{VPC}  <<: *m\n").into_bytes(), "cut-failed"),
        (
            (0..20_000).map(|n| format!("%TAG !a{n}! x\n")).collect::<String>().into_bytes(),
            "syntax",
        ),
        ("[".repeat(100_000).into_bytes(), "too-deep"),
        ("- ".repeat(100_000).into_bytes(), "too-deep"),
        ("---\n".repeat(20_000).into_bytes(), "too-many-documents"),
        (format!("{VPC}  uid: &u x\nspec:\n  y: *u\n").into_bytes(), "cut-failed"),
    ];
    for (bytes, rule) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        match judge("a.yaml", &bytes) {
            Ok(_) => panic!("{shown:?} passed, though it should be {rule}"),
            Err(it) => {
                let rules: Vec<&str> = it.problems.iter().map(|it| it.rule.as_str()).collect();
                assert_eq!(rules[0], rule, "{shown:?}: {:#?}", it.problems);
                assert!(it.problems.iter().all(|it| it.hint.is_some()), "{shown:?} has no way out");
            }
        }
    }
}

#[test]
fn a_slip_of_the_pen_is_met_with_the_word_that_was_meant() {
    for (text, place, hint) in [
        ("apiVesion: v1\nkind: A\nmetadata: {name: a}\n", (1, 1), "`apiVersion` by `apiVesion`"),
        ("apiVersion: v1\nKind: A\nmetadata: {name: a}\n", (2, 1), "write `kind`, not `Kind`"),
        ("apiVersion: v1\nkind: A\nmetdata: {name: a}\n", (3, 1), "`metadata` by `metdata`"),
        ("apiVersion: v1\nkind: A\nmetadata: {nmae: a}\n", (3, 12), "`name` by `nmae`"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: Rack_1}\n", (3, 18), "did you mean `rack-1`?"),
        (
            "apiVersion: v1\nkind: A\nmetadata: {name: a, namespace: Prod}\n",
            (3, 32),
            "did you mean `prod`?",
        ),
    ] {
        let it = judge("a.yaml", text.as_bytes()).unwrap_err().problems.remove(0);
        assert_eq!((it.line.unwrap(), it.column.unwrap()), place, "{text}");
        let told = it.hint.unwrap();
        assert!(told.contains(hint), "{text}: {told}");
    }
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_place() {
    let text = format!("{VPC}---\nkind: VPC\nmetadata:\n  name: Bad\n---\n{}  x: [1\n", named("c"));
    let it = judge("a.yaml", text.as_bytes()).unwrap_err();
    let told: Vec<String> = it
        .problems
        .iter()
        .map(|it| format!("{} {:?} {:?}:{:?}", it.rule, it.document, it.line, it.column))
        .collect();
    assert_eq!(told[0], "no-api-version Some(2) Some(6):Some(1)");
    assert_eq!(told[1], "bad-name Some(2) Some(8):Some(9)");
    assert_eq!(it.problems[1].excerpt.as_deref(), Some("  name: Bad"));
    assert!(told[2].starts_with("syntax Some(3)"), "{told:?}");
}

#[test]
fn a_mistake_hides_nothing_behind_it() {
    let agent = VPC.replace("kind: VPC", "kind: VPCC");
    let text = format!("{VPC}spec: [\n---\n{agent}---\n{}---\n{}x: {{\n", named("B"), named("c"));
    let it = judge("a.yaml", text.as_bytes()).unwrap_err();
    let told: Vec<String> = it
        .problems
        .iter()
        .map(|it| format!("{} {:?} {:?}", it.rule, it.document.unwrap(), it.excerpt))
        .collect();
    assert_eq!(
        told,
        [
            "syntax 1 Some(\"spec: [\")",
            "unknown-kind 2 Some(\"kind: VPCC\")",
            "bad-name 3 Some(\"  name: B\")",
            "syntax 4 Some(\"x: {\")",
        ]
    );
}

#[test]
fn a_file_may_end_within_a_block_and_without_a_line_end() {
    let text = with("  note: |\n    x");
    assert_eq!(good(&text)[0].text, format!("{text}\n"));
}

#[test]
fn blank_lines_that_are_content_stay() {
    for block in ["  a: |+\n    x\n\n\n", "  a: |\n    x\n        \n"] {
        let documents = good(&format!("{}---\n{}\n\n", with(block), named("b")));
        assert_eq!(documents[0].text, with(block));
        assert_eq!(documents[1].text, named("b"));
        let again = read_managed(documents[0].text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!((&again.text, again.content), (&documents[0].text, documents[0].content));
    }
}

#[test]
fn comments_above_an_item_go_with_it() {
    let item = |name| format!("- apiVersion: v1\n  kind: A\n  metadata:\n    name: {name}\n");
    let text = format!(
        "apiVersion: v1\nkind: List\nitems:\n# one\n{}  # tail\n# two\n{}",
        item("a"),
        item("b")
    );
    let texts: Vec<String> = good(&text).into_iter().map(|it| it.text).collect();
    let own = |name| format!("apiVersion: v1\nkind: A\nmetadata:\n  name: {name}\n");
    assert_eq!(texts, [format!("# one\n{}# tail\n", own("a")), format!("# two\n{}", own("b"))]);
}

#[test]
fn a_name_may_be_merged_in() {
    let text = "x: &m {name: a}\napiVersion: v1\nkind: A\nmetadata:\n  <<: *m\n";
    assert_eq!(good(text)[0].key.name, "a");
}

#[test]
fn more_mistakes_than_anybody_reads_are_counted() {
    let text = "---\nkind: no\na: no\n".repeat(3_000);
    let it = judge("a.yaml", text.as_bytes()).unwrap_err();
    assert!(it.problems.len() <= 2 * PROBLEMS_MAX + 1, "{}", it.problems.len());
    let last = it.problems.iter().rfind(|it| it.is_error()).unwrap();
    assert_eq!((last.rule.as_str(), last.hint.is_some()), ("more", true));
}

#[test]
fn a_word_that_kubernetes_takes_for_a_truth_value_is_told() {
    // Of this kind nobody knows the fields.
    let text = with("  x: no\n").replace("vpc.githedgehog.com/v1beta1\nkind: VPC", "v1\nkind: A");
    let it = judge("a.yaml", text.as_bytes()).unwrap();
    assert_eq!((it.warnings[0].rule.as_str(), it.warnings[0].line), ("yaml-1.1-boolean", Some(6)));
}

#[test]
fn a_breach_of_the_schema_is_told_or_keeps_the_file_out() {
    let catalog = Catalog::hedgehog();
    let with = |schema, text: &str| {
        let rules = Rules { limits: Limits::default(), catalog: &catalog, schema, partial: false };
        validate(Intake::new(RawPath::new("a.yaml"), text.as_bytes()), &rules)
    };
    let text = with_subnets("      vlna: 7\n");
    let rules = |it: &[Problem]| it.iter().map(|it| it.rule.clone()).collect::<Vec<_>>();
    assert_eq!(with(SchemaStrategy::Off, &text).unwrap().warnings, []);
    let warned = with(SchemaStrategy::Warn, &text).unwrap().warnings;
    assert_eq!(rules(&warned), ["unknown-field"]);
    assert_eq!((warned[0].line, warned[0].column, warned[0].is_error()), (Some(8), Some(7), false));
    assert_eq!(warned[0].excerpt.as_deref(), Some("      vlna: 7"));
    let refused = with(SchemaStrategy::Enforce, &text).unwrap_err().problems;
    assert_eq!((rules(&refused), refused[0].is_error()), (vec!["unknown-field".to_owned()], true));
    // What only older readers would misread never keeps a file out.
    let noted = with(SchemaStrategy::Enforce, &with_subnets("      gateway: 12:30\n")).unwrap();
    assert_eq!(rules(&noted.warnings), ["yaml-1.1-text"]);
}

fn with_subnets(subnet: &str) -> String {
    with(&format!("  subnets:\n    a:\n{subnet}"))
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = judge("a.yaml", &bytes);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-c:\\-\\[\\]{}#&*!|>'\" \n\t,]{0,80}") {
        let _ = judge("a.yaml", text.as_bytes());
    }

    #[test]
    fn no_block_makes_it_panic(
        text in r"(a: |- |  )?[|>][+-]?[1-9]?\n?( {0,4}[a-c#:\-]{0,3}\n?){0,5}",
    ) {
        let _ = judge("a.yaml", text.as_bytes());
        let _ = judge("a.yaml", with(&text).as_bytes());
    }

    #[test]
    fn what_is_filed_is_read_as_the_same_and_filed_again_as_it_is(
        comment in "[a-z ]{0,10}",
        spec in "( {2}[a-z]{1,5}: [a-z0-9]{1,6}( # [a-z]+)?\n){0,4}",
        uid in any::<bool>(),
    ) {
        let uid = if uid { "  uid: x\n" } else { "" };
        let text = format!("# {comment}\n{VPC}{uid}spec:\n{spec}status: {{a: 1}}\n");
        if let Ok(it) = judge("a.yaml", text.as_bytes()) {
            let once = &it.documents[0];
            let again = &read_managed(once.text.as_bytes(), &Limits::default()).unwrap();
            prop_assert_eq!(&once.text, &again.text);
            prop_assert_eq!(once.content, again.content);
            prop_assert!(text.contains(&spec) && once.text.contains(&spec));
        }
    }
}
