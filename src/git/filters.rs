//! What lies in the work tree and what git keeps of it are not always the same bytes: line ends,
//! keywords, filters such as Git LFS (`gitattributes(5)`).
//!
//! Only for files of others. What is filed stays byte for byte as it was dropped.

use super::{Error, Repo};
use crate::model::ids::BlobId;
use bstr::{BStr, ByteSlice};
use gix::filter::plumbing::driver::apply::Delay;
use gix::filter::plumbing::pipeline::convert::ToGitOutcome;
use gix::filter::plumbing::pipeline::convert::to_worktree::Options;
use gix::worktree::IndexPersistedOrInMemory;
use std::io::Read;
use std::path::Path;

/// The conversions of a work tree, as its attributes and settings are now.
pub struct Filters<'a> {
    pipeline: gix::filter::Pipeline<'a>,
    index: IndexPersistedOrInMemory,
}

impl Repo {
    /// The conversions of the work tree.
    pub fn filters(&self) -> Result<Filters<'_>, Error> {
        let found = self.gix.filter_pipeline(None);
        let (pipeline, index) = found.map_err(|it| Error::git("read the attributes", it))?;
        Ok(Filters { pipeline, index })
    }
}

impl Filters<'_> {
    /// The blob that git would make of a file.
    pub fn blob_id_of(&mut self, repo: &Repo, path: &BStr, bytes: &[u8]) -> Result<BlobId, Error> {
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| {
            Error::git(format!("convert {}", path.as_bstr()), it)
        };
        let place = Path::new(std::ffi::OsStr::new(path.to_str_lossy().as_ref())).to_owned();
        let converted = self.pipeline.convert_to_git(bytes, &place, &self.index);
        match converted.map_err(|it| failed(it.into()))? {
            ToGitOutcome::Unchanged(_) => repo.blob_id_of(bytes),
            ToGitOutcome::Buffer(bytes) => repo.blob_id_of(bytes),
            ToGitOutcome::Process(mut reader) => {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).map_err(|it| failed(it.into()))?;
                repo.blob_id_of(&bytes)
            }
        }
    }

    /// What lies in the work tree of a blob with these bytes.
    pub fn work_tree_of(&mut self, path: &BStr, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| {
            Error::git(format!("convert {}", path.as_bstr()), it)
        };
        // What comes later would have to be waited for elsewhere.
        let options = Options { can_delay: Delay::Forbid, ..Options::default() };
        let converted = self.pipeline.convert_to_worktree(bytes, path, options);
        let mut converted = converted.map_err(|it| failed(it.into()))?;
        let mut out = Vec::new();
        converted.read_to_end(&mut out).map_err(|it| failed(it.into()))?;
        Ok(out)
    }
}
