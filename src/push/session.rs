//! One push, from the remote's first line to its last.
//!
//! ```text
//! open ─► advertisement ─► decide ─► walk ─► commands and pack ─► report
//!   │                        │          ▲          ▲ read at the same time: hooks and errors
//!   └─► guess ───────────────┼──────────┘          │ of the remote are heard as they come
//!                            └─► nothing to send
//! ```

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufWriter, Write},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use super::{
    Cause, Credentials, Expect, Observer, Options, Outcome, Progress, RefResult, RefStatus,
    RefUpdate, Rejection,
    advertisement::Advertisement,
    draft::Draft,
    error::Error,
    graph::Graph,
    guess::Guess,
    line,
    odb::Odb,
    pack::{self, PackCounts},
    pulse::Pulse,
    report::{self, Report},
    walk::{self, Objects},
    wire::Wire,
};
use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice},
    objs::Kind,
};

/// A remote that answers within this time leaves the processors to nobody else.
const ANSWER_SOON: Duration = Duration::from_millis(200);

/// Says what to move, once it is known what is there.
pub(crate) type Choose<'a> = dyn FnMut(&Advertisement) -> Result<Vec<RefUpdate>, Cause> + 'a;

pub(crate) fn push(
    repo: &gix::Repository,
    url: &gix::Url,
    likely: &[RefUpdate],
    choose: &mut Choose<'_>,
    options: &mut Options<'_>,
) -> Result<Outcome, Error> {
    // Lent to the wire for as long as it lives, and given back for the next push.
    let mut credentials = options.credentials.take();
    let outcome = push_as(repo, url, likely, choose, options, credentials.as_deref_mut());
    options.credentials = credentials;
    outcome
}

