//! Documents against schemas: what is told, where, and with which way out.

use super::*;
use crate::catalog::{Catalog, read_definitions};
use crate::yaml::parse::parse;
use crate::yaml::{Limits, Lines};

/// Judges `spec` against the schema of `spec`; a line a finding: rule, place, message, hint.
fn told(schema: &str, spec: &str) -> String {
    let root = |text: &str| parse(text, Limits::default()).0.remove(0).root.unwrap();
    let schema = Schema::read(&value::resolve(&root(schema))).unwrap();
    lines(&judge(&schema, &root(spec)), spec)
}

fn lines(found: &[Finding], text: &str) -> String {
    let lines = Lines::new(text);
    let line = |it: &Finding| {
        let (line, column) = lines.position(it.fault.at);
        let note = if it.weight == Weight::Note { " (note)" } else { "" };
        let hint = it.fault.hint.clone().unwrap();
        format!("{line}:{column} {}{note}: {}. {hint}", it.fault.rule, it.fault.message)
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(schema: &str, spec: &str, expect: &str) {
    assert_eq!(told(schema, spec), expect, "{spec}");
}

#[test]
fn a_field_that_does_not_exist_is_told_with_what_was_meant() {
    let schema = "{properties: {vlan: {type: integer}, subnet: {type: string}}}";
    check(schema, "vlan: 5\nsubnet: x\n", "");
    check(
        schema,
        "vlan: 5\nsubnets: x\n",
        "2:1 unknown-field: there is no field `subnets` in this kind, so it would be dropped. did you mean `subnet`?",
    );
    check(
        schema,
        "zzz: 5\n",
        "1:1 unknown-field: there is no field `zzz` in this kind, so it would be dropped. the fields here are subnet, vlan",
    );
    check("{type: object, x-kubernetes-preserve-unknown-fields: true}", "zzz: 5\n", "");
    check("{additionalProperties: {type: integer}}", "a: 1\nb: 2\n", "");
    check("{additionalProperties: true}", "a: 1\nb: {c: d}\n", "");
}

#[test]
fn types_are_those_that_kubernetes_reads() {
    let text = "{properties: {a: {type: string}}}";
    check(text, "a: 'no'\n", "");
    check(
        text,
        "a: no\n",
        "1:4 wrong-type: a takes text, and Kubernetes reads `no` as a truth value. put it in quotes: \"no\"",
    );
    check(
        text,
        "a: 0777\n",
        "1:4 wrong-type: a takes text, and Kubernetes reads `0777` as a number. put it in quotes: \"0777\"",
    );
    check(text, "a: {b: 1}\n", "1:4 wrong-type: a takes text, and this is a mapping. write text");
    check(text, "a: ~\n", "");
    check("{properties: {a: {type: boolean}}}", "a: yes\n", "");
    check("{properties: {a: {type: integer}}}", "a: 1.0\n", "");
    assert!(told("{properties: {a: {type: integer}}}", "a: 1.5\n").contains("whole number"));
    assert!(told("{properties: {a: {type: integer}}}", "a: '5'\n").contains("without quotes"));
    check("{properties: {a: {type: number}}}", "a: 1.5\n", "");
    check("{properties: {a: {x-kubernetes-int-or-string: true}}}", "a: 80%\n", "");
    assert!(
        told("{properties: {a: {x-kubernetes-int-or-string: true}}}", "a: 1.5\n")
            .contains("wrong-type")
    );
    assert!(told("{properties: {a: {items: {type: string}}}}", "a: x\n").contains("takes a list"));
    assert!(told("{properties: {a: {type: string, nullable: true}}}", "a: ~\n").is_empty());
}

#[test]
fn the_traps_of_older_readers_are_noted_where_text_is_wanted() {
    let text = "{properties: {a: {type: string}, n: {type: integer}, o: {x-kubernetes-preserve-unknown-fields: true}}}";
    check(
        text,
        "a: 12:30\n",
        "1:4 yaml-1.1-text (note): a is text to Kubernetes, but older readers take `12:30` for a number to the base of 60. put it in quotes: \"12:30\"",
    );
    assert!(told(text, "a: 2026-01-02\n").contains("a date"));
    for fine in [
        "a: '12:30'\n",
        "a: 12:99\n",
        "a: 10.0.0.1/24\n",
        "a: E1/1\n",
        "a: 0c:20:12:fe:00:01\n",
        "n: 12\n",
    ] {
        check(text, fine, "");
    }
    check(
        text,
        "n: 0777\n",
        "1:4 yaml-1.1-octal (note): n is written as 0777, which Kubernetes reads as the octal of 511. write 511, or the number without the leading zero",
    );
    assert!(told(text, "o: {x: no}\n").contains("yaml-1.1-boolean (note)"));
}

#[test]
fn values_keep_their_bounds() {
    let all = "{properties: {
        e: {type: string, enum: [spine, server-leaf, '']},
        n: {type: integer, minimum: 1, maximum: 10, multipleOf: 2},
        x: {type: integer, minimum: 1, exclusiveMinimum: true},
        i: {type: integer, format: int32},
        s: {type: string, minLength: 2, maxLength: 3, pattern: '^[a-z]+$'},
        c: {type: string, format: cidr},
        l: {items: {type: integer}, minItems: 1, maxItems: 2},
        m: {additionalProperties: {type: integer}, maxProperties: 1}}}";
    check(all, "{e: spine, n: 4, x: 2, s: abc, c: 10.0.0.0/8, l: [1], m: {a: 1}, i: 7}\n", "");
    check(
        all,
        "e: spin\n",
        "1:4 not-allowed: e does not take `spin`. did you mean spine? The values are spine, server-leaf, \"\"",
    );
    for (text, part) in [
        ("n: 0\n", "too little: the least is 1"),
        ("n: 12\n", "too much: the most is 10"),
        ("n: 3\n", "no multiple of 2"),
        ("x: 1\n", "too little"),
        ("i: 3000000000\n", "32 bits"),
        ("s: a\n", "needs 2 at least"),
        ("s: abcd\n", "takes 3 at most"),
        ("s: a1\n", "must match the pattern ^[a-z]+$"),
        ("c: 10.0.0.0\n", "not a prefix such as"),
        ("l: []\n", "l has 0 items, and needs 1 at least"),
        ("l: [1, 2, 3]\n", "takes 2 at most"),
        ("m: {a: 1, b: 2}\n", "m has 2 entries, and takes 1 at most"),
    ] {
        let found = told(all, text);
        assert!(found.contains(part) && found.lines().count() == 1, "{text}: {found}");
    }
}

