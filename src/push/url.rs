//! What of a URL may be seen, and over what it may be reached.

use gix::{
    bstr::ByteSlice,
    url::{Scheme, Url},
};

use super::error::Error;

/// The transports that are spoken here. `ext::` and unknown helpers would run programs that the
/// URL names, so there is no way to ask for them.
pub(crate) fn allowed(url: &Url) -> Result<(), Error> {
    match url.scheme {
        Scheme::File | Scheme::Ssh | Scheme::Git | Scheme::Http | Scheme::Https => Ok(()),
        Scheme::Ext => Err(Error::Transport { scheme: "ext".into() }),
        ref other => Err(Error::Transport { scheme: other.to_string() }),
    }
}

/// The address without user, password, query and fragment: a token may stand in any of them.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_password(None);
    if matches!(url.scheme, Scheme::Http | Scheme::Https) {
        url.set_user(None);
        if let Some(end) = url.path.find_byteset(b"?#") {
            url.path.truncate(end);
        }
    }
    url.to_bstring().to_string()
}

/// The same for text that may not be a URL at all.
pub(crate) fn shown_text(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        for (url, seen) in [
            ("https://me:secret@example.com/a/b.git", "https://example.com/a/b.git"),
            ("https://token@example.com:8443/a?key=1#x", "https://example.com:8443/a"),
            ("ssh://git:pw@example.com/a", "ssh://git@example.com/a"),
            ("/srv/a", "/srv/a"),
        ] {
            assert_eq!(shown(&gix::url::parse(url).unwrap()), seen);
        }
        assert_eq!(shown_text("https://a:b@h/p?q"), "https://h/p");
    }

    #[test]
    fn helpers_are_not_called() {
        for url in ["ext::sh -c id", "foo::bar", "foo://bar/x", "ftp://h/x"] {
            let url = gix::url::parse(url).unwrap();
            assert!(matches!(allowed(&url), Err(Error::Transport { .. })), "{url:?}");
        }
    }
}