fn push_as(
    repo: &gix::Repository,
    url: &gix::Url,
    likely: &[RefUpdate],
    choose: &mut Choose<'_>,
    options: &mut Options<'_>,
    credentials: Option<&mut (dyn Credentials + '_)>,
) -> Result<Outcome, Error> {
    super::url::allowed(url)?;
    let (called, pulse) = match options.ahead.take().and_then(|it| it.answer(url)) {
        Some((call, pulse)) => (Some(call), pulse),
        None => {
            let (idle, wall) = (options.deadlines.idle, options.deadlines.wall);
            (None, Pulse::new(idle, wall, options.interrupt.clone()))
        }
    };
    let odb = Odb::of(repo);
    let cuts = repo.shallow_commits().map_err(|err| Error::local("the shallow file", err))?;
    let shallow: Vec<ObjectId> = cuts.iter().flat_map(|it| it.iter().copied()).collect();
    let level = repo.pack_compression().map_err(|err| Error::local("the configuration", err))?;
    let mut settings = pack::Settings { thin: options.thin, ofs_delta: false, level };
    let likely_settings = (!options.dry_run).then_some(settings);
    let guess = Guess::begin(repo, &odb, &shallow, likely, likely_settings);
    let mut wire = Wire::open(repo, url, options, credentials, &pulse, called)?;
    let remote = wire.advertisement(repo.object_hash())?;
    let chosen = choose(&remote).map_err(|source| Error::Choice { source });
    let updates = match chosen.and_then(|it| check_names(&it).map(|()| it)) {
        Ok(updates) => updates,
        Err(err) => {
            wire.leave();
            return Err(err);
        }
    };

    let mut graph = Graph::new(&odb, shallow.clone(), &remote.shallow);
    let mut outcome = Outcome {
        refs: decide(&mut graph, &remote, &updates, options.atomic)?,
        ..Outcome::default()
    };
    let ours = |it: &RefResult| it.status == RefStatus::Unknown;
    if options.dry_run || !outcome.refs.iter().any(ours) {
        wire.leave();
        for result in outcome.refs.iter_mut().filter(|it| ours(it)) {
            result.status = RefStatus::Ok;
        }
        outcome.advertised = remote.refs;
        return Ok(outcome);
    }
    let capabilities = capabilities(repo, &remote, options)?;
    let head = commands(&outcome.refs, &shallow, &capabilities, &options.push_options);
    let head_bytes = head.len() as u64;
    let mut wants: Vec<_> = outcome.refs.iter().filter(|it| ours(it)).map(|it| it.new).collect();
    wants.retain(|it| !it.is_null());
    let mut job = Job { head, pack: None };
    if !wants.is_empty() {
        let frontier = walk::frontier(&mut graph, &wants, remote.tips())?;
        let (objects, counts, draft) = guess.or_now(&odb, &mut graph, frontier)?;
        outcome.counts = counts;
        settings.thin &= !remote.can("no-thin");
        settings.ofs_delta = remote.can("ofs-delta");
        job.pack = Some(Content { objects, draft, settings });
    }
    drop(graph);
    outcome.advertised = remote.refs;
    converse(wire, &odb, job, &capabilities, options, &mut outcome)?;
    outcome.sent_bytes = head_bytes + outcome.pack.bytes;
    Ok(outcome)
}

pub(crate) fn check_names(updates: &[RefUpdate]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for update in updates {
        let name = || update.name.to_str_lossy().into_owned();
        let fits = update.name.starts_with(b"refs/") && update.name.len() < 4096;
        if !fits || gix::validate::reference::name(update.name.as_bstr()).is_err() {
            return Err(Error::Name { name: name() });
        }
        if !seen.insert(&update.name) {
            return Err(Error::Twice { name: name() });
        }
    }
    Ok(())
}

/// Judges each update against what the remote advertised. What is to be sent is left `Unknown`.
fn decide(
    graph: &mut Graph<'_>,
    remote: &Advertisement,
    updates: &[RefUpdate],
    atomic: bool,
) -> Result<Vec<RefResult>, Error> {
    let mut out = Vec::with_capacity(updates.len());
    for update in updates {
        let null = update.new.kind().null();
        let old = remote.refs.get(&update.name).copied().unwrap_or(null);
        let mut forced = false;
        let status = if let Expect::Exactly(expected) = update.expect
            && expected != old
            && old != update.new
        {
            RefStatus::Rejected(Rejection::Stale { expected, found: old })
        } else if old == update.new && !update.new.is_null() {
            RefStatus::UpToDate
        } else if update.new.is_null() && !remote.can("delete-refs") {
            RefStatus::Rejected(Rejection::CannotDelete)
        } else if update.new.is_null() || old.is_null() {
            RefStatus::Unknown
        } else {
            match obstacle(graph, update, old)? {
                Some(why) if update.expect == Expect::FastForward => RefStatus::Rejected(why),
                why => {
                    forced = why.is_some();
                    RefStatus::Unknown
                }
            }
        };
        let (name, new) = (update.name.clone(), update.new);
        out.push(RefResult { name, old, new, status, forced, options: Vec::new() });
    }
    let rejected = |it: &RefResult| matches!(it.status, RefStatus::Rejected(_));
    if atomic && out.iter().any(rejected) {
        for result in out.iter_mut().filter(|it| it.status == RefStatus::Unknown) {
            result.status = RefStatus::Rejected(Rejection::AtomicFailed);
        }
    }
    Ok(out)
}

/// What speaks against moving an existing reference without force.
fn obstacle(
    graph: &mut Graph<'_>,
    update: &RefUpdate,
    old: ObjectId,
) -> Result<Option<Rejection>, Error> {
    if update.name.starts_with(b"refs/tags/") {
        return Ok(Some(Rejection::AlreadyExists));
    }
    let from = graph.peel(old)?;
    if from.end.is_none() && from.tags.is_empty() {
        return Ok(Some(Rejection::FetchFirst));
    }
    let (from, to) = (from.end, graph.peel(update.new)?.end);
    let (Some((from, Kind::Commit)), Some((to, Kind::Commit))) = (from, to) else {
        return Ok(Some(Rejection::NeedsForce));
    };
    Ok(if graph.is_ancestor(from, to)? { None } else { Some(Rejection::NonFastForward) })
}

/// What we ask of the remote, of what it offers.
struct Asked {
    line: BString,
    sideband: bool,
    report: bool,
    push_options: bool,
}

fn capabilities(
    repo: &gix::Repository,
    remote: &Advertisement,
    options: &Options<'_>,
) -> Result<Asked, Error> {
    let mut words: Vec<String> = Vec::new();
    let mut ask = |word: &str| {
        let can = remote.can(word);
        if can {
            words.push(word.to_owned());
        }
        can
    };
    let report = ask("report-status-v2") || ask("report-status");
    let sideband = ask("side-band-64k");
    if options.quiet {
        ask("quiet");
    }
    if options.atomic && !ask("atomic") {
        return Err(Error::Unsupported { capability: "atomic" });
    }
    let push_options = !options.push_options.is_empty();
    if push_options && !ask("push-options") {
        return Err(Error::Unsupported { capability: "push-options" });
    }
    if remote.can("object-format") {
        words.push(format!("object-format={}", repo.object_hash()));
    }
    if remote.can("agent") {
        words.push("agent=git/gix-push".into());
    }
    Ok(Asked { line: words.join(" ").into(), sideband, report, push_options })
}

fn commands(
    refs: &[RefResult],
    shallow: &[ObjectId],
    asked: &Asked,
    options: &[String],
) -> Vec<u8> {
    let mut out = Vec::new();
    for id in shallow {
        line::put(&mut out, format!("shallow {id}").as_bytes());
    }
    let mut capabilities = Some(&asked.line);
    for result in refs.iter().filter(|it| it.status == RefStatus::Unknown) {
        let mut command = format!("{} {} ", result.old, result.new).into_bytes();
        command.extend_from_slice(&result.name);
        if let Some(words) = capabilities.take() {
            command.push(0);
            command.extend_from_slice(words);
        }
        line::put(&mut out, &command);
    }
    out.extend_from_slice(line::FLUSH);
    if asked.push_options {
        for option in options {
            let option = option.as_bytes();
            line::put(&mut out, &option[..option.len().min(line::PAYLOAD_BYTES_MAX)]);
        }
        out.extend_from_slice(line::FLUSH);
    }
    out
}

/// What goes out.
struct Job {
    head: Vec<u8>,
    pack: Option<Content>,
}

/// What goes into the pack, and how.
struct Content {
    objects: Objects,
    draft: Option<Draft>,
    settings: pack::Settings,
}

/// Hands lines on and keeps them, up to a limit.
struct Ears<'a, 'b> {
    observer: Option<&'a mut (dyn Observer + 'b)>,
    messages: Vec<BString>,
    left_bytes: usize,
}

