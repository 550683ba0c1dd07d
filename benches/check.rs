//! Judging drops: 10,000 documents of about 1 KB, on one core, stage by stage.
//!
//! `cargo bench --bench check`. The median of seven rounds counts. Splitting and validating is what
//! every drop goes through; the schema comes on top of it. A block of text in each leaves all of
//! them to libyaml, as if nobody wrote plainly.

use git_intake::catalog::Catalog;
use git_intake::model::document::Intake;
use git_intake::model::path::RawPath;
use git_intake::pipeline::validation::{Rules, SchemaStrategy, validate};
use git_intake::yaml::{Limits, decode, parse};
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

const DOCUMENTS: usize = 10_000;
const ROUNDS: usize = 7;

fn main() {
    let files: Vec<Vec<u8>> = (0..DOCUMENTS).map(|n| vpc(n).into_bytes()).collect();
    let joined = files.concat();
    let bytes = joined.len();
    println!("{DOCUMENTS} documents of {} bytes", bytes / DOCUMENTS);
    let catalog = Catalog::hedgehog();
    let limits = Limits::default();
    let judge = |name: &str, bytes: &[u8], schema| {
        let rules = Rules { limits, catalog: &catalog, schema, partial: false };
        let valid = validate(Intake::new(RawPath::new(name), bytes), &rules);
        black_box(valid.expect("these documents are as they should be").documents.len())
    };
    measure("read events into nodes", bytes, || {
        let text = decode::decode(&joined).expect("this is text");
        black_box(parse::parse(&text, limits).0.len());
    });
    measure("split and validate, one file", bytes, || {
        judge("all.yaml", &joined, SchemaStrategy::Off);
    });
    measure("split and validate, 10,000 files", bytes, || {
        for (n, it) in files.iter().enumerate() {
            judge(&format!("{n}.yaml"), it, SchemaStrategy::Off);
        }
    });
    let block = "spec:\n  note: |\n    by hand\n";
    let blocks = String::from_utf8_lossy(&joined).replace("spec:\n", block).into_bytes();
    measure("the same with a block in each", blocks.len(), || {
        judge("all.yaml", &blocks, SchemaStrategy::Off);
    });
    measure("with schema, one file", bytes, || {
        judge("all.yaml", &joined, SchemaStrategy::Warn);
    });
    measure("with schema, 10,000 files", bytes, || {
        for (n, it) in files.iter().enumerate() {
            judge(&format!("{n}.yaml"), it, SchemaStrategy::Warn);
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn measure(what: &str, bytes: usize, mut work: impl FnMut()) {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let median = times[ROUNDS / 2];
    println!("{what:36} {:6.1} ms {:7.1} MB/s", median * 1e3, bytes as f64 / 1e6 / median);
}

/// A VPC as people write them: comments, subnets, ranges, static addresses.
fn vpc(n: usize) -> String {
    let mut text = format!(
        "---\n# {n}: what the team of rack {} works with\napiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC\nmetadata:\n  name: vpc-{n}\n  labels:\n    team: \"rack {}\"\n  annotations:\n    example.com/contact: network people, second floor, extension {n}\nspec:\n  ipv4Namespace: default\n  vlanNamespace: default\n  subnets:\n",
        n % 40,
        n % 40,
    );
    for k in 0..3 {
        let _ = write!(
            text,
            "    subnet-{k}: # the one for purpose {k}\n      subnet: 10.{}.{k}.0/24\n      gateway: 10.{}.{k}.1\n      vlan: {}\n      dhcp:\n        enable: true\n        range:\n          start: 10.{}.{k}.10\n          end: 10.{}.{k}.99\n",
            n % 250,
            n % 250,
            1000 + n % 3000,
            n % 250,
            n % 250,
        );
    }
    text
}
