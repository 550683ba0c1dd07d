//! The commands that ask, judge or do one thing.

use super::reach::{Reach, load};
use super::{Context, Failure, HELD, args, decide, listing, print, render};
use crate::agent::desk::{Answer, Request};
use crate::agent::structure;
use crate::config::{self, FabricSettings, RepositorySettings};
use crate::git::Repo;
use crate::model::path::{RawPath, RepoPath};
use crate::model::report::{Delivery, Ending, IngestReport};
use crate::step::Steps;
use serde::Serialize;
use std::path::PathBuf;

fn json(answer: &impl Serialize) -> Result<String, Failure> {
    render::json(answer).map_err(|it| Failure::of(1, &it))
}

pub(super) fn answered(
    json_wanted: bool,
    answer: &impl Serialize,
    text: String,
) -> Result<(), Failure> {
    match json_wanted {
        true => print(&json(answer)?),
        false => print(&text),
    }
}

pub(super) fn unexpected() -> Failure {
    Failure::said(1, "the running agent gave another answer than asked for")
        .hint("agent and command are of different versions; restart the agent")
}

pub(super) fn init(it: args::Init, context: &Context) -> Result<u8, Failure> {
    let here = PathBuf::from(".");
    let repo = Repo::discover(it.repo.as_deref().unwrap_or(&here), Steps::default())
        .map_err(|it| Failure::usage(it, "make a repository first: git init"))?;
    let settings = load(context.config.as_deref())?;
    let old = config::load_local(repo.git_dir(), repo.work_tree())?;
    let mut local = old.clone().unwrap_or_default();
    local.path = repo.work_tree().to_owned();
    match local.fabrics.iter_mut().find(|known| known.name == it.fabric) {
        Some(known) => {
            let same = it.dir.as_ref().is_none_or(|dir| *dir == known.fabric(&settings).dir);
            if !same {
                let message =
                    format!("fabric {} lies in {} already", it.fabric, known.fabric(&settings).dir);
                return Err(
                    Failure::said(2, message).hint("leave --dir out, or choose another name")
                );
            }
        }
        None => local.fabrics.push(FabricSettings::new(it.fabric.clone(), it.dir.clone())),
    }
    config::check_fabrics(&local.fabrics).map_err(|it| Failure::said(2, it))?;
    local.remote = it.remote.unwrap_or(local.remote);
    local.branch = it.branch.or(local.branch);
    let git_dir = repo.git_dir().to_owned();
    drop(repo);
    let stored = RepositorySettings { path: PathBuf::new(), ..local.clone() };
    let reach = Reach {
        state: crate::config::StateDir::of(&git_dir, &local.path, settings.state_dir.as_deref()),
        settings,
        repository: local,
    };
    let mut lane = reach.open()?;
    let n = lane.fabrics.iter().position(|known| known.fabric.name == it.fabric);
    let n = n.ok_or_else(|| Failure::said(1, "the fabric got lost"))?;
    let made = structure::ensure(&mut lane, n)?;
    // Only what works is kept.
    if old
        .as_ref()
        .is_none_or(|old| RepositorySettings { path: PathBuf::new(), ..old.clone() } != stored)
    {
        config::save_local(&git_dir, &stored)?;
    }
    let dir = lane.fabrics[n].fabric.dir.clone();
    let did = match made.and_then(|it| it.state.commit_id()) {
        Some(id) => format!("made fabric {} in {dir}/, commit {}", it.fabric, id.short()),
        None => format!("fabric {} in {dir}/ is as it should be", it.fabric),
    };
    print(&format!(
        "{did}\nNext: git-intake run, and drop a manifest in {}/\n",
        dir_of(&dir, "raw")
    ))?;
    Ok(0)
}

fn dir_of(dir: &RepoPath, tail: &'static str) -> String {
    dir.join_fixed(tail).to_string()
}

pub(super) fn ingest(it: &args::Ingest, context: &Context) -> Result<u8, Failure> {
    let reach = Reach::find(it.repo.as_deref(), context.config.as_deref())?;
    let Answer::Ingest(reports) = reach.ask(&Request::Ingest { dry_run: it.dry_run })? else {
        return Err(unexpected());
    };
    answered(it.json, &reports, render::ingest(&reports, context.colored))?;
    Ok(code(&reports))
}

/// The exit code that an `ingest` ends with.
pub(super) fn code(reports: &[IngestReport]) -> u8 {
    let mut files = reports.iter().flat_map(|it| &it.files);
    let rejected = files.any(|it| matches!(it.ending, Ending::Rejected | Ending::Parted));
    let held = reports.iter().any(|it| matches!(it.delivery, Delivery::Held { .. }));
    let waiting = reports.iter().any(|it| matches!(it.delivery, Delivery::Waiting { .. }));
    match (rejected || held, waiting) {
        (true, _) => HELD,
        (false, true) => 1,
        (false, false) => 0,
    }
}

