//! Two kinds of path: one that may be created, and one that was merely found.
//!
//! A [`RepoPath`] is built from an allow-list, so a hostile name in a document or a drop can never
//! become a path outside the fabric, a `.git` look-alike or an option of some command.
//! A [`RawPath`] is whatever a person managed to create below `raw/`: any bytes at all.

use bstr::{BString, ByteSlice};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest file name that common file systems take, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// The longest path we make, in bytes; Linux' own limit for one call is 4096.
pub const PATH_BYTES_MAX: usize = 3072;

/// A path relative to the top of the repository that is safe to create.
///
/// Components are letters, digits and `. _ - + @` or a space within; none begins with a dot, a dash
/// or a space, none ends in a dot or a space. The empty path is the top of the repository itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoPath(String);

/// Why a text is no [`RepoPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` cannot be a path in the repository: {why}")]
pub struct PathError {
    path: String,
    why: &'static str,
}

impl RepoPath {
    /// The top of the repository.
    pub fn top() -> RepoPath {
        RepoPath(String::new())
    }

    /// Checks `text`, which uses `/` between components. `.` and the empty text are the top.
    pub fn parse(text: &str) -> Result<RepoPath, PathError> {
        let text = text.strip_prefix("./").unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() || text == "." {
            return Ok(RepoPath::top());
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::new(text, "it is too long"));
        }
        for component in text.split('/') {
            check_component(component).map_err(|why| PathError::new(text, why))?;
        }
        Ok(RepoPath(text.to_owned()))
    }

    /// Appends one or more components.
    pub fn join(&self, tail: &str) -> Result<RepoPath, PathError> {
        if self.is_top() {
            return RepoPath::parse(tail);
        }
        RepoPath::parse(&format!("{}/{tail}", self.0))
    }

    /// Appends a component written in our own code.
    ///
    /// # Panics
    /// If `tail` breaks the grammar, which a test of the caller would show.
    pub fn join_fixed(&self, tail: &'static str) -> RepoPath {
        self.join(tail).expect("a component in our own source keeps the grammar")
    }

    /// Appends `suffix` to the last component.
    pub fn with_suffix(&self, suffix: &str) -> Result<RepoPath, PathError> {
        RepoPath::parse(&format!("{}{suffix}", self.0))
    }

    /// Says whether this is the top of the repository.
    pub fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// The path as text, without a leading or trailing slash; empty for the top.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for calls to the system, relative to the work tree.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path without its last component; the top has none.
    pub fn parent(&self) -> Option<RepoPath> {
        if self.is_top() {
            return None;
        }
        Some(match self.0.rsplit_once('/') {
            Some((parent, _)) => RepoPath(parent.to_owned()),
            None => RepoPath::top(),
        })
    }

    /// Says whether `self` is `other` or lies below it, compared by component:
    /// `fabric-10` does not lie below `fabric-1`.
    pub fn is_within(&self, other: &RepoPath) -> bool {
        other.is_top()
            || self
                .0
                .strip_prefix(&other.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl PathError {
    fn new(path: &str, why: &'static str) -> PathError {
        let path = escape(path.as_bytes()).chars().take(200).collect();
        PathError { path, why }
    }
}

fn check_component(component: &str) -> Result<(), &'static str> {
    if component.is_empty() {
        return Err("it has an empty component");
    }
    if component.len() > COMPONENT_BYTES_MAX {
        return Err("a component is longer than 255 bytes");
    }
    if component.starts_with(['.', '-', ' ']) {
        return Err("a component begins with a dot, a dash or a space");
    }
    if component.ends_with(['.', ' ']) {
        return Err("a component ends in a dot or a space");
    }
    let allowed = |c: char| c.is_alphanumeric() || "._-+@ ".contains(c);
    if !component.chars().all(allowed) {
        return Err("only letters, digits and the signs . _ - + @ are allowed");
    }
    Ok(())
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_top() { "." } else { &self.0 })
    }
}

impl TryFrom<String> for RepoPath {
    type Error = PathError;
    fn try_from(text: String) -> Result<RepoPath, PathError> {
        RepoPath::parse(&text)
    }
}

impl From<RepoPath> for String {
    fn from(path: RepoPath) -> String {
        path.0
    }
}

/// Where a drop lies, relative to its `raw/`: any bytes that Unix allows, `/` between components.
///
/// As text (for people, JSON and commit messages) it is escaped and can be read back exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct RawPath(BString);

