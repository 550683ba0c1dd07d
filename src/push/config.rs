//! What git's settings say of http, for one address.
//!
//! `http.<url>.*` is matched as git does it: scheme, host (a label may be `*`), port, path up to a
//! slash, user; the longer host, then the longer path, then a named user wins, and among equals the
//! later. Only settings that are ours are read, not those of a stranger's repository. Variables of
//! the environment go before settings, as with git, if the repository was opened with leave to
//! read them.
//!
//! Read are `proxy`, `sslCAInfo`, `sslVerify`, `userAgent`, `extraHeader`, `lowSpeedLimit`,
//! `lowSpeedTime`, `version` and `postBuffer`. `sslVerify = false` is obeyed: whoever writes it has
//! been asked by git to mean it, and it can be kept to one address. Client certificates, cookies
//! and ways to log in at a proxy are not spoken here.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    config::section::is_trusted,
    url::Url,
};

use super::{
    error::{Cause, Error},
    http::{ClientOptions, Header, LowSpeed},
};

/// How well a pattern fits: the host without stars, its length, the path, a user.
type Fit = (bool, usize, usize, bool);

/// The settings of `http` that are meant for one address.
pub(crate) struct Settings<'a> {
    repo: &'a gix::Repository,
    url: &'a Url,
}

impl ClientOptions {
    /// Adds what the settings of `repo` and the environment say for `url`. What is set already
    /// stays; headers come together.
    ///
    /// # Errors
    /// [`Error::Setup`] when a setting makes no sense.
    pub fn or_configured(mut self, repo: &gix::Repository, url: &Url) -> Result<Self, Error> {
        let settings = Settings { repo, url };
        // Whoever opened the repository without the environment means it.
        let allowed = repo.open_options().permissions.env.http_transport.is_allowed();
        self.no_environment |= !allowed;
        let variable = |name: &str| std::env::var_os(name).filter(|it| allowed && !it.is_empty());
        let text = |it: OsString| it.to_string_lossy().into_owned();
        if self.ca_file.is_none() {
            let file = variable("GIT_SSL_CAINFO").map(PathBuf::from);
            self.ca_file = file.or_else(|| settings.path("sslCAInfo"));
        }
        if self.proxy.is_none() {
            self.proxy = settings.text("proxy");
        }
        if self.user_agent.is_none() {
            let agent = variable("GIT_HTTP_USER_AGENT").map(text);
            self.user_agent = agent.or_else(|| settings.text("userAgent"));
        }
        if variable("GIT_SSL_NO_VERIFY").is_some() || settings.is_on("sslVerify")? == Some(false) {
            self.trust_any_certificate = true;
        }
        if settings.text("version").as_deref() == Some("HTTP/1.1") {
            self.http1_only = true;
        }
        for line in settings.headers() {
            self.headers.push(Header::parse(&line).ok_or_else(|| {
                wrong("extraHeader", "it is not of the form `Name: value`".into())
            })?);
        }
        if self.low_speed.is_none() {
            let number = |name: &str, key| match variable(name) {
                Some(value) => integer(key, text(value).as_bytes().as_bstr()).map(Some),
                None => settings.number(key),
            };
            let limit = number("GIT_HTTP_LOW_SPEED_LIMIT", "lowSpeedLimit")?;
            let time = number("GIT_HTTP_LOW_SPEED_TIME", "lowSpeedTime")?;
            if let (Some(bytes @ 1..), Some(seconds @ 1..)) = (limit, time) {
                let time = Duration::from_secs(seconds);
                self.low_speed = Some(LowSpeed { bytes_per_second: bytes, time });
            }
        }
        Ok(self)
    }
}

fn wrong(key: &str, source: Cause) -> Error {
    Error::Setup { what: format!("http.{key} of the configuration"), source }
}

