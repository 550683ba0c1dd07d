//! `check`: files are judged as `raw/` would, many at once, and nothing is changed.

use super::reach::load;
use super::{Context, Failure, HELD, args, formats, print};
use crate::catalog::Breadth;
use crate::model::document::{Intake, Rejected, Verdict};
use crate::model::fabric::{Fabric, FabricName};
use crate::model::key::Key;
use crate::model::path::{RawPath, RepoPath};
use crate::model::problem::{Problem, Severity};
use crate::model::report::{Action, CheckReport, CheckSummary, Ending, FileReport, Filed};
use crate::pipeline::classification;
use crate::pipeline::references::{self, Brought, Known};
use crate::pipeline::validation::{self, Rules, SchemaStrategy};
use std::collections::{BTreeSet, HashSet};
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many files one call looks at.
const FILES_MAX: usize = 1_000_000;
/// How deep directories are walked.
const DEPTH_MAX: usize = 64;
/// More threads than this only wait for each other.
const THREADS_MAX: usize = 64;

pub(super) fn check(it: &args::check::Check, context: &Context) -> Result<u8, Failure> {
    let mut settings = load(context.config.as_deref())?;
    if let Some(dir) = &it.kinds {
        settings.definitions = crate::config::read_kinds(dir)?;
    }
    settings.catalog = match it.catalog {
        None => settings.catalog,
        Some(args::check::CatalogArg::Hedgehog) => Breadth::Hedgehog,
        Some(args::check::CatalogArg::Any) => Breadth::Any,
    };
    settings.schema = match it.schema {
        None => settings.schema,
        Some(args::check::SchemaArg::Off) => SchemaStrategy::Off,
        Some(args::check::SchemaArg::Warn) => SchemaStrategy::Warn,
        Some(args::check::SchemaArg::Enforce) => SchemaStrategy::Enforce,
    };
    settings.unjudged().iter().for_each(|it| tracing::warn!("{it}"));
    let mut found = Found::default();
    for path in &it.paths {
        found.gather(path, 0)?;
    }
    let catalog = settings.kinds();
    let judge = Judge {
        rules: Rules {
            limits: settings.yaml.limits(),
            catalog: &catalog,
            schema: settings.schema,
            // A mistake is a mistake here, whatever would be taken of its file.
            partial: false,
        },
        bytes_max: settings.intake.bytes_max,
        fabric: Fabric::flat(
            FabricName::parse("fabric").map_err(|it| Failure::said(1, it))?,
            RepoPath::top(),
        ),
    };
    let paths: Vec<PathBuf> = found.files.into_iter().collect();
    let mut checked = judge.all(&paths);
    // One file by itself says nothing of what is around it; a directory does.
    if found.directories || it.managed.is_some() {
        let mut around = Found::default();
        it.managed.as_deref().map_or(Ok(()), |dir| around.gather(dir, 0))?;
        let there: Vec<PathBuf> = around.files.into_iter().collect();
        checked.look_names_up(&judge.all(&there));
    }
    let mut report = checked.report();
    report.files.sort_by(|a, b| a.path.cmp(&b.path));
    let format = if it.json { args::check::CheckFormat::Json } else { it.format };
    let text = match format {
        args::check::CheckFormat::Human => formats::human(&report, &found.named, context.colored),
        args::check::CheckFormat::Json => {
            super::render::json(&report).map_err(|it| Failure::of(1, &it))?
        }
        args::check::CheckFormat::Sarif => {
            formats::sarif(&report).map_err(|it| Failure::of(1, &it))?
        }
        args::check::CheckFormat::Github => formats::github(&report),
    };
    print(&text)?;
    Ok(if report.summary.rejected > 0 { HELD } else { 0 })
}

/// The files to judge.
#[derive(Default)]
struct Found {
    files: BTreeSet<PathBuf>,
    /// Those that somebody named, and did not just come across in a directory.
    named: HashSet<RawPath>,
    /// A directory was among what was named.
    directories: bool,
}