impl Ears<'_, '_> {
    fn hear(&mut self, text: &[u8], transient: bool) {
        if let Some(observer) = &mut self.observer {
            observer.message(text.as_bstr(), transient);
        }
        self.keep(text, transient);
    }

    /// A line of the child's own stderr.
    fn overhear(&mut self, text: &[u8]) {
        if let Some(observer) = &mut self.observer {
            observer.complaint(text.as_bstr());
        }
        self.keep(text, false);
    }

    fn keep(&mut self, text: &[u8], transient: bool) {
        if !transient && let Some(left) = self.left_bytes.checked_sub(text.len() + 1) {
            self.left_bytes = left;
            self.messages.push(text.into());
        }
    }
}

/// Sends the commands and the pack while listening, and fills in what came of it.
fn converse(
    wire: Wire<'_, '_>,
    odb: &Odb,
    job: Job,
    asked: &Asked,
    options: &mut Options<'_>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let ears = Mutex::new(Ears {
        observer: options.observer.as_deref_mut(),
        messages: Vec::new(),
        left_bytes: options.limits.messages_bytes_max,
    });
    let ears = &ears;
    let lock = || ears.lock().unwrap_or_else(PoisonError::into_inner);
    let (url, shown) = (wire.shown().to_owned(), wire.shown().to_owned());
    let report_bytes_max = options.limits.report_bytes_max;
    let (listener, mut sender, mut ending) = wire.split();
    let sideband = asked.sideband;
    let meanwhile = options.meanwhile.as_deref_mut();
    let (sent, heard) = std::thread::scope(|scope| {
        let (ended, answer) = mpsc::channel::<()>();
        let listening = scope.spawn(move || {
            // Goes with the thread, which the other end notices.
            let _ended = ended;
            let mut emit = |text: &[u8], transient: bool| {
                ears.lock().unwrap_or_else(PoisonError::into_inner).hear(text, transient);
            };
            listener
                .listen(report_bytes_max, |lines| report::read(lines, &shown, sideband, &mut emit))
        });
        let mut progress = |objects, objects_total, bytes| {
            if let Some(observer) = &mut lock().observer {
                observer.progress(Progress { objects, objects_total, bytes });
            }
        };
        let sent = match send(odb, job, &mut sender, &mut progress) {
            Ok(counts) => sender.end().map(|()| counts).map_err(pack::Failure::from),
            Err(err) => {
                // Ends the conversation, so that the listener comes to an end too.
                drop(sender);
                Err(err)
            }
        };
        let late = || answer.recv_timeout(ANSWER_SOON) == Err(RecvTimeoutError::Timeout);
        if let (Some(work), true) = (meanwhile, sent.is_ok())
            && late()
        {
            work();
        }
        let heard = listening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (sent, heard)
    });
    let stderr = ending.finish();
    outcome.program_failed = ending.has_failed();
    report::lines(&stderr, &mut |text| lock().overhear(text));
    outcome.messages = std::mem::take(&mut lock().messages);
    conclude(outcome, sent, heard, asked, &url, stderr.as_bstr())
}

