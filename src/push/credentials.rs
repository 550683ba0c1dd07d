//! Who we say we are, once a server asks.
//!
//! A [`Login`] has neither `Display` nor `Debug`, and goes into one header of one request.
//! [`Helpers`] asks git's own credential helpers and tells them how it went; a [`Token`] is what
//! the caller already holds. Neither ever prompts.

use gix::{
    bstr::{BString, ByteSlice},
    credentials::helper::{Action, NextAction},
};

use super::error::Cause;

/// A secret answer to a 401. Neither printable nor comparable.
#[derive(Clone)]
pub enum Login {
    /// A user and a password.
    Basic {
        /// It is sent as it is: a colon in it would end it.
        user: String,
        /// Or a token, as most git hosts take one in its place.
        password: String,
    },
    /// A token for `Authorization: Bearer`.
    Bearer(String),
}

impl Login {
    /// The value of the `Authorization` header.
    pub(crate) fn header(&self) -> String {
        match self {
            Self::Basic { user, password } => {
                format!("Basic {}", base64(&format!("{user}:{password}")))
            }
            Self::Bearer(token) => format!("Bearer {token}"),
        }
    }
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(text.len().div_ceil(3) * 4);
    for chunk in text.as_bytes().chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |acc, b| acc << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Where logins come from.
pub trait Credentials: Send {
    /// A login to send with the first request, before a server asks.
    fn at_once(&mut self) -> Option<Login> {
        None
    }
    /// A login for `url`, after a 401 whose `WWW-Authenticate` values are `asked`. The address has
    /// the user name that the caller's had, and no password.
    ///
    /// # Errors
    /// Whatever keeps the source from answering; `None` says that it has no answer.
    fn get(&mut self, url: &str, asked: &[BString]) -> Result<Option<Login>, Cause>;
    /// The server took the last login.
    fn approve(&mut self) {}
    /// The server did not take the last login.
    fn reject(&mut self) {}
}

/// A login that the caller holds, sent with the first request so that no round trip is lost.
pub struct Token(pub Login);

impl Credentials for Token {
    fn at_once(&mut self) -> Option<Login> {
        Some(self.0.clone())
    }

    fn get(&mut self, _url: &str, _asked: &[BString]) -> Result<Option<Login>, Cause> {
        Ok(None)
    }
}

/// Git's credential helpers, as the repository's configuration names them.
pub struct Helpers {
    repo: gix::Repository,
    next: Option<NextAction>,
    cascade: Option<(gix::credentials::helper::Cascade, gix::prompt::Options)>,
}

impl Helpers {
    /// Helpers of the configuration that `repo` was opened with.
    pub fn new(repo: &gix::Repository) -> Self {
        Helpers { repo: repo.clone(), next: None, cascade: None }
    }

    fn tell(&mut self, action: Action) {
        if let Some((cascade, prompt)) = &mut self.cascade {
            // A helper that cannot remember costs a question next time, no more.
            let _ = cascade.invoke(action, prompt.clone());
        }
    }
}

impl Credentials for Helpers {
    fn get(&mut self, url: &str, asked: &[BString]) -> Result<Option<Login>, Cause> {
        let parsed = gix::url::parse(url.as_bytes().as_bstr())?;
        let (cascade, mut action, mut prompt) =
            self.repo.config_snapshot().credential_helpers(parsed).map_err(Cause::from)?;
        prompt.mode = gix::prompt::Mode::Disable;
        prompt.askpass = None;
        let (cascade, prompt) = self.cascade.insert((cascade, prompt));
        // It may carry a user name of the settings beside the address.
        if let Some(context) = action.context_mut() {
            context.www_authenticate = asked.to_vec();
        }
        // With prompts turned off, no answer from any helper comes back as an error.
        let Ok(Some(outcome)) = cascade.invoke(action, prompt.clone()) else {
            return Ok(None);
        };
        self.next = Some(outcome.next);
        let gix::sec::identity::Account { username: user, password, .. } = outcome.identity;
        Ok(Some(Login::Basic { user, password }))
    }

    fn approve(&mut self) {
        if let Some(next) = self.next.take() {
            self.tell(next.store());
        }
    }

    fn reject(&mut self) {
        if let Some(next) = self.next.take() {
            self.tell(next.erase());
        }
    }
}