impl Found {
    /// A file that is named is always judged; below a directory those that `raw/` would take.
    fn gather(&mut self, path: &Path, depth: usize) -> Result<(), Failure> {
        let failed =
            |it: std::io::Error| Failure::said(1, format!("cannot read {}: {it}", path.display()));
        if path == Path::new("-") || !std::fs::metadata(path).map_err(failed)?.is_dir() {
            self.named.insert(raw_path(path));
            self.files.insert(path.to_owned());
            return Ok(());
        }
        self.directories = true;
        if depth >= DEPTH_MAX {
            return Err(Failure::said(1, format!("{} lies too deep", path.display()))
                .hint(format!("directories are walked {DEPTH_MAX} deep; name the inner one")));
        }
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (name, kind) = (entry.file_name(), entry.file_type().map_err(failed)?);
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                self.gather(&entry.path(), depth + 1)?;
            } else if kind.is_file() && is_manifest(name.as_bytes()) {
                self.files.insert(entry.path());
            }
            if self.files.len() > FILES_MAX {
                let message = format!("there are more than {FILES_MAX} files to judge");
                return Err(Failure::said(1, message).hint("name fewer directories at once"));
            }
        }
        Ok(())
    }
}

fn is_manifest(name: &[u8]) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|it| name.ends_with(it.as_bytes()))
}

fn raw_path(path: &Path) -> RawPath {
    let path = if path == Path::new("-") { Path::new("(standard input)") } else { path };
    // Those who read findings by machine look for `a.yaml`, not for `./a.yaml`.
    let path = path.strip_prefix(".").unwrap_or(path);
    RawPath::new(path.as_os_str().as_bytes())
}

/// What files are judged by.
struct Judge<'a> {
    rules: Rules<'a>,
    bytes_max: u64,
    fabric: Fabric,
}

impl Judge<'_> {
    /// Judges files with as many threads as there are processors.
    fn all(&self, paths: &[PathBuf]) -> Checked {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut part = Checked::default();
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (one, read) = self.file(path);
                part.files.push(one);
                part.bytes += read;
            }
            part
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(THREADS_MAX).min(paths.len()).max(1);
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            // Judging catches panics file by file, so that no thread ends without its part.
            for part in others.into_iter().filter_map(|it| it.join().ok()) {
                all.files.extend(part.files);
                all.bytes += part.bytes;
            }
            all
        })
    }

    fn file(&self, path: &Path) -> (One, u64) {
        let name = raw_path(path);
        let rejected = |problem| One::rejected(name.clone(), vec![problem]);
        let bytes = match self.read(path) {
            Ok(it) => it,
            Err(error) => {
                let problem = Problem::error("not-readable", format!("cannot read it: {error}"));
                return (rejected(problem.hint("give this user the right to read it")), 0);
            }
        };
        let read = bytes.len() as u64;
        if read > self.bytes_max {
            let message = format!("the file has more than {} bytes", self.bytes_max);
            let hint = "split it, or raise `intake.bytes_max` in the configuration";
            return (rejected(Problem::error("too-large", message).hint(hint)), read);
        }
        let intake = Intake::new(name.clone(), bytes);
        let judged = std::panic::AssertUnwindSafe(|| self.judge(intake));
        let report = std::panic::catch_unwind(judged).unwrap_or_else(|_| {
            let message = "judging this file failed, which is a mistake of ours";
            let hint = "report it with the file; written more plainly it may go through";
            rejected(Problem::error("unjudged", message).hint(hint))
        });
        (report, read)
    }

    /// Reads a byte more than is allowed, so that too much can be told from just enough.
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let max = self.bytes_max.saturating_add(1);
        match path == Path::new("-") {
            true => std::io::stdin().lock().take(max).read_to_end(&mut bytes)?,
            false => std::fs::File::open(path)?.take(max).read_to_end(&mut bytes)?,
        };
        Ok(bytes)
    }

    fn judge(&self, intake: Intake) -> One {
        let path = intake.path.clone();
        let valid = match validation::validate(intake, &self.rules) {
            Ok(it) => it,
            Err(Rejected { problems, .. }) => return One::rejected(path, problems),
        };
        let classified = classification::classify(valid, &self.fabric, self.rules.catalog);
        let brought = references::brought(&classified);
        let (mut documents, mut problems, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
        for it in classified.judged {
            match it.verdict {
                Verdict::Managed { target } => documents.push(Filed {
                    document: it.document.index,
                    line: it.document.line,
                    kind: it.document.key.kind,
                    namespace: it.document.key.namespace,
                    name: it.document.key.name,
                    target,
                    action: Action::Created,
                    cut: it.document.cut,
                }),
                Verdict::Unmanaged { why } => foreign.push(why),
                Verdict::Rejected { why } => problems.push(why),
            }
        }
        // As in raw/: a file goes through as a whole.
        let mixed = !documents.is_empty() && !foreign.is_empty();
        let hint = "a file goes through as a whole: move this document to a file of its own";
        problems.extend(foreign.iter().cloned().map(|why| match mixed {
            true => Problem { severity: Severity::Error, ..why }.hint(hint),
            false => why,
        }));
        problems.extend(classified.warnings);
        let bad = problems.iter().any(Problem::is_error);
        let ending = match (bad, documents.is_empty(), foreign.is_empty()) {
            (true, _, _) => Ending::Rejected,
            (false, true, true) => Ending::NoDocuments,
            (false, true, false) => Ending::Unmanaged,
            (false, false, _) => Ending::Managed,
        };
        if bad {
            documents.clear();
        }
        One { report: FileReport { path, ending, documents, problems }, brought }
    }
}

