//! Definitions of more kinds, from the files of a directory.

use super::Error;
use crate::catalog::{Definition, read_definitions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// More files than this are no directory of definitions.
const FILES_MAX: usize = 2_000;
/// A larger file holds no definitions, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads every .yaml, .yml and .json file of a directory, in the order of their names.
pub fn read(dir: &Path) -> Result<Vec<Definition>, Error> {
    let failed = |path: &Path, source| Error::File { verb: "read", path: path.to_owned(), source };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|it| failed(dir, it))? {
        let path = entry.map_err(|it| failed(dir, it))?.path();
        let name = path.file_name().unwrap_or_default().as_bytes();
        let wanted = [".yaml", ".yml", ".json"].iter().any(|it| name.ends_with(it.as_bytes()));
        if wanted && !name.starts_with(b".") {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            let message = format!("there are more than {FILES_MAX} files of kinds in it");
            return Err(Error::Invalid { place: dir.display().to_string(), message });
        }
    }
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let invalid = |message| Error::Invalid { place: path.display().to_string(), message };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).map_err(|it| failed(&path, it))?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|it| failed(&path, it))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(invalid(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let text = crate::yaml::decode::decode(&bytes)
            .map_err(|it| failed(&path, io::Error::new(io::ErrorKind::InvalidData, it.message)))?;
        found.extend(read_definitions(&text).map_err(invalid)?);
    }
    Ok(found)
}
