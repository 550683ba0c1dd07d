//! Logins, asked of people and helpers as git asks: by `git credential`.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use git_intake::push::{Cause, Credentials, credentials::Login};
use gix::bstr::BString;

use super::here::program;

/// Remembers its last answer, for when it is known whether it was right.
#[derive(Default)]
pub struct Asker {
    answer: Option<String>,
}

fn credential(action: &str, input: &str) -> Result<Option<String>, Cause> {
    let mut command = Command::new(program());
    let stdio = command.args(["credential", action]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = stdio.spawn()?;
    child.stdin.take().expect("it is piped").write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output.status.success().then_some(text))
}

impl Credentials for Asker {
    fn get(&mut self, url: &str, asked: &[BString]) -> Result<Option<Login>, Cause> {
        let mut input = format!("url={url}\n");
        asked.iter().for_each(|it| input.push_str(&format!("wwwauth[]={it}\n")));
        self.answer = credential("fill", &input)?;
        let part = |name: &str| {
            let lines = self.answer.as_deref().unwrap_or_default().lines();
            let mut values = lines.filter_map(|it| it.strip_prefix(name)?.strip_prefix('='));
            values.next().map(str::to_owned)
        };
        Ok(match (part("username"), part("password")) {
            (Some(user), Some(password)) => Some(Login::Basic { user, password }),
            _ => None,
        })
    }

    fn approve(&mut self) {
        if let Some(answer) = self.answer.take() {
            let _ = credential("approve", &answer);
        }
    }

    fn reject(&mut self) {
        if let Some(answer) = self.answer.take() {
            let _ = credential("reject", &answer);
        }
    }
}
