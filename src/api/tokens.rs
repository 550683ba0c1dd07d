//! Tokens: who may come in by the network, and how far.
//!
//! A token is shown once, when it is made. What is kept is its digest: the secret has 256 random
//! bits, so nothing slower than SHA-256 is needed to keep it from being guessed. The file belongs to
//! the agent's user alone; a running agent notices a change before the next request.

use crate::clock;
use crate::model::digest::Sha256;
use crate::model::fabric::FabricName;
use crate::whole;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq as _;

/// What a token begins with, so that people and scanners know one when they see it.
const PREFIX: &str = "gi";
/// How many tokens there may be.
const TOKENS_MAX: usize = 1_000;
/// No real file of tokens is larger, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// A token's name is not longer.
const NAME_CHARS_MAX: usize = 64;
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// How far a token goes; each may do what the one before it may, and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look.
    Read,
    /// Change resources, drop files, decide conflicts.
    Write,
    /// Change fabrics and repositories, read the audit.
    Admin,
}

/// One token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Names it in the audit and on the command line.
    pub id: String,
    /// Whose it is; stands in the commits it makes.
    pub name: String,
    /// SHA-256 of the secret.
    hash: Sha256,
    /// How far it goes.
    pub scope: Scope,
    /// For these fabrics alone; none is all.
    pub fabrics: Option<Vec<FabricName>>,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When it ends; none is never.
    pub expires_at: Option<jiff::Timestamp>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    tokens: Vec<Token>,
}

/// The file of an agent's tokens.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    read: Mutex<(Option<Mark>, Arc<Vec<Token>>)>,
}

/// What changes when the file does: it is always another file.
type Mark = (u64, i64, i64, u64);

impl TokenFile {
    /// The file in an agent's directory.
    pub fn of(dir: &Path) -> TokenFile {
        TokenFile { path: dir.join("tokens.json"), read: Mutex::default() }
    }

    /// All tokens, as the file has them now.
    pub fn all(&self) -> io::Result<Arc<Vec<Token>>> {
        let found = match std::fs::symlink_metadata(&self.path) {
            Ok(it) => Some((it.ino(), it.mtime(), it.mtime_nsec(), it.len())),
            Err(it) if it.kind() == io::ErrorKind::NotFound => None,
            Err(it) => return Err(it),
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0 != found {
            let tokens = match found {
                Some(_) => self.load()?,
                None => Vec::new(),
            };
            *read = (found, Arc::new(tokens));
        }
        Ok(read.1.clone())
    }

    /// All tokens, as they were at the last look.
    pub fn held(&self) -> Arc<Vec<Token>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Knows no token until the next look.
    pub fn forget(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }

    /// The token that `text` is, if it is known and not over.
    pub fn find(&self, text: &str) -> io::Result<Option<Token>> {
        let all = self.all()?;
        let mut parts = text.splitn(3, '_');
        let (Some(PREFIX), Some(id), Some(secret)) = (parts.next(), parts.next(), parts.next())
        else {
            return Ok(None);
        };
        let hash = Sha256::of(secret.as_bytes());
        // All of them are compared, and each as a whole: time tells nothing.
        let mut found = None;
        for it in all.iter() {
            let same =
                it.hash.as_bytes().ct_eq(hash.as_bytes()) & it.id.as_bytes().ct_eq(id.as_bytes());
            if bool::from(same) {
                found = Some(it);
            }
        }
        let now = clock::now();
        Ok(found.filter(|it| it.expires_at.is_none_or(|end| now < end)).cloned())
    }

    /// Makes a token; the text is shown once and kept nowhere.
    pub fn add(
        &self,
        name: &str,
        scope: Scope,
        fabrics: Option<Vec<FabricName>>,
        expires_at: Option<jiff::Timestamp>,
    ) -> io::Result<(Token, String)> {
        check_name(name)?;
        let mut id = [0; 4];
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let (id, secret) = (hex(&id), hex(&secret));
        let token = Token {
            id: id.clone(),
            name: name.to_owned(),
            hash: Sha256::of(secret.as_bytes()),
            scope,
            fabrics,
            created_at: clock::now(),
            expires_at,
        };
        self.change(|tokens| {
            if tokens.len() >= TOKENS_MAX {
                return Err(io::Error::other(format!("there are {TOKENS_MAX} tokens already")));
            }
            if tokens.iter().any(|it| it.name == name || it.id == id) {
                let message = format!("there is a token `{name}` already; revoke it first");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            tokens.push(token.clone());
            Ok(())
        })?;
        Ok((token, format!("{PREFIX}_{id}_{secret}")))
    }

    /// Ends a token, by its id or its name; says whether there was one.
    pub fn revoke(&self, name: &str) -> io::Result<bool> {
        let mut gone = false;
        self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|it| it.id != name && it.name != name);
            gone = tokens.len() < before;
            Ok(())
        })?;
        Ok(gone)
    }

    fn load(&self) -> io::Result<Vec<Token>> {
        let file = std::fs::File::open(&self.path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            let path = self.path.display();
            return Err(io::Error::other(format!(
                "{path} can be read by others; make it the agent's alone: chmod 600 {path}"
            )));
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        let kept: Kept = serde_json::from_str(&text)?;
        Ok(kept.tokens)
    }

    /// Changes the file, whole or not at all, one process at a time.
    fn change(&self, change: impl FnOnce(&mut Vec<Token>) -> io::Result<()>) -> io::Result<()> {
        let lock = self.path.with_extension("lock");
        let lock = std::fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(lock)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        let mut tokens = match self.load() {
            Ok(it) => it,
            Err(it) if it.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(it) => return Err(it),
        };
        change(&mut tokens)?;
        let text = serde_json::to_vec_pretty(&Kept { tokens })?;
        whole::replace(&self.path, |it| it.write_all(&text)).map(drop)
    }
}

