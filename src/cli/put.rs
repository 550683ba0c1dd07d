//! `put`: files into `raw/`, whole or not at all, and what became of them.

use super::reach::Reach;
use super::{Context, Failure, HELD, args, print, render};
use crate::agent::desk::{self, Answer, Live, Request, Whereabouts};
use crate::model::digest::Sha256;
use crate::model::fabric::{Fabric, FabricName};
use crate::model::ids::CommitId;
use crate::model::path::{RawPath, RepoPath};
use crate::model::problem::Problem;
use crate::model::report::{Ending, FileReport};
use crate::step::Steps;
use crate::worktree::WorkTree;
use serde::Serialize;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// How often the agent is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How often it is asked at most: two minutes.
const ASKED_MAX: u32 = 2_400;

/// One file, put.
struct Put {
    path: RawPath,
    drop_id: Sha256,
}

/// What is told of one file.
#[derive(Debug, Serialize)]
struct Told {
    path: RawPath,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit_id: Option<CommitId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<RepoPath>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
}

pub(super) fn put(it: &args::Put, context: &Context) -> Result<u8, Failure> {
    let reach = Reach::find(it.repo.as_deref(), context.config.as_deref())?;
    let fabric = fabric(&reach, it.fabric.as_ref())?;
    let tree = WorkTree::open(&reach.repository.path, Steps::default())
        .map_err(crate::agent::Error::from)?;
    let mut all = Vec::new();
    for file in &it.files {
        let mut bytes = Vec::new();
        let max = reach.settings.intake.bytes_max;
        let failed =
            |it: std::io::Error| Failure::said(1, format!("cannot read {}: {it}", file.display()));
        std::fs::File::open(file)
            .and_then(|it| it.take(max + 1).read_to_end(&mut bytes))
            .map_err(failed)?;
        if bytes.len() as u64 > max {
            return Err(Failure::said(1, format!("{} has more than {max} bytes", file.display()))
                .hint("split it, or raise `intake.bytes_max` in the configuration"));
        }
        let name =
            file.file_name().map(|it| RawPath::new(it.as_bytes()).safe_name()).unwrap_or_default();
        let known = [".yaml", ".yml", ".json"].iter().any(|it| name.ends_with(it));
        if !known {
            return Err(Failure::said(
                2,
                format!("{} is no .yaml, .yml or .json file", file.display()),
            )
            .hint("only these are taken from raw/; rename the file"));
        }
        let place_of =
            |name: &str| fabric.raw().join(name).map_err(|it| Failure::said(2, it.to_string()));
        let (mut name, mut place) = (name.clone(), place_of(&name)?);
        let there = tree.read(&place, u64::from(u32::MAX)).map_err(crate::agent::Error::from)?;
        if there.is_some_and(|it| it != bytes) {
            // Another drop has this name, and is somebody's too.
            name = format!("{}-{name}", Sha256::of(&bytes).short());
            place = place_of(&name)?;
        }
        let path = RawPath::new(name);
        let drop_id = Sha256::of_drop(path.as_bytes(), &bytes);
        tree.write_all(&[(place, bytes.into())]).map_err(crate::agent::Error::from)?;
        all.push(Put { path, drop_id });
    }
    let told = match it.wait {
        true => wait(&reach, &fabric.name, &all)?,
        false => all.into_iter().map(|it| told(it.path, "put")).collect(),
    };
    match it.json {
        true => print(&render::json(&told).map_err(|it| Failure::of(1, &it))?)?,
        false => print(&words(&told, &fabric, context))?,
    }
    let held = told.iter().any(|it| matches!(it.state, "rejected" | "parted"));
    let late =
        |it: &Told| it.state == "waiting" || (it.state == "committed" && reach.repository.push);
    Ok(if held { HELD } else { u8::from(it.wait && told.iter().any(late)) })
}

fn fabric(reach: &Reach, wanted: Option<&FabricName>) -> Result<Fabric, Failure> {
    let all: Vec<Fabric> =
        reach.repository.fabrics.iter().map(|it| it.fabric(&reach.settings)).collect();
    let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
    match (wanted, &all[..]) {
        (None, [one]) => Ok(one.clone()),
        (None, _) => {
            Err(Failure::said(2, format!("there are several fabrics: {}", names.join(", ")))
                .hint("name one: --fabric NAME"))
        }
        (Some(name), all) => all.iter().find(|it| it.name == *name).cloned().ok_or_else(|| {
            Failure::said(2, format!("there is no fabric {name}; there is {}", names.join(", ")))
        }),
    }
}

