//! What a forge tells is believed only with a right signature over the bytes as they came.
//!
//! Nothing of a body is read before that, and no id is remembered, so who has no secret can change
//! nothing here, fill nothing and keep no real delivery out. What a delivery brings about is a fetch,
//! which would have come by itself a little later.

use super::listen::{Peer, Via};
use super::refusal::{ErrorCode, Refusal};
use crate::config::HookSettings;
use crate::model::digest::Sha256;
use axum::http::HeaderMap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use serde::Deserialize;
use std::collections::{HashSet, VecDeque};
use std::io::{self, Read as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use subtle::{Choice, ConstantTimeEq as _};
use tokio::sync::{Semaphore, SemaphorePermit};

/// No delivery is larger, in bytes; what is, is heard of by the next fetch.
pub(super) const BYTES_MAX: usize = 5 << 20;
/// So many deliveries are read at once.
const AT_ONCE_MAX: usize = 16;
/// So many ids of deliveries are remembered.
const SEEN_MAX: usize = 10_000;
/// How many addresses have a limit of their own before those that are idle are let go.
const LIMITS_MAX: usize = 10_000;
/// The id of a delivery is not longer.
const ID_BYTES_MAX: usize = 128;
/// A secret has so many bytes.
const SECRET_BYTES_MIN: usize = 8;
const SECRET_BYTES_MAX: u64 = 4 << 10;

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forge {
    Github,
    Gitlab,
    Gitea,
}

impl Forge {
    pub fn word(self) -> &'static str {
        match self {
            Forge::Github => "github",
            Forge::Gitlab => "gitlab",
            Forge::Gitea => "gitea",
        }
    }

    /// The files with its secrets.
    pub fn files(self, settings: &HookSettings) -> &[PathBuf] {
        match self {
            Forge::Github => &settings.github,
            Forge::Gitlab => &settings.gitlab,
            Forge::Gitea => &settings.gitea,
        }
    }

    fn signature_header(self) -> &'static str {
        match self {
            Forge::Github => "x-hub-signature-256",
            Forge::Gitlab => "x-gitlab-token",
            Forge::Gitea => "x-gitea-signature",
        }
    }

    /// Where the id of a delivery stands; the first that is there counts.
    fn id_headers(self) -> &'static [&'static str] {
        match self {
            Forge::Github => &["x-github-delivery"],
            // The second is shared by hooks that set each other off, so it is for older versions only.
            Forge::Gitlab => &["idempotency-key", "x-gitlab-event-uuid"],
            Forge::Gitea => &["x-gitea-delivery"],
        }
    }

    fn event_header(self) -> &'static str {
        match self {
            Forge::Github => "x-github-event",
            Forge::Gitlab => "x-gitlab-event",
            Forge::Gitea => "x-gitea-event",
        }
    }

    /// Says whether the bytes come from who knows one of the secrets. How long that takes tells nothing
    /// of how much was right.
    pub fn vouches(self, headers: &HeaderMap, bytes: &[u8], secrets: &[Vec<u8>]) -> bool {
        let given = headers.get(self.signature_header()).map(|it| it.as_bytes());
        let given = given.unwrap_or_default();
        let mut right = Choice::from(0);
        for secret in secrets {
            right |= match self {
                // The secret itself is sent; digests are of one length.
                Forge::Gitlab => Sha256::of(given).as_bytes().ct_eq(Sha256::of(secret).as_bytes()),
                Forge::Github | Forge::Gitea => {
                    let prefix = if self == Forge::Github { "sha256=" } else { "" };
                    let wanted = format!("{prefix}{}", Sha256::hmac(secret, bytes));
                    given.ct_eq(wanted.as_bytes())
                }
            };
        }
        right.into()
    }

    /// What a delivery's headers say: its id, and its event in the forge's own word. Whether that is to
    /// be believed is another question.
    pub fn named(self, headers: &HeaderMap) -> Result<(String, String), Refusal> {
        if !headers.contains_key(self.signature_header()) {
            let message =
                format!("{} is missing: the delivery is not signed", self.signature_header());
            return Err(Refusal::new(ErrorCode::AuthenticationRequired, message)
                .suggest(format!("give the hook the secret that webhooks.{} names", self.word())));
        }
        let event = headers.get(self.event_header()).and_then(|it| it.to_str().ok());
        let event = event.ok_or_else(|| {
            Refusal::field(self.event_header(), "it is missing, or no plain word")
        })?;
        Ok((self.delivery(headers)?, event.to_owned()))
    }

    fn delivery(self, headers: &HeaderMap) -> Result<String, Refusal> {
        let named = self.id_headers();
        let given = named.iter().find_map(|it| headers.get(*it)).and_then(|it| it.to_str().ok());
        let plain = |it: &&str| {
            (1..=ID_BYTES_MAX).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_graphic())
        };
        given.filter(plain).map(str::to_owned).ok_or_else(|| {
            Refusal::field(named[0], "the id of the delivery is missing, or no plain word")
        })
    }
}

