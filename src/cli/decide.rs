//! The commands that change records and decide conflicts.

use super::args::decide as args;
use super::commands::{answered, unexpected};
use super::reach::Reach;
use super::{Context, Failure, HELD, decisions};
use crate::agent::desk::{Answer, Decided, Request};
use crate::config;
use std::io::Read as _;
use std::path::Path;

/// No text that is handed in is larger, in bytes.
const TEXT_BYTES_MAX: u64 = 64 << 20;

pub(super) fn show(it: &args::Show, context: &Context) -> Result<u8, Failure> {
    let reach = Reach::find(it.listing.repo.as_deref(), context.config.as_deref())?;
    let request = Request::Conflict { name: it.id.clone(), decided: decided(&it.deciding) };
    let Answer::Conflict(view) = reach.ask(&request)? else { return Err(unexpected()) };
    answered(it.listing.json, &view, decisions::conflict(&view, context.colored))?;
    Ok(0)
}

pub(super) fn resolve(it: &args::Resolve, context: &Context) -> Result<u8, Failure> {
    let reach = Reach::find(it.listing.repo.as_deref(), context.config.as_deref())?;
    let text = it.file.as_deref().map(text_of).transpose()?;
    if text.is_some() && it.ids.len() != 1 {
        return Err(Failure::said(2, "a text is for one conflict; name just one"));
    }
    let request = Request::Resolve {
        names: it.ids.clone(),
        decided: decided(&it.deciding),
        text,
        actor: actor(it.actor.as_deref()),
        dry_run: it.dry_run,
    };
    let Answer::Resolved(report) = reach.ask(&request)? else { return Err(unexpected()) };
    let text = decisions::resolved(&report, it.dry_run, context.colored);
    answered(it.listing.json, &report, text)?;
    Ok(if report.conflicts.iter().all(|it| it.resolved) { 0 } else { HELD })
}

fn decided(it: &args::Deciding) -> Decided {
    Decided { strategy: it.strategy.map(Into::into), fields: it.fields.iter().cloned().collect() }
}

/// Who is at the keyboard, as far as anybody says.
fn actor(named: Option<&str>) -> String {
    let user = || config::variable("SUDO_USER").or_else(|| config::variable("USER"));
    named.map(str::to_owned).or_else(user).unwrap_or_else(|| "somebody".to_owned())
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().lock().take(TEXT_BYTES_MAX).read_to_string(&mut text),
        false => std::fs::File::open(path)
            .and_then(|it| it.take(TEXT_BYTES_MAX).read_to_string(&mut text)),
    };
    read.map_err(|it| Failure::said(1, format!("cannot read {}: {it}", path.display())))?;
    Ok(text)
}