fn told(path: RawPath, state: &'static str) -> Told {
    Told { path, state, commit_id: None, targets: Vec::new(), problems: Vec::new() }
}

/// Asks until everything has come to rest: the running agent, or one turn of our own.
fn wait(reach: &Reach, fabric: &FabricName, all: &[Put]) -> Result<Vec<Told>, Failure> {
    let question = |it: &Put| Request::Whereabouts {
        path: it.path.clone(),
        drop_id: it.drop_id,
        fabric: fabric.clone(),
    };
    if reach.ask_running(&Request::Status)?.is_none() {
        let mut lane = reach.open()?;
        lane.prepare()?;
        desk::ingest(&mut lane, false)?;
        return all
            .iter()
            .map(|it| answer_of(it, desk::answer(&mut lane, &question(it), &Live::default())))
            .collect();
    }
    let mut found: Vec<Option<Told>> = all.iter().map(|_| None).collect();
    for _ in 0..ASKED_MAX {
        for (it, slot) in all.iter().zip(&mut found) {
            if slot.as_ref().is_some_and(|it| {
                matches!(it.state, "pushed" | "rejected" | "unchanged" | "parted")
            }) {
                continue;
            }
            let answer = reach.ask_running(&question(it))?.ok_or_else(|| {
                Failure::said(1, "the agent stopped while we waited")
                    .hint("the file lies in raw/ and is taken at its next start")
            })?;
            *slot = Some(answer_of(it, answer)?);
        }
        let done = |it: &Option<Told>| {
            it.as_ref().is_some_and(|it| {
                matches!(it.state, "pushed" | "rejected" | "unchanged" | "parted")
                    || (it.state == "committed" && !reach.repository.push)
            })
        };
        if found.iter().all(done) {
            break;
        }
        std::thread::sleep(ASK_EVERY);
    }
    Ok(found.into_iter().flatten().collect())
}

fn answer_of(it: &Put, answer: Answer) -> Result<Told, Failure> {
    let targets =
        |report: &FileReport| report.documents.iter().map(|it| it.target.clone()).collect();
    Ok(match answer {
        Answer::Whereabouts(Whereabouts::Waiting) => told(it.path.clone(), "waiting"),
        Answer::Whereabouts(Whereabouts::Rejected { problems }) => {
            Told { problems, ..told(it.path.clone(), "rejected") }
        }
        Answer::Whereabouts(Whereabouts::Committed { commit_id, report }) => Told {
            commit_id,
            targets: targets(&report),
            problems: report.problems,
            ..told(
                it.path.clone(),
                match (report.ending, commit_id) {
                    (Ending::Rejected, _) => "rejected",
                    // Only the rest of it was left to look at.
                    (Ending::Parted, None) => "parted",
                    (_, None) => "unchanged",
                    (_, Some(_)) => "committed",
                },
            )
        },
        Answer::Whereabouts(Whereabouts::Pushed { commit_id, report }) => Told {
            commit_id: Some(commit_id),
            targets: targets(&report),
            problems: report.problems,
            ..told(
                it.path.clone(),
                match report.ending {
                    Ending::Rejected => "rejected",
                    Ending::Parted => "parted",
                    Ending::Managed | Ending::Unmanaged | Ending::NoDocuments => "pushed",
                },
            )
        },
        Answer::Refused { message, .. } => return Err(Failure::said(1, message)),
        _ => return Err(Failure::said(1, "the running agent gave another answer than asked for")),
    })
}

fn words(all: &[Told], fabric: &Fabric, context: &Context) -> String {
    let mut out = String::new();
    for it in all {
        let commit = it.commit_id.map(|it| format!(", commit {}", it.short())).unwrap_or_default();
        let line = match it.state {
            "put" => format!("put into {}", fabric.raw()),
            "pushed" => format!("on the remote{commit}"),
            "committed" => format!(
                "committed here{commit}; not on the remote yet (git-intake status says why)"
            ),
            "unchanged" => "already there, nothing changed".to_owned(),
            "rejected" => "rejected; it stays in raw/".to_owned(),
            "parted" => "filed in part; the rest stays in raw/ until it is mended".to_owned(),
            _ => "not taken yet (git-intake status says why)".to_owned(),
        };
        out.push_str(&format!("{}: {line}\n", it.path));
        for target in &it.targets {
            out.push_str(&format!("    {target}\n"));
        }
        let name = it.path.to_string();
        out.push_str(&crate::pipeline::explain::render(&name, &it.problems, context.colored));
    }
    out
}
