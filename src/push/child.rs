//! The other end of a stream: receive-pack as a child of ours, behind ssh, or a git daemon.
//!
//! Nothing from a URL reaches a shell of ours or is taken for an option: the path goes quoted to
//! the *remote* shell, as git does it, and a host or user that begins with a dash is refused.
//! The child is waited for, never killed while it still may run hooks; its stderr is kept, and
//! read for what only ssh knows: that the host key is not the one expected.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read},
    net::{TcpStream, ToSocketAddrs},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    url::{ArgumentSafety, Scheme},
};

use super::{
    error::Error,
    pulse::{Paced, Pulse},
};

/// An open conversation.
pub(crate) struct Stream {
    pub(crate) reader: Paced,
    pub(crate) writer: Paced,
    pub(crate) child: Option<Running>,
}

/// What a stream needs to know to be opened.
pub(crate) struct Settings<'a> {
    pub(crate) url: &'a gix::Url,
    pub(crate) shown: &'a str,
    pub(crate) pulse: &'a Arc<Pulse>,
    pub(crate) connect: Duration,
    pub(crate) receive_pack: &'a BStr,
    pub(crate) ssh: &'a Ssh,
}

/// How to call ssh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ssh {
    /// A program with arguments, to be split by a shell; else `program`.
    pub(crate) command: Option<BString>,
    /// A program without arguments.
    pub(crate) program: Option<BString>,
    pub(crate) variant: Option<BString>,
}

/// Which dialect of options an ssh program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    OpenSsh,
    Plink,
    TortoisePlink,
    Simple,
}

/// Opens the conversation: the remote will speak first.
pub(crate) fn open(settings: &Settings<'_>) -> Result<Stream, Error> {
    match settings.url.scheme {
        Scheme::File => spawn(local(settings)?, settings),
        Scheme::Ssh => spawn(ssh(settings)?, settings),
        Scheme::Git => daemon(settings),
        _ => Err(Error::Transport { scheme: settings.url.scheme.to_string() }),
    }
}

/// Variables that say which repository *we* work in: the other side must not see them.
const REPOSITORY_VARIABLES: [&str; 15] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

fn local(settings: &Settings<'_>) -> Result<Command, Error> {
    if settings.url.path.contains(&0) {
        return Err(Error::Unsafe { url: settings.shown.into(), part: "path" });
    }
    let path = std::path::PathBuf::from(os(settings.url.path.as_bstr()));
    // A relative path with a dash would be an option.
    let path = if path.is_absolute() { path } else { std::path::Path::new(".").join(path) };
    let mut command = program(settings.receive_pack);
    command.arg(path);
    Ok(command)
}

