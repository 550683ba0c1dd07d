//! Who reads the tree after us: whatever is dropped, Argo CD and Flux find nothing in `managed/`
//! that they would choke on.
//!
//! Odd files go through a real turn together; a fresh clone of the remote is then read with another
//! parser, by the rules of those two.

use crate::world::World;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};

/// Any of these words; the first ones are as they should be, and come more often.
fn any_of(right: &'static [&'static str], odd: &'static [&'static str]) -> BoxedStrategy<String> {
    let right = proptest::sample::select(right);
    let odd = proptest::sample::select(odd);
    prop_oneof![3 => right, 1 => odd].prop_map(str::to_owned).boxed()
}

/// A document with at most a few things wrong or unusual about it.
fn document() -> impl Strategy<Value = String> {
    let head = any_of(&["", "# mine\n"], &["%YAML 1.1\n---\n", "{{- if .x }}\n", "\t\n", "...\n"]);
    let version = any_of(
        &["vpc.githedgehog.com/v1beta1", "\"vpc.githedgehog.com/v1beta1\""],
        &["v1", "kustomize.config.k8s.io/v1beta1", "!!str v1", "!x v1", "1", "{{ .v }}", "", "*a"],
    );
    let kind = any_of(
        &["VPC", "'VPC'", "&k VPC"],
        &[
            "List",
            "VPCList",
            "Kustomization",
            "ConfigMap",
            "vpc",
            "Agent",
            "yes",
            "{a: b}",
            "|\n  VPC",
        ],
    );
    // Names that few others have, or each would only be a rival of the rest.
    const USUAL: [&str; 5] = ["a", "c.d", "\"e\"", "kustomization", "&n g"];
    const ODD: [&str; 12] =
        ["A", "1", "1e3", "0777", "no", "~", "a b", "../x", "\"a\\nb\"", "{{ .n }}", "${N}", "{}"];
    let name = prop_oneof![
        6 => "[a-d][a-z]{1,3}",
        2 => proptest::sample::select(&USUAL[..]).prop_map(str::to_owned),
        2 => proptest::sample::select(&ODD[..]).prop_map(str::to_owned),
    ];
    let more = any_of(
        &["", "  labels: {x: \"1\"}\n", "  namespace: default\n", "  uid: u\n"],
        &[
            "  name: z\n",
            "  labels: {x: 1}\n",
            "  labels: {x: on}\n",
            "  namespace: [x]\n",
            "  annotations: [x]\n",
            "  labels: {x: y, x: z}\n",
            "\tlabels: x\n",
            "  ? [a]\n  : b\n",
        ],
    );
    let rest = any_of(
        &["", "spec: {}\n", "spec:\n  mode: l2vni # c\n", "spec: &s {x: 1}\nstatus: *s\n"],
        &[
            "kind: VPC\n",
            "spec: {x: 1, x: 2}\n",
            "spec: *nowhere\n",
            "spec: {<<: *k}\n",
            "spec: &s\n  a: *s\n",
            "spec: {x: '{{ .Values.x }}'}\n",
            "spec: {x: !Ref y}\n",
            "spec: {x: .nan}\n",
            "spec: {1: x}\n",
            "items: []\n",
            "items:\n- {apiVersion: v1, kind: VPC, metadata: {name: h}}\n- x\n",
            "<<<<<<< HEAD\nspec: {}\n=======\n>>>>>>> b\n",
            "...\nmore: text\n",
            "spec: {x: \"\u{2028}\"}\n",
            "spec: [\n",
            "+argocd\n",
        ],
    );
    (head, version, kind, name, more, rest).prop_map(|(head, version, kind, name, more, rest)| {
        format!(
            "{head}apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n{more}{rest}"
        )
    })
}

/// A file: documents one behind the other, and bytes as editors write them.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let between =
        any_of(&["---\n"], &["--- # x\n", "---\n---\n", "...\n", "--- \n# only this\n---\n"]);
    let ends = any_of(&["lf"], &["crlf", "cr", "bom", "utf-16", "nul", "cut", "json"]);
    (proptest::collection::vec(document(), 1..3), between, ends).prop_map(|(all, between, ends)| {
        let text = all.join(&between);
        match ends.as_str() {
            "crlf" => text.replace('\n', "\r\n").into_bytes(),
            "cr" => text.replace('\n', "\r").into_bytes(),
            "bom" => format!("\u{feff}{text}").into_bytes(),
            "utf-16" => {
                let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
                units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
            }
            "nul" => format!("{text}\0").into_bytes(),
            "cut" => text.as_bytes()[..text.len() - text.len() / 4].to_vec(),
            "json" => b"{\"apiVersion\": \"v1\", \"kind\": \"VPC\", \"metadata\": {}}".to_vec(),
            _ => text.into_bytes(),
        }
    })
}

/// What Argo CD and Flux would say of a tree; nothing where they take it.
fn refused(tree: &BTreeMap<String, String>) -> Vec<String> {
    let mut refused = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in tree {
        match resource(path, text) {
            // One resource in two files: each would undo the other.
            Ok(id) if !seen.insert(id.clone()) => refused.push(format!("{path}: {id} again")),
            Ok(_) => (),
            Err(why) => refused.push(format!("{path}: {why}: {text}")),
        }
    }
    refused
}