pub(super) fn status(it: &args::Status, context: &Context) -> Result<u8, Failure> {
    let (ignored, it) = (it.ignored, &it.one);
    let reach = Reach::find(it.repo.as_deref(), context.config.as_deref())?;
    if ignored {
        let Answer::Ignored(all) = reach.ask(&Request::Ignored)? else { return Err(unexpected()) };
        answered(it.json, &all, listing::ignored(&all, context.colored))?;
        return Ok(0);
    }
    let Answer::Status(status) = reach.ask(&Request::Status)? else { return Err(unexpected()) };
    let all = [*status];
    let text = render::status(&all, context.colored);
    answered(it.json, &all[0], text)?;
    let held = all[0].held.is_some()
        || all[0].fabrics.iter().any(|it| it.rejected_count > 0 || !it.conflicts.is_empty());
    Ok(if held { HELD } else { 0 })
}

pub(super) fn records(it: &args::decide::Records, context: &Context) -> Result<u8, Failure> {
    match it {
        args::decide::Records::List(it) => {
            let reach = Reach::find(it.repo.as_deref(), context.config.as_deref())?;
            let Answer::Records(all) = reach.ask(&Request::Records { kind: None })? else {
                return Err(unexpected());
            };
            answered(it.json, &all, listing::records(&all, context.colored))?;
        }
        args::decide::Records::Show(it) => {
            let reach = Reach::find(it.listing.repo.as_deref(), context.config.as_deref())?;
            let Answer::Record(one) = reach.ask(&Request::Record { name: it.id.clone() })? else {
                return Err(unexpected());
            };
            answered(it.listing.json, &one, listing::record(&one, context.colored))?;
        }
        args::decide::Records::Set(it) => return decide::set(it, context),
        args::decide::Records::Edit(it) => return decide::edit(it, context),
        args::decide::Records::Delete(it) => return decide::delete(it, context),
    }
    Ok(0)
}

pub(super) fn operations(it: &args::Operations, context: &Context) -> Result<u8, Failure> {
    match it {
        args::Operations::List(it) => {
            let reach = Reach::find(it.listing.repo.as_deref(), context.config.as_deref())?;
            let limit = usize::try_from(it.limit).unwrap_or(usize::MAX);
            let Answer::Operations(all) = reach.ask(&Request::Operations { limit })? else {
                return Err(unexpected());
            };
            answered(it.listing.json, &all, listing::operations(&all, context.colored))?;
        }
        args::Operations::Show(it) => {
            let reach = Reach::find(it.listing.repo.as_deref(), context.config.as_deref())?;
            let Answer::Operation(one) = reach.ask(&Request::Operation { id: it.id.clone() })?
            else {
                return Err(unexpected());
            };
            answered(it.listing.json, &one, listing::operation(&one, context.colored))?;
        }
    }
    Ok(0)
}

pub(super) fn conflicts(it: &args::decide::Conflicts, context: &Context) -> Result<u8, Failure> {
    let it = match it {
        args::decide::Conflicts::List(it) => it,
        args::decide::Conflicts::Show(it) => return decide::show(it, context),
        args::decide::Conflicts::Resolve(it) => return decide::resolve(it, context),
    };
    let reach = Reach::find(it.repo.as_deref(), context.config.as_deref())?;
    let Answer::Conflicts(all) = reach.ask(&Request::Conflicts)? else { return Err(unexpected()) };
    answered(it.json, &all, listing::conflicts(&all, context.colored))?;
    Ok(if all.is_empty() { 0 } else { HELD })
}

pub(super) fn rejects(it: &args::Rejects, context: &Context) -> Result<u8, Failure> {
    let args::Rejects::List(it) = it;
    let reach = Reach::find(it.repo.as_deref(), context.config.as_deref())?;
    let Answer::Rejects(all) = reach.ask(&Request::Rejects)? else { return Err(unexpected()) };
    answered(it.json, &all, listing::rejects(&all, context.colored))?;
    Ok(if all.is_empty() { 0 } else { HELD })
}

pub(super) fn retry(it: &args::Retry, context: &Context) -> Result<u8, Failure> {
    let reach = Reach::find(it.listing.repo.as_deref(), context.config.as_deref())?;
    let paths = it.drops.iter().map(|it| RawPath::unescape(it)).collect();
    let Answer::Ingest(reports) = reach.ask(&Request::Retry { paths })? else {
        return Err(unexpected());
    };
    answered(it.listing.json, &reports, render::ingest(&reports, context.colored))?;
    Ok(code(&reports))
}

pub(super) fn verify(it: &args::OneRepository, context: &Context) -> Result<u8, Failure> {
    let reach = Reach::find(it.repo.as_deref(), context.config.as_deref())?;
    let Answer::Verify(report) = reach.ask(&Request::Verify)? else { return Err(unexpected()) };
    answered(it.json, &report, render::verify(&report, context.colored))?;
    Ok(if report.differences.is_empty() { 0 } else { HELD })
}

pub(super) fn rebuild(it: &args::Rebuild, context: &Context) -> Result<u8, Failure> {
    let reach = Reach::find(it.repo.as_deref(), context.config.as_deref())?;
    let Answer::Rebuilt(records) = reach.ask(&Request::Rebuild)? else { return Err(unexpected()) };
    print(&format!("made {records} records again from git\n"))?;
    Ok(0)
}
