//! Git's smart http, from a server's first 401 to its last word.
//!
//! A login is asked for only when the server wants one, then settled by a request that can be
//! repeated: a body that is streamed goes out once, behind a probe that was let in.

use std::{sync::Arc, thread::JoinHandle};

use gix::bstr::ByteSlice;

use super::{
    Options,
    advertisement::{self, Advertisement},
    credentials::{Credentials, Login},
    error::Error,
    http::{self, Answer, AnswerBody, Body, Client, Request},
    line::{FLUSH, Lines},
    pulse::Pulse,
};

/// An http server and what it knows of us.
pub(crate) struct Web<'o, 'c> {
    client: Client,
    base: String,
    /// Who the address says we are, for those who know our passwords.
    user: Option<String>,
    pub(crate) shown: String,
    login: Option<Login>,
    /// Whether the login in use came from asking, so that its source wants to hear of it.
    to_approve: bool,
    credentials: Option<&'o mut (dyn Credentials + 'c)>,
    allow_clear_text: bool,
    pulse: Arc<Pulse>,
    /// The references were asked for already, as this login.
    pub(crate) asked: Option<JoinHandle<Result<Answer, Error>>>,
}

/// Where the references are asked for.
const REFERENCES: &str = "/info/refs?service=git-receive-pack";
const ANY: [(&str, &str); 1] = [("Accept", "*/*")];

const POST: [(&str, &str); 2] = [
    ("Content-Type", "application/x-git-receive-pack-request"),
    ("Accept", "application/x-git-receive-pack-result"),
];

/// How many times a server may refuse a login before that is the answer.
const LOGINS_MAX: usize = 3;

impl<'o, 'c> Web<'o, 'c> {
    pub(crate) fn new(
        repo: &gix::Repository,
        url: &gix::Url,
        shown: &str,
        options: &Options<'_>,
        mut credentials: Option<&'o mut (dyn Credentials + 'c)>,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, Error> {
        let client = match &options.http {
            Some(client) => client.clone(),
            None => {
                let connect = options.client.connect.or(Some(options.deadlines.connect));
                let given = http::ClientOptions { connect, ..options.client.clone() };
                Client::new(&given.or_configured(repo, url)?)?
            }
        };
        if let Some(least) = client.low_speed {
            pulse.demand(least);
        }
        let mut bare = url.clone();
        let (user, password) = (bare.set_user(None), bare.set_password(None));
        let mut login = match (&user, password) {
            (Some(user), Some(password)) => Some(Login::Basic { user: user.clone(), password }),
            _ => None,
        };
        if login.is_none() {
            login = credentials.as_mut().and_then(|it| it.at_once());
        }
        let web = Web {
            client,
            base: bare.to_bstring().to_string().trim_end_matches('/').to_owned(),
            user,
            shown: shown.to_owned(),
            login,
            to_approve: false,
            credentials,
            allow_clear_text: options.allow_clear_text,
            pulse: pulse.clone(),
            asked: None,
        };
        web.check_clear_text()?;
        Ok(web)
    }

    fn check_clear_text(&self) -> Result<(), Error> {
        if self.login.is_some() && !self.allow_clear_text && self.base.starts_with("http://") {
            return Err(Error::ClearText { url: self.shown.clone() });
        }
        Ok(())
    }

    fn send(&self, tail: &str, headers: &[(&str, &str)], body: Body) -> Result<Answer, Error> {
        let url = format!("{}{tail}", self.base);
        let (shown, login) = (&*self.shown, self.login.as_ref());
        self.client.send(&Request { url: &url, shown, login, headers }, body, &self.pulse)
    }

    /// Asks for the references on a thread of its own.
    pub(crate) fn ask_ahead(&self) -> JoinHandle<Result<Answer, Error>> {
        let (client, url) = (self.client.clone(), format!("{}{REFERENCES}", self.base));
        let (shown, login, pulse) = (self.shown.clone(), self.login.clone(), self.pulse.clone());
        std::thread::spawn(move || {
            let login = login.as_ref();
            let request = Request { url: &url, shown: &shown, login, headers: &ANY };
            client.send(&request, Body::None, &pulse)
        })
    }