#[test]
fn what_must_be_there_is_missed_also_where_it_has_no_value() {
    let schema = "{properties: {a: {properties: {b: {type: string}, d: {type: string, default: x}}, required: [b, d]}}}";
    check(schema, "a: {b: x}\n", "");
    check(schema, "a: {d: x}\n", "1:1 missing-field: a must have `b`. add `b`");
    check(schema, "a:\n  b:\n", "1:1 missing-field: a must have `b`. add `b`");
    check(schema, "a:\n", "");
    check(
        schema,
        "x: &x {b: z}\na: {<<: *x}\n",
        "1:1 unknown-field: there is no field `x` in this kind, so it would be dropped. did you mean `a`?",
    );
}

#[test]
fn lists_with_keys_hold_each_key_once() {
    let keyed = "{properties: {l: {x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [port, proto], items: {properties: {port: {type: integer}, proto: {type: string, default: tcp}}}}}}";
    check(keyed, "l:\n- {port: 1}\n- {port: 1, proto: udp}\n", "");
    check(
        keyed,
        "l:\n- {port: 1}\n- {proto: tcp, port: 1}\n",
        "3:3 duplicate-item: l has an earlier item with the same port and proto as item 2. keep one of the two",
    );
    let set = "{properties: {l: {x-kubernetes-list-type: set, items: {type: string}}}}";
    assert!(told(set, "l: [a, b, a]\n").contains("same value as item 3"));
    check("{properties: {l: {items: {type: string}}}}", "l: [a, a]\n", "");
}