/// Reads the secrets; blocks while a disk is read.
pub(super) fn secrets(files: &[PathBuf]) -> io::Result<Vec<Vec<u8>>> {
    files.iter().map(|it| secret(it)).collect()
}

fn secret(path: &Path) -> io::Result<Vec<u8>> {
    let named = |it: io::Error| io::Error::new(it.kind(), format!("{}: {it}", path.display()));
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(named)?;
    file.take(SECRET_BYTES_MAX).read_to_end(&mut text).map_err(named)?;
    let text = text.trim_ascii().to_vec();
    match text.len() >= SECRET_BYTES_MIN {
        true => Ok(text),
        // Whoever guesses an empty file would be believed.
        false => Err(named(io::Error::other(format!(
            "a secret of less than {SECRET_BYTES_MIN} bytes is none"
        )))),
    }
}

/// What is kept between deliveries.
pub(super) struct Hooks {
    limits: DefaultKeyedRateLimiter<String>,
    clock: DefaultClock,
    room: Semaphore,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    /// The oldest first.
    order: VecDeque<String>,
}

impl Hooks {
    pub fn new(settings: &HookSettings) -> Hooks {
        let rate = NonZeroU32::new(settings.requests_per_second).unwrap_or(NonZeroU32::MIN);
        Hooks {
            limits: RateLimiter::keyed(Quota::per_second(rate)),
            clock: DefaultClock::default(),
            room: Semaphore::new(AT_ONCE_MAX),
            seen: Mutex::default(),
        }
    }

    /// Lets a delivery in, unless there are too many.
    pub fn admit(&self, via: Option<&Via>) -> Result<SemaphorePermit<'_>, Refusal> {
        if self.limits.len() > LIMITS_MAX {
            self.limits.retain_recent();
        }
        let key = match via.map(|it| &it.peer) {
            Some(Peer::Tcp(address)) => address.ip().to_string(),
            Some(Peer::Unix { uid, .. }) => uid.to_string(),
            None => String::new(),
        };
        if let Err(until) = self.limits.check_key(&key) {
            let wait = until.wait_time_from(self.clock.now()).as_secs() + 1;
            let message = "too many deliveries; see Retry-After, or webhooks.requests_per_second";
            return Err(Refusal::new(ErrorCode::RateLimited, message).after(wait));
        }
        self.room.try_acquire().map_err(|_| {
            let message = format!("{AT_ONCE_MAX} deliveries are under way already");
            Refusal::new(ErrorCode::Unavailable, message).after(1)
        })
    }

    /// Remembers a delivery; false where it came before.
    pub fn is_new(&self, forge: Forge, id: &str) -> bool {
        let name = format!("{} {id}", forge.word());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { ids, order } = &mut *seen;
        if !ids.insert(name.clone()) {
            return false;
        }
        order.push_back(name);
        if order.len() > SEEN_MAX
            && let Some(oldest) = order.pop_front()
        {
            ids.remove(&oldest);
        }
        true
    }
}

/// What a forge tells of a push, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Told {
    #[serde(default, rename = "ref")]
    pub reference: Option<String>,
    #[serde(default)]
    repository: Option<Named>,
    #[serde(default)]
    project: Option<Named>,
}

/// What a forge calls a repository.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    full_name: Option<String>,
    path_with_namespace: Option<String>,
    clone_url: Option<String>,
    ssh_url: Option<String>,
    git_url: Option<String>,
    html_url: Option<String>,
    web_url: Option<String>,
    git_http_url: Option<String>,
    git_ssh_url: Option<String>,
}

impl Told {
    /// Says whether it is about the repository that a remote's URL names.
    pub fn is_of(&self, remote: &str) -> bool {
        let (host, path) = place(remote);
        [&self.repository, &self.project].into_iter().flatten().any(|it| {
            let urls = [
                &it.clone_url,
                &it.ssh_url,
                &it.git_url,
                &it.html_url,
                &it.web_url,
                &it.git_http_url,
                &it.git_ssh_url,
            ];
            let names = [&it.full_name, &it.path_with_namespace];
            // A host may have another name here (in ssh's configuration, say); who signed knows the
            // secret, so the name in the forge is enough.
            urls.into_iter().flatten().any(|it| place(it) == (host.clone(), path.clone()))
                || names.into_iter().flatten().any(|it| !it.is_empty() && it.to_lowercase() == path)
        })
    }

    /// A branch's name, where it is about one.
    pub fn branch(&self) -> Option<&str> {
        self.reference.as_deref()?.strip_prefix("refs/heads/")
    }
}