/// Weighs what we know of the sending against what we heard: what the remote says counts more
/// than a pipe that broke, and what is not known is not an error.
fn conclude(
    outcome: &mut Outcome,
    sent: Result<PackCounts, pack::Failure>,
    heard: Result<Report, Error>,
    asked: &Asked,
    url: &str,
    stderr: &BStr,
) -> Result<(), Error> {
    let explained = |err| super::child::explain(url, stderr, err);
    let counts = match sent {
        Err(pack::Failure::Local(err)) => return Err(err),
        Err(pack::Failure::Wire(err)) => Err(err),
        Ok(counts) => Ok(counts),
    };
    let report = match (counts, heard) {
        (Ok(counts), Ok(report)) => {
            outcome.pack = counts;
            report
        }
        (Err(_), Ok(report)) if report.is_complete() => report,
        (Err(err), Ok(Report { fatal: None, .. })) => {
            return Err(explained(Error::wire(url, "sending", err)));
        }
        (Err(_), Ok(Report { fatal: Some(text), .. })) => return Err(said(url, text.as_bstr())),
        // The server has refused what we sent, or was stopped from taking all of it.
        (Err(_), Err(err)) => return Err(explained(err)),
        (Ok(_), Err(err)) if is_refusal(&err) => return Err(err),
        (Ok(counts), Err(err)) => {
            outcome.pack = counts;
            outcome.lost = Some(explained(err));
            return Ok(());
        }
    };
    if asked.report && !report.is_complete() {
        outcome.lost = Some(match &report.fatal {
            Some(text) => said(url, text.as_bstr()),
            None => {
                let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                explained(Error::wire(url, "waiting for its report", source))
            }
        });
    }
    settle(outcome, report);
    Ok(())
}

fn said(url: &str, text: &BStr) -> Error {
    Error::Remote { url: url.to_owned(), message: text.to_str_lossy().into_owned() }
}

/// Errors that say for certain that nothing was moved, though all was sent.
fn is_refusal(err: &Error) -> bool {
    matches!(
        err,
        Error::Login { .. }
            | Error::Forbidden { .. }
            | Error::NotFound { .. }
            | Error::TooLarge { .. }
            | Error::Redirect { .. }
            | Error::ClearText { .. }
            | Error::Credentials { .. }
            | Error::Connect { .. }
            | Error::Certificate { .. }
            | Error::Setup { .. }
            | Error::Http { status: 400..=499, .. }
    )
}

fn send(
    odb: &Odb,
    job: Job,
    out: &mut impl Write,
    progress: &mut dyn FnMut(u32, u32, u64),
) -> Result<PackCounts, pack::Failure> {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    out.write_all(&job.head)?;
    let mut counts = PackCounts::default();
    if let Some(Content { objects, draft, settings }) = job.pack {
        let total = u32::try_from(objects.wanted.len()).unwrap_or(u32::MAX);
        let mut report = |objects, bytes| progress(objects, total, bytes);
        counts = pack::write(odb, &objects, draft, settings, &mut out, &mut report)?;
    }
    out.flush()?;
    Ok(counts)
}

/// Takes the remote's word for each reference.
fn settle(outcome: &mut Outcome, answer: Report) {
    let mut by_name: BTreeMap<BString, &mut RefResult> = outcome
        .refs
        .iter_mut()
        .filter(|it| it.status == RefStatus::Unknown)
        .map(|it| (it.name.clone(), it))
        .collect();
    for status in answer.refs {
        if let Some(result) = by_name.get_mut(&status.name) {
            result.status = match status.result {
                Ok(()) => RefStatus::Ok,
                Err(reason) => RefStatus::Refused(reason),
            };
            result.options.push(status.options);
        }
    }
    outcome.unpack = answer.unpack;
}
