//! The repositories that an agent was given while it ran: remembered beside its tokens, as paths alone.
//!
//! What holds for one of them stands in its own settings, in its git directory.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// No real list is larger, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn file(dir: &Path) -> PathBuf {
    dir.join("repositories.json")
}

/// Their work trees, in the order they came; none where `dir` keeps no list.
pub fn adopted(dir: &Path) -> io::Result<Vec<PathBuf>> {
    use io::Read as _;
    let mut text = Vec::new();
    match std::fs::File::open(file(dir)) {
        Ok(it) => it.take(FILE_BYTES_MAX).read_to_end(&mut text)?,
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(it) => return Err(it),
    };
    Ok(serde_json::from_slice(&text)?)
}

/// Remembers these, whole or not at all.
pub fn adopt(dir: &Path, work_trees: &[PathBuf]) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(work_trees)?;
    crate::whole::replace(&file(dir), |it| it.write_all(&text)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_adopted_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        assert!(adopted(dir.path()).unwrap().is_empty());
        let all = [PathBuf::from("/srv/git/a"), PathBuf::from("/srv/git/b")];
        adopt(dir.path(), &all).unwrap();
        assert_eq!(adopted(dir.path()).unwrap(), all);
        let mut broken = std::fs::File::create(file(dir.path())).unwrap();
        broken.write_all(b"nonsense").unwrap();
        assert!(adopted(dir.path()).is_err());
    }
}
