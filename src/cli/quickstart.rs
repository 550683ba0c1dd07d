//! `quickstart`: the whole line on a repository and a remote of its own, judged by a fresh clone.

use super::reach::Reach;
use super::{Context, Failure, args, commands, print, render, serve};
use crate::agent::desk::{Answer, Request};
use crate::model::fabric::FabricName;
use std::path::{Path, PathBuf};
use std::process::Command;

const SAMPLES: [(&str, &str); 4] = [
    ("wiring.yaml", include_str!("samples/wiring.yaml")),
    ("vpcs.yaml", include_str!("samples/vpcs.yaml")),
    ("mistake.yaml", include_str!("samples/mistake.yaml")),
    ("settings.yaml", include_str!("samples/settings.yaml")),
];

pub(super) fn quickstart(it: &args::Quickstart, context: &Context) -> Result<u8, Failure> {
    super::log(context, &crate::config::LogSettings::default(), Some("warn"));
    let top = make_place(&it.dir)?;
    let (repository, remote, clone) =
        (top.join("repository"), top.join("remote.git"), top.join("clone"));

    print(&format!("A demo in {}: a repository, and a bare remote beside it.\n\n", top.display()))?;
    git(&top, &["init", "-q", "--bare", "-b", "main", "remote.git"])?;
    git(&top, &["init", "-q", "-b", "main", "repository"])?;
    git(&repository, &["remote", "add", "origin", &remote.display().to_string()])?;
    let fabric = FabricName::parse("fabric-1").map_err(|it| Failure::said(1, it))?;
    say("1. Make a fabric", "git-intake init --fabric fabric-1")?;
    let init = args::Init {
        repo: Some(repository.clone()),
        fabric,
        dir: None,
        remote: None,
        branch: None,
    };
    commands::init(init, context)?;

    say("2. Drop four files", "cp *.yaml fabric-1/raw/")?;
    for (name, text) in SAMPLES {
        drop_sample(&repository.join("fabric-1/raw").join(name), text)?;
        print(&format!(
            "   {name}: {}\n",
            text.lines().next().unwrap_or_default().trim_start_matches("# ")
        ))?;
    }

    say("3. Take them: judge, file, commit, push", "git-intake ingest")?;
    let reach = Reach::find(Some(&repository), None)?;
    let Answer::Ingest(reports) = reach.ask(&Request::Ingest { dry_run: false })? else {
        return Err(Failure::said(1, "the repository gave another answer than asked for"));
    };
    print(&render::ingest(&reports, context.colored))?;

    say("4. Look at a fresh clone of the remote", "git clone remote.git clone")?;
    git(&top, &["clone", "-q", "remote.git", "clone"])?;
    print(&git(&clone, &["log", "--oneline", "--no-decorate"])?)?;
    print(&git(&clone, &["ls-tree", "-r", "--name-only", "HEAD", "fabric-1"])?)?;

    let repository = repository.display();
    print(&format!(
        "\nTry next, in {repository}:\n\
         \x20  git-intake status                             what waits, what was rejected\n\
         \x20  cat fabric-1/raw/mistake.yaml.rejected.txt    what is wrong, and where\n\
         \x20  git-intake records show VPC/vpc-1             its file, and where it came from\n\
         \x20  git-intake put FILE --wait                    answers when it is on the remote\n"
    ))?;
    if it.once {
        print("   git-intake run                                watch, until Ctrl-C\n")?;
        return Ok(0);
    }
    print(
        "\nWatching. Mend fabric-1/raw/mistake.yaml, or drop files of your own; Ctrl-C stops.\n",
    )?;
    super::log(context, &crate::config::LogSettings::default(), None);
    serve::serve_one(&reach)?;
    Ok(0)
}

/// Makes the directory of the demo, which must be new or empty: nothing of anybody's is touched.
fn make_place(dir: &Path) -> Result<PathBuf, Failure> {
    let failed =
        |it: std::io::Error| Failure::said(1, format!("cannot use {}: {it}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    if std::fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(Failure::said(2, format!("{} is not empty", dir.display()))
            .hint("name another directory, or remove this one if it is an earlier demo"));
    }
    dir.canonicalize().map_err(failed)
}

#[expect(clippy::disallowed_methods, reason = "the demo plays the person who drops a file")]
fn drop_sample(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(Failure::from)
}

fn say(title: &str, command: &str) -> Result<(), Failure> {
    print(&format!("\n{title}\n   $ {command}\n"))
}

/// Runs git itself: what the demo shows is what any other tool would see.
fn git(dir: &Path, args: &[&str]) -> Result<String, Failure> {
    let out = Command::new("git").current_dir(dir).args(args).output();
    let out = out.map_err(|it| {
        Failure::said(1, format!("cannot run git: {it}"))
            .hint("install git; the demo's remote is one of git's own")
    })?;
    if !out.status.success() {
        let words = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        return Err(Failure::said(1, format!("git {} failed: {words}", args.join(" "))));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(text.lines().map(|it| format!("   {it}\n")).collect())
}