/// A name becomes part of commits, so it is a line of plain text.
fn check_name(name: &str) -> io::Result<()> {
    let fits = !name.trim().is_empty()
        && name.chars().count() <= NAME_CHARS_MAX
        && !name.chars().any(char::is_control);
    match fits {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "`{}` cannot name a token: write a line of at most {NAME_CHARS_MAX} characters",
                name.escape_debug()
            ),
        )),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_until_it_is_revoked_or_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::of(dir.path());
        assert!(file.all().unwrap().is_empty());
        let (token, text) = file.add("robot", Scope::Write, None, None).unwrap();
        assert_eq!(file.find(&text).unwrap().unwrap(), token);
        let kept = std::fs::read_to_string(dir.path().join("tokens.json")).unwrap();
        let secret = text.rsplit('_').next().unwrap();
        assert!(!kept.contains(secret), "the secret is kept");
        for wrong in
            ["", "gi", "gi__", "gi_00000000_00", &text[..text.len() - 1], &format!("{text}0")]
        {
            assert!(file.find(wrong).unwrap().is_none(), "{wrong}");
        }
        assert!(file.add("robot", Scope::Read, None, None).is_err(), "a name is taken once");
        let over = clock::now() - jiff::SignedDuration::from_secs(1);
        let (_, late) = file.add("late", Scope::Read, None, Some(over)).unwrap();
        assert!(file.find(&late).unwrap().is_none());
        assert!(file.revoke("robot").unwrap() && !file.revoke("robot").unwrap());
        assert!(file.find(&text).unwrap().is_none());
    }

    #[test]
    fn a_file_that_others_can_read_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::of(dir.path());
        file.add("robot", Scope::Read, None, None).unwrap();
        let path = dir.path().join("tokens.json");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(TokenFile::of(dir.path()).all().is_err());
        assert!(file.add("other", Scope::Read, None, None).is_err());
    }

    #[test]
    fn a_name_is_one_plain_line() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", " ", "a\nIntake-Actor: root", &"n".repeat(65)] {
            assert!(TokenFile::of(dir.path()).add(name, Scope::Read, None, None).is_err());
        }
    }
}