/// A configured program: by itself if it is one word, else through a shell, as git does.
fn program(text: &BStr) -> Command {
    let shelled = text.find_byteset(b"|&;<>()$`\\\"' \t\n*?[#~=%").is_some();
    let text = os(text);
    if !shelled {
        return Command::new(text);
    }
    let mut script = text.clone();
    script.push(" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(text);
    command
}

fn os(text: &BStr) -> OsString {
    OsStr::from_bytes(text).to_owned()
}

fn ssh(settings: &Settings<'_>) -> Result<Command, Error> {
    let unsafe_part = |part| Error::Unsafe { url: settings.shown.into(), part };
    let ArgumentSafety::Usable(host) = settings.url.host_as_argument() else {
        return Err(unsafe_part("host"));
    };
    let target = match settings.url.user_as_argument() {
        ArgumentSafety::Usable(user) => format!("{user}@{host}"),
        ArgumentSafety::Absent => host.to_owned(),
        ArgumentSafety::Dangerous(_) => return Err(unsafe_part("user")),
    };
    let path = settings.url.path.as_bstr();
    if path.starts_with(b"-") {
        return Err(unsafe_part("path"));
    }
    let own = &settings.ssh;
    let (line, start): (&BStr, fn(&BStr) -> Command) = match (&own.command, &own.program) {
        (Some(line), _) => (line.as_bstr(), program),
        (None, Some(path)) => (path.as_bstr(), |it| Command::new(os(it))),
        (None, None) => ("ssh".into(), |it| Command::new(os(it))),
    };
    let (mut command, variant) = (start(line), own.variant_of(line, start(line), &target));
    match variant {
        Variant::OpenSsh => {
            let seconds = settings.connect.as_secs().max(1);
            command.args(["-o", "BatchMode=yes"]);
            command.arg("-o").arg(format!("ConnectTimeout={seconds}"));
        }
        Variant::TortoisePlink | Variant::Plink => {
            command.arg("-batch");
        }
        Variant::Simple => {}
    }
    match (settings.url.port, variant) {
        (None, _) => {}
        (Some(port), Variant::OpenSsh) => {
            command.arg("-p").arg(port.to_string());
        }
        (Some(port), Variant::Plink | Variant::TortoisePlink) => {
            command.arg("-P").arg(port.to_string());
        }
        (Some(_), Variant::Simple) => return Err(unsafe_part("port (for a simple ssh)")),
    }
    let mut remote = BString::from(settings.receive_pack);
    remote.push(b' ');
    remote.extend_from_slice(&gix::quote::single(path));
    command.arg(target);
    command.arg(os(remote.as_bstr()));
    Ok(command)
}

impl Ssh {
    /// The dialect of the program: as the settings say, else by its name, else by whether it knows
    /// OpenSSH's `-G`, which prints what it would do and connects to nothing. As git does it.
    fn variant_of(&self, line: &BStr, mut probe: Command, target: &str) -> Variant {
        let named = self.variant.as_ref().filter(|it| it.as_slice() != b"auto");
        if let Some(name) = named {
            return known_variant(name).unwrap_or(Variant::OpenSsh);
        }
        let word = line.split_str(" ").find(|it| !it.is_empty() && !it.contains(&b'='));
        let word = word.unwrap_or_default().rsplit_str("/").next().unwrap_or_default();
        let name = word.trim_with(|c| c == '"' || c == '\'').to_ascii_lowercase();
        known_variant(&name).unwrap_or_else(|| {
            probe.arg("-G").arg(target);
            probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let knows = probe.status().is_ok_and(|it| it.success());
            if knows { Variant::OpenSsh } else { Variant::Simple }
        })
    }
}

fn known_variant(name: &[u8]) -> Option<Variant> {
    match name.strip_suffix(b".exe").unwrap_or(name) {
        b"ssh" => Some(Variant::OpenSsh),
        b"plink" | b"putty" => Some(Variant::Plink),
        b"tortoiseplink" => Some(Variant::TortoisePlink),
        b"simple" => Some(Variant::Simple),
        _ => None,
    }
}

fn spawn(mut command: Command, settings: &Settings<'_>) -> Result<Stream, Error> {
    for variable in REPOSITORY_VARIABLES {
        command.env_remove(variable);
    }
    // Version 0 is the only one receive-pack speaks; ssh's messages are recognised in English.
    command.env_remove("GIT_PROTOCOL").env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that an abandoned `sh -c "ssh ..."` ends with its children.
    command.process_group(0);
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |source| Error::Spawn { program: name.clone(), source };
    let mut child = command.spawn().map_err(failed)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let stderr = child.stderr.take().expect("it is piped");
    let mut child = Running { child, stderr: Stderr::follow(stderr), over: false, failed: false };
    let ends = || -> io::Result<_> {
        let reader = Paced::new(stdout.expect("it is piped").into(), settings.pulse.clone())?;
        let writer = Paced::new(stdin.expect("it is piped").into(), settings.pulse.clone())?;
        Ok((reader, writer))
    };
    match ends() {
        Ok((reader, writer)) => Ok(Stream { reader, writer, child: Some(child) }),
        Err(source) => {
            child.kill();
            Err(failed(source))
        }
    }
}

fn daemon(settings: &Settings<'_>) -> Result<Stream, Error> {
    let url = settings.url;
    let unsafe_part = |part| Error::Unsafe { url: settings.shown.into(), part };
    let host = url.host().ok_or_else(|| unsafe_part("host"))?;
    let path = url.path.as_bstr();
    if path.find_byteset(b"\0\n").is_some() || path.len() > 4096 {
        return Err(unsafe_part("path"));
    }
    let port = url.port.unwrap_or(9418);
    let failed =
        |source: io::Error| Error::Connect { url: settings.shown.into(), source: source.into() };
    let socket = dial(host, port, settings.connect).map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    let writer = OwnedFd::from(socket.try_clone().map_err(failed)?);
    let mut writer = Paced::new(writer, settings.pulse.clone()).map_err(failed)?;
    let reader = Paced::new(socket.into(), settings.pulse.clone()).map_err(failed)?;
    let mut request = b"git-receive-pack ".to_vec();
    if path.starts_with(b"~") {
        request.push(b'/');
    }
    request.extend_from_slice(path);
    request.extend_from_slice(b"\0host=");
    request.extend_from_slice(host.as_bytes());
    if let Some(port) = url.port {
        request.extend_from_slice(format!(":{port}").as_bytes());
    }
    request.push(0);
    let mut framed = Vec::new();
    super::line::put(&mut framed, &request);
    io::Write::write_all(&mut writer, &framed)
        .map_err(|err| Error::wire(settings.shown, "asking for the repository", err))?;
    Ok(Stream { reader, writer, child: None })
}

fn dial(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(socket) => return Ok(socket),
            Err(err) => last = err,
        }
    }
    Err(last)
}

