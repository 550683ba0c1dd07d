//! What the remote says first: its references, and what it can do.
//!
//! Protocol version 0 or 1. A `.have` line names a tip of a repository that the remote borrows
//! objects from: no reference, but a boundary. `shallow` lines name commits whose parents the
//! remote lacks.

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
};

use gix::{
    ObjectId,
    bstr::{BString, ByteSlice},
};

use super::{
    error::Error,
    line::{Line, Lines},
};

/// The references and abilities of the remote.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// References by full name. `HEAD` may be among them.
    pub refs: BTreeMap<BString, ObjectId>,
    /// Tips that the remote has without a name of its own.
    pub haves: HashSet<ObjectId>,
    /// Commits whose parents the remote lacks.
    pub shallow: HashSet<ObjectId>,
    capabilities: Vec<BString>,
}

impl Advertisement {
    /// Whether the remote offers `capability`, with or without a value.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|it| {
            let it: &[u8] = it;
            it.strip_prefix(capability.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
        })
    }

    /// The value of `capability`, if the remote gives one.
    pub fn value(&self, capability: &str) -> Option<&[u8]> {
        self.capabilities.iter().find_map(|it| {
            it.strip_prefix(capability.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
        })
    }

    /// Everything the remote is known to have.
    pub fn tips(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.refs.values().chain(&self.haves).copied()
    }
}

/// Reads an advertisement to its flush line.
///
/// `smart_http` expects the `# service=` announcement that only HTTP servers send.
pub(crate) fn read<R: Read>(
    lines: &mut Lines<R>,
    url: &str,
    hash: gix::hash::Kind,
    smart_http: bool,
) -> Result<Advertisement, Error> {
    let mut out = Advertisement::default();
    let mut first = true;
    // Of an HTTP server: its announcement, and then a flush.
    let (mut service_named, mut announced) = (!smart_http, !smart_http);
    loop {
        let what = lines.what();
        let line =
            lines.next().map_err(|err| Error::wire(url, "reading its references", err))??;
        let line = match line {
            Line::Data(line) => line,
            Line::Flush if !announced && service_named => {
                announced = true;
                continue;
            }
            Line::Flush if !announced => {
                return Err(bad(what, "it does not offer git-receive-pack"));
            }
            Line::Flush => return Ok(out),
            Line::Marker => return Err(bad(what, "a marker of another protocol version")),
            Line::End if first => {
                let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(Error::wire(url, "reading its references", source));
            }
            Line::End => return Err(bad(what, "it ends without a flush")),
        };
        if let Some(message) = line.strip_prefix(b"ERR ") {
            let message = message.trim().to_str_lossy().into_owned();
            return Err(Error::Remote { url: url.into(), message });
        }
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if !announced {
            if text != b"# service=git-receive-pack" {
                return Err(bad(what, "it does not offer git-receive-pack"));
            }
            service_named = true;
            continue;
        }
        if first && text == b"version 1" {
            continue;
        }
        if first && text.starts_with(b"version ") {
            return Err(bad(what, "an unknown protocol version"));
        }
        out.take(text, first, hash, what)?;
        first = false;
    }
}

impl Advertisement {
    fn take(
        &mut self,
        line: &[u8],
        first: bool,
        hash: gix::hash::Kind,
        what: &'static str,
    ) -> Result<(), Error> {
        let (line, capabilities) = match line.split_once_str(b"\0") {
            Some((line, capabilities)) if first => (line, Some(capabilities)),
            Some((line, _)) => (line, None),
            None => (line, None),
        };
        if let Some(capabilities) = capabilities {
            self.capabilities = capabilities
                .split_str(b" ")
                .filter(|it| !it.is_empty())
                .map(BString::from)
                .collect();
            // Told apart before the ids, which would only look malformed.
            let theirs = self.value("object-format").unwrap_or(b"sha1");
            if theirs != hash.to_string().as_bytes() {
                let theirs = theirs.to_str_lossy().into_owned();
                return Err(Error::ObjectFormat { ours: hash.to_string(), theirs });
            }
        }
        let bad = || bad(what, &format!("bad line `{}`", line[..line.len().min(100)].as_bstr()));
        let (left, right) = line.split_once_str(" ").ok_or_else(bad)?;
        if left == b"shallow" {
            self.shallow.insert(id(right, hash).ok_or_else(bad)?);
            return Ok(());
        }
        let id = id(left, hash).ok_or_else(bad)?;
        if right == b".have" {
            self.haves.insert(id);
        } else if right != b"capabilities^{}" && !right.ends_with(b"^{}") && !id.is_null() {
            self.refs.insert(right.into(), id);
        }
        Ok(())
    }
}

fn id(hex: &[u8], hash: gix::hash::Kind) -> Option<ObjectId> {
    ObjectId::from_hex(hex).ok().filter(|it| it.kind() == hash)
}

fn bad(what: &'static str, detail: &str) -> Error {
    Error::Protocol { what, detail: detail.to_owned() }
}
