//! Every setting, its default and its unit.
//!
//! `packaging/config.yaml` is the default, the documentation and the installed example at once; a
//! test keeps it equal to what is built in. Layers: default, file, environment, flags.

mod adopted;
mod api;
mod defaults;
mod fabrics;
mod hooks;
mod kinds;
mod log;
mod state;
pub mod units;

pub use adopted::{adopt, adopted};
pub use api::{ApiSettings, PeerScope};
pub use fabrics::check_fabrics;
use fabrics::check_review;
pub use hooks::HookSettings;
pub use kinds::read as read_kinds;
pub use log::{LogFormat, LogSettings};
pub use state::{StateDir, agent_dir};

use crate::catalog::{Breadth, Catalog, Definition};
use crate::model::conflict::ConflictStrategy;
use crate::model::fabric::{Author, FabricName, Layout};
use crate::model::path::RepoPath;
use crate::model::rules::{BesideRaw, Mode, OnDelete, RemovalLimits, ResourceRule};
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::processing::{OnInvalid, OnUnsupported};
use crate::pipeline::validation::SchemaStrategy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The default settings, commented; installed as the example.
pub const EXAMPLE: &str = include_str!("../../packaging/config.yaml");
/// Where the settings of a host lie.
pub const HOST_FILE: &str = "/etc/git-intake/config.yaml";
/// No real file of settings is larger, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
const PREFIX: &str = "GIT_INTAKE_";
/// Variables with our prefix that are no settings.
const NOT_SETTINGS: [&str; 2] = ["GIT_INTAKE_CONFIG", "GIT_INTAKE_CORPUS"];

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {verb} the configuration {path}")]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key or a value is wrong.
    #[error("cannot use {place}: {message}")]
    Invalid {
        /// The file with line and column, or the variable.
        place: String,
        /// What is wrong.
        message: String,
    },
}

/// All settings of one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The work trees to watch.
    pub repositories: Vec<RepositorySettings>,
    /// Where originals are kept.
    pub archive: ArchiveStrategy,
    /// Where new files lie.
    pub layout: Layout,
    /// What becomes of a file with a mistake.
    pub on_invalid: OnInvalid,
    /// What becomes of a file of foreign kinds.
    pub on_unsupported: OnUnsupported,
    /// The good documents of a file with a mistake go through.
    pub partial: bool,
    /// What happens where two sides changed one resource.
    pub conflict: ConflictStrategy,
    /// How much the agent does.
    pub mode: Mode,
    /// What becomes of a record whose file others removed.
    pub on_delete: OnDelete,
    /// What becomes of manifests that were pushed beside `raw/`.
    pub beside_raw: BesideRaw,
    /// How many files may be removed at once.
    pub removals: RemovalLimits,
    /// How many kinds are taken.
    pub catalog: Breadth,
    /// A directory with definitions of more kinds.
    pub kinds_dir: Option<PathBuf>,
    /// What was read there.
    #[serde(skip)]
    pub definitions: Vec<Definition>,
    /// What a breach of a kind's schema is taken for.
    pub schema: SchemaStrategy,
    /// How drops are found.
    pub intake: IntakeSettings,
    /// How much one file may hold.
    pub yaml: YamlSettings,
    /// Sending commits.
    pub push: PushSettings,
    /// Hearing of what others pushed.
    pub fetch: FetchSettings,
    /// The door for programs.
    pub api: ApiSettings,
    /// Hooks.
    pub webhooks: HookSettings,
    /// Where the store, the lock and the socket live.
    pub state_dir: Option<PathBuf>,
    /// What the agent says.
    pub log: LogSettings,
}