/// A child that is waited for.
pub(crate) struct Running {
    child: Child,
    stderr: Stderr,
    over: bool,
    failed: bool,
}

/// How long to wait for the last words of a child that has ended: something it left behind in the
/// background (ssh's connection sharing) may hold its stderr open for hours.
const LAST_WORDS: Duration = Duration::from_millis(300);

impl Running {
    /// Waits for the child and gives what it printed. Our ends of its pipes must be closed.
    pub(crate) fn finish(&mut self, pulse: &Pulse) -> BString {
        let pid = rustix::process::Pid::from_child(&self.child);
        let flags = rustix::process::PidfdFlags::empty();
        // Readable as soon as the child has ended.
        let ended = rustix::process::pidfd_open(pid, flags).ok();
        while !self.over {
            match (self.child.try_wait(), pulse.check()) {
                (Ok(Some(status)), _) => (self.over, self.failed) = (true, !status.success()),
                (Err(_), _) => self.over = true,
                (Ok(None), Ok(slice)) => match &ended {
                    Some(ended) => super::pulse::readable(ended, slice),
                    // An old kernel: ask again and again.
                    None => std::thread::sleep(Duration::from_millis(5)),
                },
                (Ok(None), Err(_)) => self.kill(),
            }
        }
        self.stderr.text()
    }

    /// Whether it ended by itself, and with a failure.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    fn kill(&mut self) {
        if !self.over {
            let group = rustix::process::Pid::from_child(&self.child);
            // It may be gone already, which is as good.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = self.child.wait();
            self.over = true;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The most that is kept of a child's stderr.
const STDERR_BYTES_MAX: usize = 64 * 1024;

struct Stderr {
    chunks: mpsc::Receiver<Vec<u8>>,
}

impl Stderr {
    fn follow(mut pipe: impl Read + Send + 'static) -> Self {
        let (tx, chunks) = mpsc::sync_channel(STDERR_BYTES_MAX / 1024);
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                // When the channel is full the rest is read and forgotten, or the child would hang.
                let _ = tx.try_send(buffer[..n].to_vec());
            }
        });
        Stderr { chunks }
    }

    fn text(&mut self) -> BString {
        let mut out = BString::default();
        while let Ok(chunk) = self.chunks.recv_timeout(LAST_WORDS) {
            out.extend_from_slice(&chunk);
        }
        out
    }
}

/// Reads ssh's and git's last words for a cause that deserves its own name.
pub(crate) fn explain(url: &str, stderr: &BStr, otherwise: Error) -> Error {
    let has = |words: &[&str]| words.iter().any(|it| stderr.contains_str(it));
    let detail = || {
        let lines = stderr.lines().filter(|it| !it.trim().is_empty());
        let last: Vec<_> = lines.map(|it| it.trim().to_str_lossy()).collect();
        last[last.len().saturating_sub(4)..].join("; ")
    };
    let url = url.to_owned();
    if has(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        Error::HostKey { url, detail: detail() }
    } else if has(&["Permission denied (", "Too many authentication failures"]) {
        Error::Login { url, detail: detail() }
    } else if has(&["ssh: connect to host", "Could not resolve hostname", "Connection timed out"]) {
        Error::Connect { url, source: detail().into() }
    } else if has(&["does not appear to be a git repository", "not a git repository"]) {
        Error::NotFound { url, detail: detail() }
    } else if let (Error::Broken { doing, source, .. }, false) =
        (&otherwise, stderr.trim().is_empty())
    {
        let source = io::Error::new(source.kind(), source.to_string());
        Error::Broken { url, doing, detail: detail(), source }
    } else {
        otherwise
    }
}
