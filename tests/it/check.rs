//! `check`, as people and pipelines call it: the real program over files in a directory.

use crate::agent::{Agent, intake, on_remote, signal, until};
use crate::world::{World, hermetic, vpc};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const VPC: &str = "apiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC\nmetadata:\n  name: vpc-1\n";

struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn with(files: &[(&str, &str)]) -> Desk {
        let desk = Desk { dir: tempfile::tempdir().unwrap() };
        for (name, text) in files {
            desk.write(name, text);
        }
        desk
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_git-intake"));
        command.current_dir(self.dir.path()).envs(hermetic()).arg("check").args(args);
        command
    }

    fn check(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.check(&[args, &["--json"]].concat()).stdout).unwrap()
    }
}

fn text(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).unwrap()
}

#[test]
fn check_needs_no_repository() {
    let desk = Desk::with(&[("good.yaml", VPC)]);
    let out = desk.check(&["good.yaml"]);
    assert!(out.status.success());
    assert!(text(&out).contains("VPC vpc-1  managed/vpcs/vpc-1.yaml"), "{}", text(&out));
    desk.write("bad.yaml", &VPC.replace("name: vpc-1", "name: A"));
    let out = desk.check(&["."]);
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out).contains("--> bad.yaml:4:9 (document 1)"), "{}", text(&out));
    assert!(text(&out).contains("4 |   name: A\n  |         ^"), "{}", text(&out));
    assert!(
        text(&out).ends_with("1 of 2 files to be mended; 1 document would be filed; 1 error\n")
    );
}