#[test]
fn combinations_narrow_and_never_widen() {
    let one = "{properties: {a: {type: string}, b: {type: string}}, oneOf: [{required: [a]}, {required: [b]}]}";
    check(one, "a: x\n", "");
    check(
        one,
        "{a: x, b: z}\n",
        "1:1 wrong-form: this document has 2 of the fields of which it must have one. keep exactly one of a, b",
    );
    assert!(told(one, "{}\n").contains("has none of the fields"));
    let any = "{properties: {a: {type: integer, anyOf: [{maximum: 3}, {minimum: 8}]}}}";
    check(any, "a: 9\n", "");
    assert!(told(any, "a: 5\n").contains("none of the forms"));
    let not = "{properties: {a: {type: integer, not: {minimum: 3}, allOf: [{minimum: 1}]}}}";
    check(not, "a: 2\n", "");
    assert!(told(not, "a: 4\n").contains("excludes"));
    assert!(told(not, "a: 0\n").contains("too little"));
}

#[test]
fn a_resource_within_a_resource_is_judged_like_one() {
    let schema = "{properties: {t: {type: object, x-kubernetes-embedded-resource: true, properties: {spec: {type: object, properties: {}}}}}}";
    check(schema, "t: {apiVersion: v1, kind: A, metadata: {name: x}, spec: {}}\n", "");
    assert!(told(schema, "t: {metadata: {nam: x}}\n").contains("did you mean `name`?"));
}

#[test]
fn our_own_kinds_know_their_fields() {
    let catalog = Catalog::hedgehog();
    let told = |group: &str, kind: &str, version: &str, text: &str| {
        let text = format!("apiVersion: {group}/{version}\nkind: {kind}\n{text}");
        let root = parse(&text, Limits::default()).0.remove(0).root.unwrap();
        lines(&judge(catalog.schema(group, kind, version).unwrap(), &root), &text)
    };
    let vpc = |text: &str| told("vpc.githedgehog.com", "VPC", "v1beta1", text);
    assert_eq!(
        vpc("metadata: {name: a}\nspec: {subnets: {a: {subnet: 10.0.0.0/24, vlan: 7}}}\n"),
        ""
    );
    assert_eq!(
        vpc("metadata: {name: a, label: {}}\n").matches("did you mean `labels`?").count(),
        1
    );
    assert!(vpc("metadata: {name: long-name-of-a-vpc}\n").contains("takes 11 at most"));
    assert!(vpc("metadata: {name: a}\nspec: {subnets: {}}\n").contains("needs 1 at least"));
    let found = vpc("metadata: {name: a}\nspec: {subnets: {a: {vlna: 7}}}\n");
    assert!(found.contains("spec.subnets.a has no field `vlna`"), "{found}");
    let switch = |text: &str| told("wiring.githedgehog.com", "Switch", "v1beta1", text);
    let found = switch("metadata: {name: a}\nspec: {role: leaf}\n");
    assert!(found.contains("spec.role does not take `leaf`"), "{found}");
    let conn = |text: &str| told("wiring.githedgehog.com", "Connection", "v1beta1", text);
    assert!(
        conn("metadata: {name: a}\nspec: {mesh: {}, eslag: {}}\n").contains("keep exactly one of")
    );
    assert_eq!(
        told("wiring.githedgehog.com", "Server", "v1beta1", "metadata: {name: a}\nspec: {}\n"),
        ""
    );
    assert_eq!(told("wiring.githedgehog.com", "Server", "v1beta1", "metadata: {name: a}\n"), "");
}

#[test]
fn findings_have_a_limit() {
    let definition = "{properties: {l: {items: {type: integer}}}}";
    let spec = format!("l: [{}]\n", vec!["x"; 1_000].join(", "));
    assert!(told(definition, &spec).lines().count() <= FINDINGS_MAX);
    assert!(read_definitions(&"[".repeat(100_000)).is_err());
}