impl std::borrow::Borrow<[u8]> for RawPath {
    /// Equal, ordered and hashed as the bytes are.
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl RawPath {
    /// Takes the bytes of a relative path as the system gave them.
    pub fn new(bytes: impl Into<Vec<u8>>) -> RawPath {
        RawPath(BString::from(bytes.into()))
    }

    /// Reads the escaped form back.
    pub fn unescape(text: &str) -> RawPath {
        RawPath(BString::from(unescape(text)))
    }

    /// The bytes as the system knows them.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The path for calls to the system, relative to `raw/`.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The last component.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or(&self.0)
    }

    /// The path as bytes relative to the top of the repository, `raw` being the fabric's `raw/`.
    pub fn in_repository(&self, raw: &RepoPath) -> BString {
        let mut path = BString::from(raw.as_str());
        path.push(b'/');
        path.extend_from_slice(&self.0);
        path
    }

    /// A name made of this path's letters that is safe to create: one component of ASCII letters,
    /// digits and `. _ -`, at most 120 bytes, never hidden. Two paths may share it.
    pub fn safe_name(&self) -> String {
        let mut name: String = self
            .file_name()
            .iter()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => *b as char,
                _ => '_',
            })
            .collect();
        if name.len() > 120 {
            // The end keeps the extension, which is what a reader looks for.
            name = name.split_off(name.len() - 120);
        }
        let trimmed = name.trim_start_matches(['.', '-']).trim_end_matches('.');
        if trimmed.is_empty() { "unnamed".to_owned() } else { trimmed.to_owned() }
    }
}

impl fmt::Display for RawPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl From<String> for RawPath {
    fn from(text: String) -> RawPath {
        RawPath::unescape(&text)
    }
}

impl From<RawPath> for String {
    fn from(path: RawPath) -> String {
        escape(&path.0)
    }
}

/// Makes bytes printable on one line: control characters, bidirectional marks, invalid UTF-8 and
/// backslashes become `\xNN` (a byte) or `\\`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() || is_invisible(c) => {
                    let mut utf8 = [0; 4];
                    for b in c.encode_utf8(&mut utf8).bytes() {
                        text.push_str(&format!("\\x{b:02x}"));
                    }
                }
                c => text.push(c),
            }
        }
        for b in chunk.invalid() {
            text.push_str(&format!("\\x{b:02x}"));
        }
    }
    text
}

/// Characters that would let one name pose as another on a screen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail
            .get(1..3)
            .filter(|_| *first == b'\\' && tail.first() == Some(&b'x'))
            .and_then(|it| std::str::from_utf8(it).ok())
            .and_then(|it| u8::from_str_radix(it, 16).ok());
        match (first, tail.first(), hex) {
            (b'\\', _, Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            (b'\\', Some(b'\\'), _) => {
                bytes.push(b'\\');
                rest = &tail[1..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_names_are_no_paths() {
        for text in [
            "../x",
            "a/../b",
            "/etc",
            "a//b",
            ".git",
            "a/.git/b",
            "-rf",
            "a\nb",
            "a\0b",
            "a\\b",
            "x.",
            ".git\u{200c}",
            "a\u{202e}b",
            " x",
            "git~1",
        ] {
            assert!(RepoPath::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_are_compared_by_component() {
        let path = |text| RepoPath::parse(text).unwrap();
        assert!(path("fabric-1/raw").is_within(&path("fabric-1")));
        assert!(path("fabric-1").is_within(&path("fabric-1")));
        assert!(!path("fabric-10").is_within(&path("fabric-1")));
        assert!(path("x").is_within(&RepoPath::top()));
    }

    #[test]
    fn a_safe_name_is_always_a_component() {
        for bytes in [&b"..\n.."[..], b"---", b"\xff\xfe", b"", b"ok.yaml", b"....", &[b'a'; 300]] {
            let name = RawPath::new(bytes).safe_name();
            assert!(RepoPath::parse(&name).is_ok_and(|it| !it.is_top()), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_raw_path_survives_its_text(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let path = RawPath::new(bytes);
            let text = path.to_string();
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(RawPath::unescape(&text), path);
        }

        #[test]
        fn a_repo_path_never_leaves(text in "\\PC{0,40}") {
            if let Ok(path) = RepoPath::parse(&text) {
                prop_assert!(path.as_path().components().all(|it| matches!(it, std::path::Component::Normal(_))));
            }
        }
    }
}
