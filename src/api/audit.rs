//! Who changed what, from where, and what came of it: one line a write, only ever added to.
//!
//! No route writes to it but by writing elsewhere, and none changes or removes a line. A file that has
//! grown large is put beside, and the oldest of those goes.

use super::auth::Caller;
use crate::clock;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use utoipa::ToSchema;

/// A file that is larger is put beside, in bytes.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// So many files are kept beside the one that is written.
const FILES_KEPT_MAX: u32 = 4;
/// How far back a look goes, in bytes.
const LOOK_BYTES_MAX: u64 = 4 << 20;

/// One write through the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When it was answered.
    #[schema(format = DateTime)]
    pub time: String,
    /// Names the request in the log.
    pub request_id: String,
    /// Who: the token's name, or the user's.
    pub actor: String,
    /// The token's id; none is a user of the host.
    pub token: Option<String>,
    /// From where.
    pub from: String,
    /// What was asked.
    pub method: String,
    /// Of what.
    pub path: String,
    /// What came of it.
    pub status: u16,
    /// The operation that it became.
    pub operation_id: Option<String>,
    /// The commit that it became.
    pub commit_id: Option<String>,
}

/// What a handler tells of a write, for its line.
#[derive(Debug, Clone, Default)]
pub(super) struct Became {
    pub operation_id: Option<String>,
    pub commit_id: Option<String>,
}

/// The audit of one agent.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: Mutex<File>,
}

impl Audit {
    /// Opens it in an agent's directory.
    pub fn open(dir: &Path) -> io::Result<Audit> {
        let path = dir.join("audit.jsonl");
        let file = Mutex::new(append_to(&path)?);
        Ok(Audit { path, file })
    }

    /// Adds a line.
    pub(super) fn add(
        &self,
        caller: &Caller,
        request_id: &str,
        asked: (&str, &str),
        status: u16,
        became: Became,
    ) {
        let entry = AuditEntry {
            time: clock::now().to_string(),
            request_id: request_id.to_owned(),
            actor: caller.actor.clone(),
            token: caller.token.clone(),
            from: caller.from.clone(),
            method: asked.0.to_owned(),
            path: asked.1.to_owned(),
            status,
            operation_id: became.operation_id,
            commit_id: became.commit_id,
        };
        if let Err(error) = self.write(&entry) {
            let entry = serde_json::to_string(&entry).unwrap_or_default();
            tracing::error!(%error, entry, "the audit cannot be written, so its line stands here");
        }
    }

    fn write(&self, entry: &AuditEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.metadata()?.len() > FILE_BYTES_MAX {
            *file = self.begin_anew()?;
        }
        // One write, so that lines never mix.
        file.write_all(&line)
    }

    #[expect(clippy::disallowed_methods, reason = "the audit is no file of the work tree")]
    fn begin_anew(&self) -> io::Result<File> {
        let beside = |n: u32| self.path.with_extension(format!("{n}.jsonl"));
        for n in (1..FILES_KEPT_MAX).rev() {
            match std::fs::rename(beside(n), beside(n + 1)) {
                Err(it) if it.kind() != io::ErrorKind::NotFound => return Err(it),
                _ => (),
            }
        }
        std::fs::rename(&self.path, beside(1))?;
        append_to(&self.path)
    }

    /// The newest lines, the newest first; blocks while a disk is read.
    pub(super) fn newest(&self, limit: usize) -> io::Result<Vec<AuditEntry>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOOK_BYTES_MAX)))?;
        let mut text = Vec::new();
        file.take(LOOK_BYTES_MAX).read_to_end(&mut text)?;
        let lines = text.split(|it| *it == b'\n').rev();
        // The first line of a look may be torn.
        Ok(lines.filter_map(|it| serde_json::from_slice(it).ok()).take(limit).collect())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}