/// One work tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RepositorySettings {
    /// Where it is.
    pub path: PathBuf,
    /// Where commits are sent.
    pub remote: String,
    /// The only branch the agent works on; none is the one HEAD is on.
    pub branch: Option<String>,
    /// Whether commits are sent at all.
    pub push: bool,
    /// A branch of the remote that gets the commits instead, for a pull request; `{branch}` stands
    /// for the name of the branch that is worked on.
    pub review: Option<String>,
    /// The name beside a token.
    pub username: Option<String>,
    /// A file that holds a token.
    pub token_file: Option<PathBuf>,
    /// Certificates to trust beside the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// Whose commits these are.
    pub author: Author,
    /// The GitOps directories in it.
    pub fabrics: Vec<FabricSettings>,
    /// The file that these settings stand in; none is the repository's own.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// One GitOps directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FabricSettings {
    /// Its name.
    pub name: FabricName,
    /// Where it lies; none is its name.
    #[serde(default)]
    pub dir: Option<RepoPath>,
    /// Instead of the general setting.
    #[serde(default)]
    pub archive: Option<ArchiveStrategy>,
    /// Instead of the general setting.
    #[serde(default)]
    pub layout: Option<Layout>,
    /// Instead of the general setting.
    #[serde(default)]
    pub on_invalid: Option<OnInvalid>,
    /// Instead of the general setting.
    #[serde(default)]
    pub on_unsupported: Option<OnUnsupported>,
    /// Instead of the general setting.
    #[serde(default)]
    pub partial: Option<bool>,
    /// Beside the general ones.
    #[serde(default, deserialize_with = "units::patterns")]
    pub ignore: Vec<String>,
    /// Instead of the general setting.
    #[serde(default)]
    pub conflict: Option<ConflictStrategy>,
    /// Instead of the general setting.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Instead of the general setting.
    #[serde(default)]
    pub on_delete: Option<OnDelete>,
    /// Instead of the general setting.
    #[serde(default)]
    pub beside_raw: Option<BesideRaw>,
    /// What holds for some resources; the first that is about one counts.
    #[serde(default)]
    pub resources: Vec<ResourceRule>,
}

/// How drops are found, and how much is taken at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntakeSettings {
    /// A file that did not change for this long is complete.
    #[serde(with = "units::duration")]
    pub quiet: Duration,
    /// `raw/` is looked at again this often, and `managed/` where the kernel tells of no edits.
    #[serde(with = "units::duration")]
    pub rescan: Duration,
    /// A larger file is rejected.
    #[serde(with = "units::bytes")]
    pub bytes_max: u64,
    /// What in `raw/` is no drop, in gitignore syntax, beside what is built in.
    #[serde(deserialize_with = "units::patterns")]
    pub ignore: Vec<String>,
    /// Where the kernel does not tell of every change, it is looked at this often.
    #[serde(with = "units::duration")]
    pub poll: Duration,
    /// An edit by hand in `managed/` that stood still for so long is committed.
    #[serde(with = "units::duration")]
    pub hand_edits_quiet: Duration,
    /// Leave alone what is mounted below the work tree.
    pub one_file_system: bool,
    /// More files wait for the next turn.
    pub files_per_turn_max: usize,
    /// More bytes wait for the next turn.
    #[serde(with = "units::bytes")]
    pub bytes_per_turn_max: u64,
    /// What lies in `raw/` beyond this waits.
    pub entries_max: usize,
}

/// How much one file may hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct YamlSettings {
    /// Documents.
    pub documents_max: usize,
    /// Nesting of collections.
    pub depth_max: usize,
    /// Values in one document.
    pub nodes_max: usize,
}

/// Sending commits to the remote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushSettings {
    /// After the first failure.
    #[serde(with = "units::duration")]
    pub retry_min: Duration,
    /// After many.
    #[serde(with = "units::duration")]
    pub retry_max: Duration,
    /// For a connection.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// Between two bytes.
    #[serde(with = "units::duration")]
    pub idle_timeout: Duration,
    /// For all of it.
    #[serde(with = "units::duration")]
    pub wall_timeout: Duration,
}

/// Hearing of what others pushed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchSettings {
    /// This often; none is never.
    #[serde(with = "units::duration_or_off")]
    pub every: Option<Duration>,
}

impl Settings {
    /// The kinds that are known.
    pub fn kinds(&self) -> Catalog {
        Catalog::new(self.catalog, &self.definitions)
    }

    /// What the definitions ask for and nobody here looks at, a sentence for each kind.
    pub fn unjudged(&self) -> Vec<String> {
        let mut told = Vec::new();
        for it in &self.definitions {
            let served = it.entry.versions.iter().filter(|it| it.served);
            let rules: usize =
                served.filter_map(|it| it.schema.as_ref()).map(|it| it.rules_within()).sum();
            if rules > 0 {
                let (kind, group) = (&it.entry.kind, &it.entry.group);
                told.push(format!(
                    "the definition of {kind} ({group}) has {rules} CEL rules (x-kubernetes-validations), which are not judged here: the API server may refuse what is taken"
                ));
            }
        }
        told
    }
}

