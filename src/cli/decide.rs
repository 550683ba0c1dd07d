//! The commands that change records and decide conflicts.

use super::args::decide as args;
use super::commands::{answered, unexpected};
use super::reach::Reach;
use super::{Context, Failure, HELD, decisions};
use crate::agent::conflicts::Decided;
use crate::agent::desk::{Answer, Request};
use crate::agent::records::{Edit, EditChange};
use crate::config;
use crate::model::report::Delivery;
use std::io::{Read as _, Write as _};
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

pub(super) fn set(it: &args::Set, context: &Context) -> Result<u8, Failure> {
    let change = EditChange::Fields { set: it.fields.clone(), remove: it.remove.clone() };
    let reach = Reach::find(it.doing.listing.repo.as_deref(), context.config.as_deref())?;
    ask(&reach, draft(Some(&it.id), change, &it.doing), &it.doing, context)
}

pub(super) fn delete(it: &args::Delete, context: &Context) -> Result<u8, Failure> {
    let reach = Reach::find(it.doing.listing.repo.as_deref(), context.config.as_deref())?;
    ask(&reach, draft(Some(&it.id), EditChange::Delete, &it.doing), &it.doing, context)
}

pub(super) fn edit(it: &args::Edit, context: &Context) -> Result<u8, Failure> {
    let reach = Reach::find(it.doing.listing.repo.as_deref(), context.config.as_deref())?;
    let Some(id) = &it.id else {
        let path = it.file.as_deref().ok_or_else(|| Failure::said(2, "name a file"))?;
        let change = EditChange::Text { text: text_of(path)?, base: None };
        let draft = Edit { fabric: it.fabric.clone(), ..draft(None, change, &it.doing) };
        return ask(&reach, draft, &it.doing, context);
    };
    let Answer::Text(old) = reach.ask(&Request::Text { name: id.clone() })? else {
        return Err(unexpected());
    };
    let base = Some(old.record.blob_id);
    if let Some(path) = &it.file {
        let change = EditChange::Text { text: text_of(path)?, base };
        return ask(&reach, draft(Some(id), change, &it.doing), &it.doing, context);
    }
    let mut file = tempfile::Builder::new().prefix("git-intake-").suffix(".yaml").tempfile()?;
    file.write_all(old.text.as_bytes())?;
    file.flush()?;
    open_editor(file.path())?;
    let text = text_of(file.path())?;
    if text == old.text {
        super::print("nothing was changed\n")?;
        return Ok(0);
    }
    let change = EditChange::Text { text, base };
    let done = ask(&reach, draft(Some(id), change, &it.doing), &it.doing, context);
    done.map_err(|failure| match file.keep() {
        // What somebody wrote is not thrown away with a mistake in it.
        Ok((_, path)) => failure.hint(format!(
            "your text is kept; mend it and send it: git-intake records edit {id} --file {}",
            path.display()
        )),
        Err(_) => failure,
    })
}

fn draft(name: Option<&str>, change: EditChange, it: &args::Doing) -> Edit {
    Edit {
        expected: None,
        name: name.map(str::to_owned),
        fabric: None,
        change,
        actor: actor(it.actor.as_deref()),
        strategy: None,
        dry_run: it.dry_run,
    }
}

fn ask(reach: &Reach, edit: Edit, it: &args::Doing, context: &Context) -> Result<u8, Failure> {
    let Answer::Edited(report) = reach.ask(&Request::Edit(edit))? else { return Err(unexpected()) };
    answered(it.listing.json, &report, decisions::edited(&report, context.colored))?;
    let held = matches!(report.delivery, Delivery::Held { .. });
    Ok(match (report.open.is_empty() && !held, &report.delivery) {
        (false, _) => HELD,
        (true, Delivery::Waiting { .. }) => 1,
        (true, _) => 0,
    })
}

/// Lets a person edit a file, in the editor of the environment.
fn open_editor(path: &Path) -> Result<(), Failure> {
    let named = config::variable("VISUAL").or_else(|| config::variable("EDITOR"));
    let editor = named.unwrap_or_else(|| "vi".to_owned());
    // As git does it: the setting may hold arguments, so a shell reads it.
    let script = format!("{editor} \"$@\"");
    let run =
        std::process::Command::new("sh").arg("-c").arg(script).arg(&editor).arg(path).status();
    match run {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::said(1, format!("the editor `{editor}` failed; nothing is changed"))),
        Err(it) => Err(Failure::said(1, format!("cannot start the editor `{editor}`: {it}"))),
    }
}

fn decided(it: &args::Deciding) -> Decided {
    Decided { strategy: it.strategy.map(Into::into), fields: it.fields.iter().cloned().collect() }
}

/// Who is at the keyboard, as far as anybody says.
pub(super) fn actor(named: Option<&str>) -> String {
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