fn integer(key: &str, value: &BStr) -> Result<u64, Error> {
    let number = gix::config::Integer::try_from(value).ok().and_then(|it| it.to_decimal());
    number
        .and_then(|it| u64::try_from(it).ok())
        .ok_or_else(|| wrong(key, "it is not a number that is zero or more".into()))
}

impl<'a> Settings<'a> {
    pub(crate) fn new(repo: &'a gix::Repository, url: &'a Url) -> Self {
        Settings { repo, url }
    }

    /// How large a body may be to be sent whole.
    pub(crate) fn post_buffer_bytes(&self) -> Result<Option<usize>, Error> {
        let bytes = self.number("postBuffer")?;
        Ok(bytes.map(|it| usize::try_from(it).unwrap_or(usize::MAX)))
    }

    /// All values of a key, the last of which counts; those that a more special address has
    /// overruled are left out. A key without a value gives none.
    fn values(&self, key: &str) -> Vec<Option<BString>> {
        let config = self.repo.config_snapshot();
        let sections = config.plumbing().sections_by_name_and_filter("http", is_trusted);
        let mut best = Fit::default();
        let mut out = Vec::new();
        for section in sections.into_iter().flatten() {
            let fit = match section.header().subsection_name() {
                None => Some(Fit::default()),
                Some(pattern) => fit(pattern, self.url),
            };
            let body = section.body();
            if let Some(fit) = fit
                && fit >= best
                && let Some(last) = body.value_implicit(key)
            {
                best = fit;
                let values = body.values(key);
                match last {
                    Some(_) => out.extend(values.into_iter().map(Some)),
                    None => out.push(None),
                }
            }
        }
        out
    }