    /// Sends a request, as often as it takes to be let in.
    fn admitted(
        &mut self,
        tail: &str,
        headers: &[(&str, &str)],
        body: impl Fn() -> Body,
    ) -> Result<Answer, Error> {
        for _ in 0..=LOGINS_MAX {
            let answer = match self.asked.take().map(JoinHandle::join) {
                Some(Ok(answer)) => answer?,
                // It was not asked for ahead, or that has ended in a panic.
                None | Some(Err(_)) => self.send(tail, headers, body())?,
            };
            if answer.status != 401 {
                return self.judged(answer);
            }
            let refused = self.refused(&answer);
            if self.to_approve
                && let Some(credentials) = &mut self.credentials
            {
                credentials.reject();
            }
            self.to_approve = false;
            let asking = self.asking();
            let Some(credentials) = &mut self.credentials else {
                return Err(refused);
            };
            let got = credentials
                .get(&asking, &answer.asked)
                .map_err(|source| Error::Credentials { url: self.shown.clone(), source })?;
            let Some(login) = got else {
                return Err(refused);
            };
            self.login = Some(login);
            self.to_approve = true;
            self.check_clear_text()?;
        }
        let detail = "no login was accepted".into();
        Err(Error::Login { url: self.shown.clone(), detail })
    }

    /// The address as those who know our passwords want it.
    fn asking(&self) -> String {
        let parsed = gix::url::parse(self.base.as_bytes().as_bstr());
        match (parsed, &self.user) {
            (Ok(mut url), Some(user)) => {
                url.set_user(Some(user.clone()));
                url.to_bstring().to_string()
            }
            _ => self.base.clone(),
        }
    }

    fn refused(&self, answer: &Answer) -> Error {
        let asked: Vec<_> = answer.asked.iter().map(|it| it.to_str_lossy()).collect();
        let known = if self.login.is_some() { "the login was refused" } else { "no login" };
        let detail = format!("{known} (the server asks for {})", asked.join(", "));
        Error::Login { url: self.shown.clone(), detail }
    }

    /// Gives a good answer back, and makes an error of any other.
    fn judged(&mut self, mut answer: Answer) -> Result<Answer, Error> {
        let url = self.shown.clone();
        if (200..300).contains(&answer.status) {
            if self.to_approve
                && let Some(credentials) = &mut self.credentials
            {
                credentials.approve();
            }
            self.to_approve = false;
            return Ok(answer);
        }
        let detail = said(&mut answer);
        Err(match answer.status {
            401 => self.refused(&answer),
            403 => Error::Forbidden { url, detail },
            404 | 410 => Error::NotFound { url, detail },
            413 => Error::TooLarge { url, detail },
            status => Error::Http { url, status, detail },
        })
    }

    pub(crate) fn advertisement(
        &mut self,
        hash: gix::hash::Kind,
        limit_bytes: u64,
    ) -> Result<Advertisement, Error> {
        let answer = self.admitted(REFERENCES, &ANY, || Body::None)?;
        if answer.content_type != "application/x-git-receive-pack-advertisement" {
            let detail = "the server does not speak git's smart http protocol".into();
            return Err(Error::Protocol { what: "the references", detail });
        }
        // A redirect on the same host was followed: the rest goes where it led.
        if let Some(base) = answer.url.strip_suffix(REFERENCES) {
            self.base = base.to_owned();
        }
        let mut lines = Lines::new(answer.body, "the references", limit_bytes);
        advertisement::read(&mut lines, &self.shown, hash, true)
    }

    pub(crate) fn exchange(&mut self, body: Body) -> Result<AnswerBody, Error> {
        const TAIL: &str = "/git-receive-pack";
        let answer = match body {
            Body::Whole(bytes) => self.admitted(TAIL, &POST, || Body::Whole(bytes.clone()))?,
            body => {
                // What is streamed cannot be repeated, so a login must be settled before.
                self.admitted(TAIL, &POST, || Body::Whole(FLUSH.into()))?;
                let answer = self.send(TAIL, &POST, body)?;
                self.judged(answer)?
            }
        };
        if answer.content_type != "application/x-git-receive-pack-result" {
            let detail = "the answer is not git's".into();
            return Err(Error::Protocol { what: "the report", detail });
        }
        Ok(answer.body)
    }
}

/// How much of an error page is quoted.
const SAID_BYTES_MAX: usize = 300;

/// What a server says about its refusal, if that is text: git hosts explain themselves there.
fn said(answer: &mut Answer) -> String {
    let mut text = Vec::new();
    while text.len() < SAID_BYTES_MAX {
        match answer.body.fill() {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let n = bytes.len().min(SAID_BYTES_MAX - text.len());
                text.extend_from_slice(&bytes[..n]);
                answer.body.consume(n);
            }
        }
    }
    let text = text.to_str_lossy();
    if answer.content_type.starts_with("text/html") {
        let title = text.split_once("<title>").and_then(|(_, it)| it.split_once("</title>"));
        return title.map(|it| it.0.trim().to_owned()).unwrap_or_default();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