impl YamlSettings {
    /// The same for the yaml room.
    pub fn limits(&self) -> crate::yaml::Limits {
        crate::yaml::Limits {
            documents_max: self.documents_max,
            depth_max: self.depth_max,
            nodes_max: self.nodes_max,
        }
    }
}

/// The environment, read once: this room alone asks for it.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}

/// Loads a file of settings, and what the environment says above it; without a file, the defaults.
pub fn load(file: Option<&Path>) -> Result<Settings, Error> {
    let mut settings = match file {
        Some(path) => parse(&read(path)?, path)?,
        None => Settings::default(),
    };
    let base = file.and_then(Path::parent).unwrap_or(Path::new("."));
    for it in &mut settings.repositories {
        it.path = base.join(&it.path);
        it.token_file = it.token_file.as_ref().map(|path| base.join(path));
        it.ca_file = it.ca_file.as_ref().map(|path| base.join(path));
    }
    settings.kinds_dir = settings.kinds_dir.map(|dir| base.join(dir));
    settings.api.lie_below(base);
    settings.webhooks.lie_below(base);
    let ours = std::env::vars().filter(|(name, _)| name.starts_with(PREFIX));
    let mut settings = with_environment(settings, ours.collect())?;
    for it in &mut settings.repositories {
        it.file = file.map(Path::to_owned);
    }
    check(&settings, file)?;
    if let Some(dir) = &settings.kinds_dir {
        settings.definitions = kinds::read(dir)?;
    }
    Ok(settings)
}

fn read(path: &Path) -> Result<String, Error> {
    use io::Read as _;
    let failed = |source| Error::File { verb: "read", path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn parse<T: serde::de::DeserializeOwned + Default>(text: &str, path: &Path) -> Result<T, Error> {
    if text.lines().all(|it| it.trim().is_empty() || it.trim_start().starts_with('#')) {
        return Ok(T::default());
    }
    serde_yaml::from_str(text).map_err(|it| {
        let place = match it.location() {
            Some(at) => format!("{}:{}:{}", path.display(), at.line(), at.column()),
            None => path.display().to_string(),
        };
        Error::Invalid { place, message: it.to_string() }
    })
}

/// `GIT_INTAKE_<SECTION>_<KEY>` goes above the file.
fn with_environment(
    settings: Settings,
    variables: BTreeMap<String, String>,
) -> Result<Settings, Error> {
    let invalid = |place: String, message: String| Error::Invalid { place, message };
    let mut tree = serde_json::to_value(&settings)
        .map_err(|it| invalid("the settings".into(), it.to_string()))?;
    let known = leaves(&tree);
    let mut last = String::new();
    for (name, text) in variables {
        if NOT_SETTINGS.contains(&name.as_str()) {
            continue;
        }
        let Some(pointer) = known.get(&name) else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            let message = format!("there is no such setting; there are {}", names.join(", "));
            return Err(invalid(format!("the variable {name}"), message));
        };
        let place = || format!("the variable {name}");
        let value: serde_json::Value =
            serde_yaml::from_str(&text).map_err(|it| invalid(place(), it.to_string()))?;
        if let Some(slot) = tree.pointer_mut(pointer) {
            *slot = value;
        }
        last = place();
        serde_json::from_value::<Settings>(tree.clone())
            .map_err(|it| invalid(place(), it.to_string()))?;
    }
    serde_json::from_value(tree).map_err(|it| invalid(last, it.to_string()))
}

/// The settings with a single value, by their variable: where they stand in the tree.
fn leaves(tree: &serde_json::Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, value) in tree.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Object(section) => {
                for inner in section.keys() {
                    let name = format!("{PREFIX}{key}_{inner}").to_uppercase();
                    found.insert(name, format!("/{key}/{inner}"));
                }
            }
            serde_json::Value::Array(_) => (),
            _ => {
                found.insert(format!("{PREFIX}{key}").to_uppercase(), format!("/{key}"));
            }
        }
    }
    found
}

/// What no single value can show: fabrics that share a place or a name.
fn check(settings: &Settings, file: Option<&Path>) -> Result<(), Error> {
    let place = file.map_or("the settings".to_owned(), |it| it.display().to_string());
    let invalid = |message| Err(Error::Invalid { place: place.clone(), message });
    settings.api.check(&place)?;
    settings.webhooks.check(&place)?;
    for (n, it) in settings.repositories.iter().enumerate() {
        if it.path.as_os_str().is_empty() {
            return invalid(format!("entry {} of `repositories` has no `path`", n + 1));
        }
        if settings.repositories[..n].iter().any(|other| other.path == it.path) {
            return invalid(format!("{} is named twice", it.path.display()));
        }
        if let Err(message) = check_fabrics(&it.fabrics).and_then(|()| check_review(it)) {
            return invalid(message);
        }
    }
    Ok(())
}