/// One file, judged: what becomes of it, and what it brings and names.
struct One {
    report: FileReport,
    brought: Vec<Brought>,
}

impl One {
    fn rejected(path: RawPath, problems: Vec<Problem>) -> One {
        let report = FileReport { path, ending: Ending::Rejected, documents: vec![], problems };
        One { report, brought: vec![] }
    }
}

/// All files, judged.
#[derive(Default)]
struct Checked {
    files: Vec<One>,
    bytes: u64,
}

impl Checked {
    /// Adds a warning for each name that leads nowhere, neither here nor in what is `there`.
    fn look_names_up(&mut self, there: &Checked) {
        let mut nothing = Nothing;
        let mut known = Known::over(&mut nothing);
        for it in self.files.iter().chain(&there.files).flat_map(|it| &it.brought) {
            known.add(&it.key, &it.parts);
        }
        for file in &mut self.files {
            for it in &file.brought {
                for (naming, place) in &it.namings {
                    let Ok(found) = known.judge(&it.key.namespace, naming);
                    file.report.problems.extend(found.map(|found| Problem {
                        message: found.message,
                        hint: found.hint,
                        ..place.clone()
                    }));
                }
            }
        }
    }

    fn report(self) -> CheckReport {
        let mut report = CheckReport::default();
        report.summary.bytes = self.bytes;
        for it in self.files {
            report.summary.add(&it.report);
            report.files.push(it.report);
        }
        report
    }
}

/// Beside the files there is nothing to ask.
struct Nothing;

impl references::Managed for Nothing {
    type Error = std::convert::Infallible;

    fn parts(&mut self, _: &Key) -> Result<Option<Vec<String>>, Self::Error> {
        Ok(None)
    }

    fn keeps(&mut self, _: &str, _: &str) -> Result<bool, Self::Error> {
        Ok(false)
    }
}

impl CheckSummary {
    fn add(&mut self, it: &FileReport) {
        self.files += 1;
        *match it.ending {
            Ending::Managed => &mut self.managed,
            Ending::Unmanaged => &mut self.unmanaged,
            Ending::NoDocuments => &mut self.no_documents,
            Ending::Rejected | Ending::Parted => &mut self.rejected,
        } += 1;
        self.documents += it.documents.len() as u64;
        let errors = it.problems.iter().filter(|it| it.is_error()).count() as u64;
        self.errors += errors;
        self.warnings += it.problems.len() as u64 - errors;
    }
}
