//! `token`: who may come in by the network.

use super::args::token as args;
use super::serve::settings_of;
use super::{Context, Failure, print};
use crate::api::tokens::{Scope, Token, TokenFile};
use crate::clock;
use crate::config::{self, StateDir};
use crate::git::Repo;
use crate::step::Steps;
use serde::Serialize;
use std::io;
use std::path::Path;

/// A token as it is listed: never with its digest.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: &'a str,
    name: &'a str,
    scope: Scope,
    fabrics: Option<Vec<&'a str>>,
    created_at: jiff::Timestamp,
    expires_at: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

impl<'a> Listed<'a> {
    fn of(it: &'a Token, token: Option<&'a str>) -> Listed<'a> {
        let fabrics = it.fabrics.as_ref();
        Listed {
            id: &it.id,
            name: &it.name,
            scope: it.scope,
            fabrics: fabrics.map(|it| it.iter().map(|it| it.as_str()).collect()),
            created_at: it.created_at,
            expires_at: it.expires_at,
            token,
        }
    }
}

pub(super) fn token(it: &args::Token, context: &Context) -> Result<u8, Failure> {
    match it {
        args::Token::Add(it) => add(it, context),
        args::Token::List(it) => list(it, context),
        args::Token::Revoke(it) => {
            let file = file(it.repo.as_deref(), context)?;
            match file.revoke(&it.name).map_err(failed)? {
                true => print(&format!("token {} is over\n", it.name)).map(|()| 0),
                false => Err(Failure::said(1, format!("there is no token {}", it.name))
                    .hint("git-intake token list shows all")),
            }
        }
    }
}

fn add(it: &args::Add, context: &Context) -> Result<u8, Failure> {
    let file = file(it.repo.as_deref(), context)?;
    let scope = match it.scope {
        args::Scope::Read => Scope::Read,
        args::Scope::Write => Scope::Write,
        args::Scope::Admin => Scope::Admin,
    };
    let fabrics = (!it.fabrics.is_empty()).then(|| it.fabrics.clone());
    let end = it.expires.map(|it| clock::now().checked_add(it)).transpose();
    let end = end.map_err(|it| Failure::said(2, it.to_string()))?;
    let (token, text) = file.add(&it.name, scope, fabrics, end).map_err(failed)?;
    if it.json {
        let listed = Listed::of(&token, Some(&text));
        print(&super::render::json(&listed).map_err(|it| Failure::of(1, &it))?)?;
    } else {
        print(&format!("{text}\n"))?;
        // Beside the answer, so that a script gets the token and nothing else.
        eprintln!("This is shown once. Keep it where only its user can read it.");
    }
    Ok(0)
}

fn list(it: &args::List, context: &Context) -> Result<u8, Failure> {
    let file = file(it.repo.as_deref(), context)?;
    let all = file.all().map_err(failed)?;
    if it.json {
        let listed: Vec<Listed<'_>> = all.iter().map(|it| Listed::of(it, None)).collect();
        print(&super::render::json(&listed).map_err(|it| Failure::of(1, &it))?)?;
        return Ok(0);
    }
    let mut text = String::new();
    for it in all.iter() {
        let listed = Listed::of(it, None);
        let fabrics = listed.fabrics.map_or_else(|| "all fabrics".to_owned(), |it| it.join(", "));
        let end = it.expires_at.map(|it| format!(", until {it}")).unwrap_or_default();
        let scope = format!("{:?}", it.scope).to_lowercase();
        text.push_str(&format!("{}  {}  {scope} on {fabrics}{end}\n", it.id, it.name));
    }
    if text.is_empty() {
        text.push_str("there are no tokens; git-intake token add NAME makes one\n");
    }
    print(&text)?;
    Ok(0)
}

/// The tokens of the agent that serves this host, or a repository.
fn file(repo: Option<&Path>, context: &Context) -> Result<TokenFile, Failure> {
    let (settings, repositories) = settings_of(repo, context)?;
    let Some(first) = repositories.first() else {
        return Err(Failure::said(2, "the settings name no repository"));
    };
    let found = Repo::discover(&first.path, Steps::default())
        .map_err(|it| Failure::usage(it, "mend the path in the configuration"))?;
    let configured = settings.state_dir.as_deref();
    let state = StateDir::of(found.git_dir(), found.work_tree(), configured);
    state.create(found.git_dir()).map_err(failed)?;
    Ok(TokenFile::of(&config::agent_dir(configured, &state)))
}

fn failed(error: io::Error) -> Failure {
    Failure::of(1, &error)
        .hint("the tokens belong to the agent's user: sudo -u git-intake git-intake token list")
}