/// The settings of one repository that has no central file, as `init` keeps them.
pub fn local_file(git_dir: &Path) -> PathBuf {
    git_dir.join("intake/config.yaml")
}

/// Reads a repository's own settings; none where `init` has not run.
pub fn load_local(git_dir: &Path, work_tree: &Path) -> Result<Option<RepositorySettings>, Error> {
    let path = local_file(git_dir);
    if !path.exists() {
        return Ok(None);
    }
    let mut found: RepositorySettings = parse(&read(&path)?, &path)?;
    found.path = work_tree.to_owned();
    match check_fabrics(&found.fabrics).and_then(|()| check_review(&found)) {
        Ok(()) => Ok(Some(found)),
        Err(message) => Err(Error::Invalid { place: path.display().to_string(), message }),
    }
}

/// Writes a repository's own settings, whole or not at all.
pub fn save_local(git_dir: &Path, settings: &RepositorySettings) -> Result<(), Error> {
    use io::Write as _;
    let path = local_file(git_dir);
    let failed = |source: io::Error| Error::File { verb: "write", path: path.clone(), source };
    let dir = git_dir.join("intake");
    std::fs::create_dir_all(&dir).map_err(failed)?;
    let body = serde_yaml::to_string(settings).map_err(|it| failed(io::Error::other(it)))?;
    let text = format!(
        "# The fabrics of this work tree; written by `git-intake init`, and yours to edit.\n\
         # Every key is explained in packaging/config.yaml, which is installed as the example.\n{body}"
    );
    crate::whole::replace(&path, |it| it.write_all(text.as_bytes())).map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Settings, Error> {
        let settings = parse(text, Path::new("c.yaml"))?;
        check(&settings, Some(Path::new("c.yaml")))?;
        Ok(settings)
    }

    #[test]
    fn the_example_is_the_default() {
        assert_eq!(parsed(EXAMPLE).unwrap(), Settings::default());
    }

    #[test]
    fn every_setting_stands_in_the_example() {
        let tree = serde_json::to_value(Settings::default()).unwrap();
        for pointer in leaves(&tree).values() {
            let key = pointer.rsplit('/').next().unwrap();
            assert!(EXAMPLE.contains(&format!("{key}:")), "{pointer}");
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let error = parsed("intake:\n  quiett: 1s\n").unwrap_err().to_string();
        assert!(error.contains("c.yaml:2:3") && error.contains("quiett"), "{error}");
        assert!(error.contains("`quiet`"), "the right keys are named: {error}");
        let error = parsed("intake:\n  quiet: 5\n").unwrap_err().to_string();
        assert!(error.contains("unit"), "{error}");
    }

    #[test]
    fn fabrics_may_not_lie_within_each_other() {
        let with = |dirs: [&str; 2]| {
            let [a, b] = dirs;
            parsed(&format!(
                "repositories: [{{path: r, fabrics: [{{name: a, dir: {a}}}, {{name: b, dir: {b}}}]}}]"
            ))
        };
        assert!(with(["fabric-1", "fabric-10"]).is_ok());
        assert!(with(["a", "a/b"]).is_err());
        assert!(with([".", "x"]).is_err());
        assert!(with(["../x", "y"]).is_err());
        let long = vec!["d".repeat(200); 6].join("/");
        assert!(with([long.as_str(), "y"]).is_err(), "no room for what is filed below it");
    }

    #[test]
    fn the_environment_goes_above_the_file() {
        let of = |name: &str, text: &str| {
            with_environment(
                Settings::default(),
                BTreeMap::from([(name.to_owned(), text.to_owned())]),
            )
        };
        assert_eq!(
            of("GIT_INTAKE_INTAKE_QUIET", "1s").unwrap().intake.quiet,
            Duration::from_secs(1)
        );
        assert_eq!(of("GIT_INTAKE_ARCHIVE", "none").unwrap().archive, ArchiveStrategy::None);
        assert!(of("GIT_INTAKE_INTAKE_QUIET", "soon").is_err());
        assert!(of("GIT_INTAKE_TYPO", "1").is_err());
    }
}