#[test]
fn a_directory_is_walked_as_raw_would_be() {
    let desk = Desk::with(&[
        ("a/b/c/deep.yml", VPC),
        ("a/list.json", "{}"),
        ("a/notes.txt", "hello"),
        (".hidden/x.yaml", "a: ["),
        ("a/.x.yaml.swp", "a: ["),
        ("cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"),
        ("reset.yaml", "# nothing\n"),
    ]);
    std::os::unix::fs::symlink("/etc/passwd", desk.dir.path().join("link.yaml")).unwrap();
    std::os::unix::fs::symlink("..", desk.dir.path().join("a/round")).unwrap();
    let told = desk.json(&["."]);
    assert_eq!(told["summary"]["files"], 4, "{told}");
    assert_eq!(told["summary"]["managed"], 1);
    assert_eq!(told["summary"]["unmanaged"], 1);
    assert_eq!(told["summary"]["no_documents"], 1);
    assert_eq!(told["summary"]["rejected"], 1);
    // A file that is named is judged whatever its name, and what is not there is told.
    assert_eq!(desk.json(&["a/notes.txt"])["files"][0]["problems"][0]["rule"], "not-a-mapping");
    let out = desk.check(&["missing.yaml"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("missing.yaml"));
}

#[test]
fn many_files_are_judged_as_one_by_one() {
    let files: Vec<(String, String)> = (0..300)
        .map(|n| {
            let text = match n % 10 {
                0 => "a: [".to_owned(),
                _ => VPC.replace("vpc-1", &format!("vpc-{n}")),
            };
            (format!("d{}/f{n}.yaml", n % 7), text)
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let desk = Desk::with(&files);
    let told = desk.json(&["."]);
    assert_eq!(told["summary"]["rejected"], 30);
    assert_eq!(told["summary"]["documents"], 270);
    let paths: Vec<&str> =
        told["files"].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert!(paths.is_sorted() && paths.len() == 300, "the same order each time");
    // Named twice is judged once.
    assert_eq!(desk.json(&["d0", "d0/f0.yaml", "d0"])["summary"]["files"], 43);
}

#[test]
fn every_format_tells_the_same_findings() {
    let bad = VPC.replace("vpc-1", "A");
    let desk = Desk::with(&[("x/bad.yaml", &bad), ("x/good.yaml", VPC)]);
    let out = desk.check(&["x", "--format", "github"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out).starts_with("::error file=x/bad.yaml,line=4,col=9,title=bad-name::`A`"));
    let out = desk.check(&["x", "--format", "sarif"]);
    assert_eq!(out.status.code(), Some(3));
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let result = &told["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "bad-name");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "x/bad.yaml");
    assert_eq!(
        (&place["region"]["startLine"], &place["region"]["startColumn"]),
        (&4.into(), &9.into())
    );
    let told = desk.json(&["x"]);
    assert_eq!(told["files"][0]["problems"][0]["excerpt"], "  name: A");
    assert_eq!(desk.check(&["x", "--format", "xml"]).status.code(), Some(2));
}

#[test]
fn standard_input_is_judged_too() {
    let desk = Desk::with(&[]);
    let mut child =
        desk.command(&["-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(VPC.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    assert!(text(&out).contains("(standard input): 1 document would be filed"), "{}", text(&out));
}

#[test]
fn a_pipe_or_a_directory_of_nothing_ends_well() {
    let desk = Desk::with(&[]);
    let out = desk.check(&["."]);
    assert!(out.status.success());
    assert!(text(&out).starts_with("0 files as they should be"), "{}", text(&out));
    assert!(Path::new("/dev/full").exists());
    let full = std::fs::File::create("/dev/full").unwrap();
    let out = desk.command(&["."]).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "an answer that cannot be written is a failure");
}

const WIDGETS: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
";
const WIDGET: &str =
    "apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: w\nspec:\n  size: 5\n";

#[test]
fn a_directory_of_definitions_adds_kinds() {
    let desk = Desk::with(&[("w.yaml", WIDGET), ("kinds/widgets.yaml", WIDGETS)]);
    assert_eq!(desk.json(&["w.yaml"])["files"][0]["ending"], "unmanaged");
    let told = desk.json(&["w.yaml", "--kinds", "kinds"]);
    assert_eq!(told["files"][0]["documents"][0]["target"], "managed/widgets/w.yaml", "{told}");
    desk.write("w.yaml", &WIDGET.replace("size: 5", "sise: 5"));
    let told = desk.json(&["w.yaml", "--kinds", "kinds"]);
    assert_eq!(told["files"][0]["problems"][0]["rule"], "unknown-field");
    let out = desk.check(&["w.yaml", "--kinds", "kinds", "--schema", "enforce"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out).contains("did you mean `size`?"), "{}", text(&out));
    let out = desk.check(&["w.yaml", "--kinds", "kinds", "--schema", "off"]);
    assert!(out.status.success() && !text(&out).contains("warning"), "{}", text(&out));
    // The settings say the same, and a mistake in a definition is told with its place.
    desk.write("c.yaml", "kinds_dir: kinds\nschema: enforce\n");
    assert_eq!(desk.check(&["w.yaml", "--config", "c.yaml"]).status.code(), Some(3));
    desk.write("kinds/broken.yaml", "a: [\n");
    let out = desk.check(&["w.yaml", "--config", "c.yaml"]);
    assert_eq!(out.status.code(), Some(2));
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(told.contains("kinds/broken.yaml") && told.contains("1:4"), "{told}");
}

#[test]
fn rules_that_nobody_here_judges_are_told_once_for_their_kind() {
    let rule = "x-kubernetes-validations: [{rule: self.size > 3}], type: object, properties: {size";
    let widgets = WIDGETS.replace("type: object, properties: {size", rule);
    let small = WIDGET.replace("size: 5", "size: 1");
    let desk = Desk::with(&[("kinds/w.yaml", &widgets), ("a.yaml", WIDGET), ("b/b.yaml", &small)]);
    let out = desk.check(&["a.yaml", "b", "--kinds", "kinds"]);
    assert!(out.status.success(), "{}", text(&out));
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    let about = "the definition of Widget (example.com) has 1 CEL rules";
    assert_eq!(told.matches(about).count(), 1, "{told}");
    desk.write("kinds/w.yaml", WIDGETS);
    let out = desk.check(&["a.yaml", "--kinds", "kinds"]);
    assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn any_kind_can_be_taken() {
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r, namespace: x}\n";
    let desk = Desk::with(&[
        ("cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: ns}\n"),
        ("other.yaml", "apiVersion: some.org/v1\nkind: Policy\nmetadata: {name: p}\n"),
        ("role.yaml", role),
        ("slip.yaml", "apiVersion: apps/v1\nkind: Deploymnt\nmetadata: {name: d}\n"),
        ("gone.yaml", "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: i}\n"),
    ]);
    assert_eq!(desk.json(&["."])["summary"]["unmanaged"], 5);
    let told = desk.json(&[".", "--catalog", "any"]);
    let files = told["files"].as_array().unwrap();
    let target = |n: usize| files[n]["documents"][0]["target"].as_str().unwrap_or("").to_owned();
    assert_eq!(target(0), "managed/configmaps/ns/a.yaml");
    assert_eq!(files[1]["problems"][0]["rule"], "unknown-kind");
    assert!(files[1]["problems"][0]["hint"].as_str().unwrap().contains("networking.k8s.io/v1"));
    assert_eq!(target(2), "managed/policies.some.org/p.yaml");
    assert_eq!(files[3]["problems"][0]["rule"], "foreign-namespace");
    assert!(files[4]["problems"][0]["hint"].as_str().unwrap().contains("Deployment"));
}

#[test]
fn a_reload_reads_the_definitions_again_and_a_broken_one_leaves_the_old() {
    let world = World::new();
    let kinds = world.dir.path().join("kinds");
    std::fs::create_dir(&kinds).unwrap();
    let init = intake(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
    assert!(init.status.success());
    let child = intake(&world, &["run"])
        .env("GIT_INTAKE_KINDS_DIR", &kinds)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let agent = Agent(child);
    world.drop("a.yaml", vpc("vpc-a"));
    until("the agent works", || on_remote(&world, "managed/vpcs/vpc-a.yaml"));
    std::fs::write(kinds.join("w.yaml"), "a: [\n").unwrap();
    signal(&agent, rustix::process::Signal::HUP);
    world.drop("b.yaml", vpc("vpc-b"));
    until("it works on", || on_remote(&world, "managed/vpcs/vpc-b.yaml"));
    std::fs::write(kinds.join("w.yaml"), WIDGETS).unwrap();
    signal(&agent, rustix::process::Signal::HUP);
    until("the new kind is filed", || {
        // Before the reload it is a foreign kind and goes to unmanaged/.
        world.drop("w.yaml", WIDGET);
        std::thread::sleep(std::time::Duration::from_millis(300));
        on_remote(&world, "managed/widgets/w.yaml")
    });
}

const ATTACHMENT: &str = "apiVersion: vpc.githedgehog.com/v1beta1
kind: VPCAttachment
metadata: {name: at-1}
spec:
  connection: conn-1
  subnet: vpc-1/default
";

#[test]
fn names_that_lead_nowhere_are_told_where_a_directory_is_checked() {
    let desk = Desk::with(&[("d/at.yaml", ATTACHMENT), ("d/vpc.yaml", &vpc("vpc-1"))]);
    let told = |args: &[&str]| {
        let told = desk.json(args);
        let problems = told["files"][0]["problems"].as_array().cloned().unwrap_or_default();
        let shown = |it: &serde_json::Value| {
            let word = |key: &str| it[key].as_str().unwrap().to_owned();
            format!("{}: {} ({}) {}", it["line"], word("message"), word("hint"), word("excerpt"))
        };
        problems.iter().map(shown).collect::<Vec<_>>().join("\n")
    };
    // There is no Connection at all: this directory does not keep its wiring.
    assert_eq!(told(&["d"]), "");
    let connection = "apiVersion: wiring.githedgehog.com/v1beta1\nkind: Connection\nmetadata: {name: conn-2}\nspec: {mesh: {links: []}}\n";
    desk.write("d/conn.yaml", connection);
    assert_eq!(
        told(&["d"]),
        "5: spec.connection names the Connection conn-1, which is neither here nor managed (did you mean conn-2? Else drop it too)   connection: conn-1"
    );
    assert!(desk.check(&["d"]).status.success(), "a warning keeps no file out");
    assert_eq!(told(&["d/at.yaml"]), "", "one file says nothing of what is around it");
    desk.write(
        "d/at.yaml",
        &ATTACHMENT.replace("conn-1", "conn-2").replace("/default", "/defualt"),
    );
    assert_eq!(
        told(&["d"]),
        "6: spec.subnet names defualt of VPC vpc-1, which has no such subnet (did you mean vpc-1/default?)   subnet: vpc-1/defualt"
    );
    assert!(told(&["d/at.yaml", "--managed", "d"]).contains("no such subnet"));
}

#[test]
fn a_drop_that_names_what_is_not_managed_is_taken_and_told() {
    let world = World::new();
    world.turn();
    world.drop("vpc.yaml", vpc("vpc-1"));
    world.turn();
    world.drop("at.yaml", ATTACHMENT.replace("/default", "/other"));
    let report = world.turn();
    let problems = &report.files[0].problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].rule.as_str(), problems[0].line), ("dangling-reference", Some(6)));
    assert_eq!(problems[0].hint.as_deref(), Some("it has default"));
    assert!(world.clone_of_remote().keys().any(|it| it.ends_with("at-1.yaml")));
    world.at_rest();
}

#[test]
fn who_still_names_what_was_deleted_is_told() {
    let world = World::new();
    world.turn();
    world.drop("vpc.yaml", vpc("vpc-1"));
    world.drop("at.yaml", ATTACHMENT);
    world.turn();
    world.git(&["rm", "-q", "fabric-1/managed/vpcs/vpc-1.yaml"]);
    world.git(&["commit", "-qm", "away with it"]);
    let init = intake(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
    let out = intake(&world, &["ingest"]).output().unwrap();
    let told = String::from_utf8_lossy(&init.stderr) + String::from_utf8_lossy(&out.stderr);
    assert!(told.contains("VPC vpc-1 was deleted, and spec.subnet of"), "{told}");
    // The same is found in a pipeline, before anybody deletes anything.
    let managed = world.work().join("fabric-1/managed");
    std::fs::create_dir_all(managed.join("vpcs")).unwrap();
    std::fs::write(managed.join("vpcs/vpc-2.yaml"), vpc("vpc-2")).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_git-intake"))
        .args(["check", managed.to_str().unwrap()])
        .envs(hermetic())
        .output()
        .unwrap();
    assert!(text(&out).contains("spec.subnet names the VPC vpc-1"), "{}", text(&out));
}

/// Files that are made to take all time or all memory, each with what must be said of it.
fn bombs() -> Vec<(&'static str, String)> {
    let n = 400_000;
    let laughs = (b'b'..=b'z').fold("a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, c| {
        let (this, last) = (char::from(c), char::from(c - 1));
        format!("{text}{this}: &{this} [{}]\n", vec![format!("*{last}"); 9].join(","))
    });
    let anchors: String = (0..n / 10).map(|n| format!("- &a{n} x\n")).collect();
    let keys: String = (0..n / 4).map(|n| format!("k{n}: x\n")).collect();
    let copies =
        format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 1000].join(","), vec!["*a"; n / 8].join(","));
    vec![
        ("too-deep", "[".repeat(n)),
        ("too-deep", "{a: ".repeat(n / 4)),
        ("too-deep", "- ".repeat(n)),
        ("too-deep", "? ".repeat(n)),
        ("too-deep", (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        ("too-many-values", laughs),
        ("too-many-values", copies),
        ("too-many-values", format!("[{}]", "a,".repeat(n * 2))),
        ("too-many-documents", "---\n".repeat(n)),
        ("syntax", "---\n}\n".repeat(n / 4)),
        ("syntax", format!("a: \"{}", "x".repeat(n))),
        ("syntax", "%TAG !a! x\n".repeat(n / 10)),
        ("not-a-mapping", anchors),
        ("not-a-resource", keys),
        ("not-a-mapping", "x".repeat(n * 4)),
        ("not-a-mapping", format!("|\n{}", " x\n".repeat(n))),
        ("empty-file", " \n".repeat(n)),
        ("duplicate-key", "apiVersion: v1\n".repeat(n / 10)),
        ("json", "[".repeat(n)),
    ]
}

#[test]
fn bombs_are_told_within_bounded_memory() {
    let bombs = bombs();
    let name = |n: usize| {
        let kind = if bombs[n].0 == "json" { "json" } else { "yaml" };
        format!("b{n:02}.{kind}")
    };
    let named: Vec<String> = (0..bombs.len()).map(name).collect();
    let files: Vec<(&str, &str)> =
        named.iter().zip(&bombs).map(|(name, bomb)| (name.as_str(), bomb.1.as_str())).collect();
    let desk = Desk::with(&files);
    // All of the address space that the program gets, threads and libraries included, in KiB.
    let script = "ulimit -v 2000000; exec \"$0\" check --json .";
    let out = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_git-intake")])
        .current_dir(desk.dir.path())
        .envs(hermetic())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    for (n, (rule, _)) in bombs.iter().enumerate() {
        let file = &told["files"][n];
        assert_eq!(file["path"], named[n].as_str());
        assert_eq!(file["problems"][0]["rule"], *rule, "{}", named[n]);
        assert!(file["problems"].as_array().unwrap().len() <= 102);
    }
}