    fn text(&self, key: &str) -> Option<String> {
        self.values(key).pop().flatten().map(|it| it.to_str_lossy().into_owned())
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        let text = self.text(key).filter(|it| !it.is_empty())?;
        match text.strip_prefix("~/") {
            Some(rest) => Some(gix::path::env::home_dir()?.join(rest)),
            None => Some(text.into()),
        }
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Error> {
        let value = self.values(key).pop().flatten();
        value.map(|it| integer(key, it.as_bstr())).transpose()
    }

    fn is_on(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.values(key).pop() else { return Ok(None) };
        // A key by itself is true.
        let Some(value) = value else { return Ok(Some(true)) };
        let parsed = gix::config::Boolean::try_from(value.as_bstr());
        parsed.map(|it| Some(it.0)).map_err(|_| wrong(key, "it is neither true nor false".into()))
    }

    /// `extraHeader`; an empty one takes back those before it.
    fn headers(&self) -> Vec<String> {
        let all = self.values("extraHeader");
        let all: Vec<_> =
            all.into_iter().flatten().map(|it| it.to_str_lossy().into_owned()).collect();
        let after = all.iter().rposition(String::is_empty).map_or(0, |it| it + 1);
        all[after..].to_vec()
    }
}

/// How well a pattern fits an address, if it does.
fn fit(pattern: &BStr, url: &Url) -> Option<Fit> {
    // A star is no part of a host that could be parsed.
    const STAR: &str = "star-of-a-pattern";
    let text = pattern.to_str().ok()?.replace('*', STAR);
    let pattern = gix::url::parse(text.as_bytes().as_bstr()).ok()?;
    let (wanted, host) = (pattern.host()?.to_lowercase(), url.host()?.to_lowercase());
    if pattern.scheme != url.scheme || pattern.port_or_default() != url.port_or_default() {
        return None;
    }
    let (labels, host): (Vec<_>, Vec<_>) = (wanted.split('.').collect(), host.split('.').collect());
    let same = labels.len() == host.len()
        && labels.iter().zip(&host).all(|(label, own)| *label == STAR || label == own);
    if !same || pattern.user().is_some_and(|it| url.user() != Some(it)) {
        return None;
    }
    let stars = labels.iter().filter(|it| **it == STAR).count();
    let host_length = wanted.len() - stars * (STAR.len() - 1);
    let prefix = pattern.path.trim_end_with(|it| it == '/');
    let rest = url.path.strip_prefix(prefix)?;
    if !(rest.is_empty() || rest.starts_with(b"/")) {
        return None;
    }
    Some((stars == 0, host_length, prefix.len(), pattern.user().is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, url: &str) -> Option<Fit> {
        fit(pattern.into(), &gix::url::parse(url.as_bytes().as_bstr()).unwrap())
    }

    #[test]
    fn a_pattern_fits_what_git_says_it_fits() {
        let url = "https://me@git.example.com/team/repo.git";
        for (pattern, expected) in [
            ("https://git.example.com", true),
            ("https://git.example.com/", true),
            ("https://git.example.com:443/team", true),
            ("https://GIT.example.com/team/", true),
            ("https://*.example.com", true),
            ("https://me@git.example.com", true),
            ("https://git.example.com/team/repo.git", true),
            ("http://git.example.com", false),
            ("https://example.com", false),
            ("https://*.com", false),
            ("https://git.example.com:8443", false),
            ("https://git.example.com/te", false),
            ("https://you@git.example.com", false),
            ("nonsense", false),
            ("", false),
        ] {
            assert_eq!(fits(pattern, url).is_some(), expected, "{pattern}");
        }
    }

    #[test]
    fn the_more_special_pattern_wins() {
        let url = "https://me@git.example.com/team/repo.git";
        let ascending = [
            "https://*.example.com/team",
            "https://git.example.com",
            "https://me@git.example.com",
            "https://git.example.com/team",
            "https://git.example.com/team/repo.git",
        ];
        for pair in ascending.windows(2) {
            assert!(fits(pair[0], url) < fits(pair[1], url), "{pair:?}");
        }
    }

    /// A repository with settings of its own, and no others.
    fn configured(settings: &str, url: &str) -> Result<ClientOptions, Error> {
        let dir = tempfile::tempdir().unwrap();
        let mut repo = gix::init(dir.path()).unwrap();
        let mut config = repo.config_snapshot_mut();
        let more = gix::config::File::try_from(settings).unwrap();
        config.append(more).unwrap();
        drop(config.commit());
        let url = gix::url::parse(url.as_bytes().as_bstr()).unwrap();
        ClientOptions::default().or_configured(&repo, &url)
    }

    #[test]
    fn settings_are_read_for_their_address_only() {
        let settings = "
            [http]
                proxy = http://everywhere:1
                userAgent = git/mine
                extraHeader = X-One: 1
                lowSpeedLimit = 1k
                lowSpeedTime = 5
            [http \"https://a.example\"]
                proxy = http://only-a:2
                sslVerify = false
                extraHeader =
                extraHeader = Authorization: secret
                version = HTTP/1.1";
        let a = configured(settings, "https://a.example/x.git").unwrap();
        assert_eq!(a.proxy.as_deref(), Some("http://only-a:2"));
        assert!(a.trust_any_certificate && a.http1_only);
        assert_eq!(a.headers.len(), 1);
        assert!(!format!("{a:?}").contains("secret"));
        let b = configured(settings, "https://b.example/x.git").unwrap();
        assert_eq!(b.proxy.as_deref(), Some("http://everywhere:1"));
        assert!(!b.trust_any_certificate && !b.http1_only);
        assert_eq!(b.headers.len(), 1);
        assert_eq!(b.user_agent.as_deref(), Some("git/mine"));
        let slow = LowSpeed { bytes_per_second: 1024, time: Duration::from_secs(5) };
        assert_eq!(b.low_speed, Some(slow));
    }

    #[test]
    fn settings_that_make_no_sense_are_told() {
        for wrong in ["lowSpeedLimit = fast", "sslVerify = perhaps", "extraHeader = none"] {
            let told = configured(&format!("[http]\n{wrong}"), "https://a.example/x.git");
            assert!(matches!(told, Err(Error::Setup { .. })), "{wrong}: {told:?}");
        }
    }
}