/// Host and path of a URL, alike for all ways to write one repository: no user, no port, no `.git`.
fn place(url: &str) -> (String, String) {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match url.split_once("://") {
        Some((_, rest)) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        // `host:path`, if no slash comes before the colon.
        None => match url.split_once(':').filter(|(host, _)| !host.contains('/')) {
            Some((host, path)) => (host, path),
            None => ("", url),
        },
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => host,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    (host.to_lowercase(), path.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn a_right_signature_is_believed_and_nothing_else() {
        // The example of GitHub's documentation.
        let (secret, body) = (b"It's a Secret to Everybody".to_vec(), b"Hello, World!");
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let right = headers("x-hub-signature-256", &format!("sha256={hex}"));
        let secrets = [b"another secret".to_vec(), secret.clone()];
        assert!(Forge::Github.vouches(&right, body, &secrets));
        assert!(!Forge::Github.vouches(&right, b"Hello, World?", &secrets));
        assert!(!Forge::Github.vouches(&right, body, &secrets[..1]));
        assert!(!Forge::Github.vouches(&right, body, &[]));
        assert!(!Forge::Github.vouches(&HeaderMap::new(), body, &secrets));
        for wrong in [hex, "sha256=", &format!("sha1={hex}"), &format!("sha256={}", &hex[1..])] {
            let wrong = headers("x-hub-signature-256", wrong);
            assert!(!Forge::Github.vouches(&wrong, body, &secrets), "{wrong:?}");
        }
        let right = headers("x-gitea-signature", hex);
        assert!(Forge::Gitea.vouches(&right, body, &secrets));
        assert!(!Forge::Gitea.vouches(&headers("x-gitea-signature", ""), body, &secrets));
        let right = headers("x-gitlab-token", "It's a Secret to Everybody");
        assert!(Forge::Gitlab.vouches(&right, b"anything", &secrets));
        assert!(!Forge::Gitlab.vouches(&headers("x-gitlab-token", "It's"), b"", &secrets));
        assert!(!Forge::Gitlab.vouches(&headers("x-gitlab-token", ""), b"", &[]));
    }

    #[test]
    fn one_repository_is_known_by_all_its_urls() {
        let of = |url: &str| place(url);
        let one = ("github.com".to_owned(), "codertocat/hello-world".to_owned());
        for url in [
            "https://github.com/Codertocat/Hello-World.git",
            "https://token@GitHub.com:443/Codertocat/Hello-World/",
            "git@github.com:Codertocat/Hello-World.git",
            "ssh://git@github.com:22/Codertocat/Hello-World",
            "git://github.com/Codertocat/Hello-World.git?x#y",
        ] {
            assert_eq!(of(url), one, "{url}");
        }
        assert_eq!(of("/srv/git/a.git"), (String::new(), "srv/git/a".to_owned()));
        assert_eq!(of("file:///srv/git/a.git"), (String::new(), "srv/git/a".to_owned()));
        let told: Told = serde_json::from_str(
            r#"{"ref": "refs/heads/main", "repository": {"full_name": "a/b", "id": 1,
                "clone_url": "https://forge.example/a/b.git", "ssh_url": null}}"#,
        )
        .unwrap();
        assert_eq!(told.branch(), Some("main"));
        assert!(told.is_of("git@forge.example:a/b.git") && told.is_of("work-alias:a/b"));
        assert!(!told.is_of("https://forge.example/a/bb.git") && !told.is_of("/srv/x/a/b.git"));
        let nameless: Told = serde_json::from_str(r#"{"repository": {"full_name": ""}}"#).unwrap();
        assert!(!nameless.is_of(""), "what has no name is nothing");
    }

    #[test]
    fn a_delivery_is_new_once_and_the_memory_stays_small() {
        let hooks = Hooks::new(&HookSettings::default());
        assert!(hooks.is_new(Forge::Github, "1") && !hooks.is_new(Forge::Github, "1"));
        assert!(hooks.is_new(Forge::Gitea, "1"), "each forge counts for itself");
        for n in 0..SEEN_MAX {
            hooks.is_new(Forge::Gitlab, &n.to_string());
        }
        let seen = hooks.seen.lock().unwrap();
        assert_eq!((seen.ids.len(), seen.order.len()), (SEEN_MAX, SEEN_MAX));
    }

    #[test]
    fn a_file_without_a_secret_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let (empty, good) = (dir.path().join("empty"), dir.path().join("good"));
        std::fs::File::create(&empty).unwrap();
        std::io::Write::write_all(&mut std::fs::File::create(&good).unwrap(), b" secret-1\n")
            .unwrap();
        assert_eq!(secrets(std::slice::from_ref(&good)).unwrap(), [b"secret-1".to_vec()]);
        assert!(secrets(&[good, empty]).is_err());
        assert!(secrets(&[dir.path().join("none")]).is_err());
    }
}
