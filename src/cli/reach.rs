//! Who answers: the running agent over its socket, or the repository opened here and now.

use super::Failure;
use crate::agent::desk::{self, Answer, Live, Request};
use crate::agent::lane::Lane;
use crate::api;
use crate::config::{self, RepositorySettings, Settings, StateDir};
use crate::git::Repo;
use crate::step::Steps;
use std::path::{Path, PathBuf};

/// A repository and how to reach what is known of it.
pub(super) struct Reach {
    pub settings: Settings,
    pub repository: RepositorySettings,
    pub state: StateDir,
}

impl Reach {
    /// Finds the repository that a command is about, and its settings.
    pub fn find(repo: Option<&Path>, file: Option<&Path>) -> Result<Reach, Failure> {
        let found = Reach::find_any(repo, file)?;
        if found.repository.fabrics.is_empty() && found.repository.file.is_none() {
            let path = found.repository.path.display();
            return Err(Failure::said(2, format!("{path} has no fabric yet"))
                .hint("make one: git-intake init --fabric fabric-1"));
        }
        Ok(found)
    }

    /// The same, though it may have no fabric yet.
    pub fn find_any(repo: Option<&Path>, file: Option<&Path>) -> Result<Reach, Failure> {
        let here = Path::new(".");
        let found = Repo::discover(repo.unwrap_or(here), Steps::default())
            .map_err(|it| Failure::usage(it, "go to a work tree, or name one"))?;
        let settings = load(file)?;
        let configured = settings.repositories.iter().find(|it| same(&it.path, found.work_tree()));
        let repository = match configured {
            Some(it) => it.clone(),
            None => {
                let local = config::load_local(found.git_dir(), found.work_tree());
                let local = local.map_err(|it| Failure::usage(it, "mend the file"))?;
                let mut local = local.unwrap_or_default();
                local.path = found.work_tree().to_owned();
                local
            }
        };
        let state_dir = settings.state_dir.clone();
        let state = StateDir::of(found.git_dir(), found.work_tree(), state_dir.as_deref());
        Ok(Reach { settings, repository, state })
    }

    /// Asks the running agent, or does it here.
    pub fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        if let Some(answer) = self.ask_running(request)? {
            return said(answer);
        }
        let mut lane = match Lane::open(
            &self.settings,
            &self.repository,
            super::serve::interrupt(),
            Steps::default(),
        ) {
            Ok(lane) => lane,
            // An agent that was only just starting holds the lock, and answers by now.
            Err(error @ crate::agent::Error::Busy { .. }) => {
                return match self.ask_running(request)? {
                    Some(answer) => said(answer),
                    None => Err(error.into()),
                };
            }
            Err(error) => return Err(error.into()),
        };
        if !matches!(
            request,
            Request::Status
                | Request::Verify
                | Request::Rejects
                | Request::Ignored
                | Request::Fabrics
                | Request::Fabric { .. }
                | Request::Ingest { dry_run: true }
        ) {
            lane.prepare()?;
        }
        let answer = desk::answer(&mut lane, request, &Live::default());
        let dir = config::agent_dir(self.settings.state_dir.as_deref(), &self.state);
        // The lane is ours alone as long as it is open.
        api::done_without_agent(&dir, request, &answer)?;
        said(answer)
    }

    /// Asks the running agent; none where none is running.
    pub fn ask_running(&self, request: &Request) -> Result<Option<Answer>, Failure> {
        api::ask_running(&self.state.socket(), request).map_err(|it| {
            Failure::said(1, format!("cannot ask the running agent: {it}"))
                .hint("see its log: journalctl -u git-intake")
        })
    }

    /// Opens the repository for this process alone.
    pub fn open(&self) -> Result<Lane, Failure> {
        let interrupt = super::serve::interrupt();
        Ok(Lane::open(&self.settings, &self.repository, interrupt, Steps::default())?)
    }
}

/// The settings: of the file that was named, of the environment's, or the defaults.
pub(super) fn load(file: Option<&Path>) -> Result<Settings, Failure> {
    let named = file
        .map(PathBuf::from)
        .or_else(|| config::variable("GIT_INTAKE_CONFIG").map(PathBuf::from));
    config::load(named.as_deref())
        .map_err(|it| Failure::usage(it, "every key is explained in packaging/config.yaml"))
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn said(answer: Answer) -> Result<Answer, Failure> {
    match answer {
        Answer::Refused { message, .. } => Err(Failure::said(1, message)),
        other => Ok(other),
    }
}