/// Reads one file as they would; what comes back names the resource.
fn resource(path: &str, text: &str) -> Result<String, String> {
    use serde::Deserialize as _;
    let name = path.rsplit('/').next().unwrap().to_lowercase();
    // Files that turn a directory into something else, wherever they lie.
    let own = ["kustomization.yaml", "kustomization.yml", "kustomization", "chart.yaml"];
    if own.contains(&name.as_str()) || name.starts_with('.') || !name.ends_with(".yaml") {
        return Err("not a name for a manifest".to_owned());
    }
    if text.contains(['\r', '\0', '\u{feff}', '\u{fffd}']) || !text.ends_with('\n') {
        return Err("not plain text".to_owned());
    }
    let documents: Result<Vec<serde_yaml::Value>, _> =
        serde_yaml::Deserializer::from_str(text).map(serde_yaml::Value::deserialize).collect();
    let documents = documents.map_err(|error| error.to_string())?;
    let [document] = documents.as_slice() else {
        return Err(format!("{} documents", documents.len()));
    };
    let word = |it: &serde_yaml::Value, key: &str| match it.get(key).and_then(|it| it.as_str()) {
        Some(it) if !it.trim().is_empty() => Ok(it.to_owned()),
        _ => Err(format!("no {key}")),
    };
    let kind = word(document, "kind")?;
    if kind.ends_with("List") || kind == "Kustomization" || document.get("items").is_some() {
        return Err(format!("a {kind}"));
    }
    let metadata = document.get("metadata").ok_or("no metadata")?;
    for key in ["labels", "annotations"] {
        let Some(it) = metadata.get(key).filter(|it| !it.is_null()) else { continue };
        let texts = it.as_mapping().ok_or(format!("{key} is no mapping"))?;
        // YAML 1.1, which they read, takes these for truth values.
        let is_text = |it: &serde_yaml::Value| it.as_str().is_some_and(|it| it != "on");
        if !texts.iter().all(|(key, it)| key.is_string() && is_text(it)) {
            return Err(format!("{key} with something else than text"));
        }
    }
    let namespace = metadata.get("namespace").and_then(|it| it.as_str()).unwrap_or("default");
    let api_version = word(document, "apiVersion")?;
    let group = api_version.split_once('/').map_or("", |it| it.0);
    Ok(format!("{group} {kind} {namespace} {}", word(metadata, "name")?))
}

#[test]
fn what_argo_cd_and_flux_would_choke_on_never_reaches_managed() {
    const FILES: usize = 600;
    let world = World::in_memory();
    world.turn();
    world.drop("own.yaml", crate::world::vpc("kustomization")).turn();
    // The same files each time: what fails here fails again.
    let mut runner = TestRunner::deterministic();
    let mut odd = 0;
    for n in 0..FILES {
        let bytes = file().new_tree(&mut runner).unwrap().current();
        odd += usize::from(resource("a.yaml", &String::from_utf8_lossy(&bytes)).is_err());
        world.drop(&format!("{n}.yaml"), bytes);
        if n % 100 == 99 {
            world.turn();
        }
    }
    let mut tree = world.clone_of_remote();
    tree.retain(|path, _| path.starts_with("managed/"));
    assert_eq!(refused(&tree), Vec::<String>::new());
    // Most of what is dropped they would choke on, and yet something comes through.
    assert!(odd > FILES / 3, "{odd} of {FILES} files are odd");
    assert!(tree.len() >= 20, "only {} came through", tree.len());
    assert!(tree.keys().any(|it| it.contains("kustomization-")), "{:?}", tree.keys());
    world.at_rest();
}

#[test]
fn the_judge_of_the_tree_notices_what_it_is_there_for() {
    let good = "apiVersion: v1\nkind: A\nmetadata:\n  name: a\n";
    let tree = |files: &[(&str, &str)]| -> Vec<String> {
        refused(&files.iter().map(|it| (it.0.to_owned(), it.1.to_owned())).collect())
    };
    assert_eq!(tree(&[("as/a.yaml", good)]), Vec::<String>::new());
    assert_eq!(tree(&[("as/a.yaml", good), ("as/b.yaml", good)]).len(), 1);
    for text in [
        "a: [\n",
        "a: 1\n",
        "apiVersion: v1\nkind: A\nmetadata: {}\n",
        "apiVersion: v1\nkind: List\nitems: []\n",
        "apiVersion: v1\nkind: A\nkind: B\nmetadata:\n  name: a\n",
        "apiVersion: v1\nkind: A\nmetadata:\n  name: a\n  labels: {x: 1}\n",
        "apiVersion: v1\r\nkind: A\r\nmetadata:\r\n  name: a\r\n",
        "---\n---\n",
    ] {
        assert_eq!(tree(&[("as/a.yaml", text)]).len(), 1, "{text:?}");
    }
    assert_eq!(tree(&[("as/kustomization.yaml", good)]).len(), 1);
    let two = format!("{good}---\n{good}");
    assert_eq!(tree(&[("as/a.yaml", &two)]).len(), 1);
}
