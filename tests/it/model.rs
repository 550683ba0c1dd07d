//! Git meets the records, with a model: people drop, edit by hand, stage, commit, remove and move,
//! programs edit records, others push, the remote is away, the agent is killed at any step and starts
//! again, conflicts are resolved, under every strategy and in every mode. Each write has a token of
//! its own, so that it can be told afterwards where it went.
//!
//! At rest records, HEAD, work tree and remote say the same; each write that was accepted is in the
//! history of the remote, waits as a conflict or in `raw/`, or gave way to another by a rule; no value
//! comes back that somebody had replaced; no commit is without content.
//!
//! `cargo test --test it model` tries some. For a long run, or for one of them again:
//!
//! ```text
//! MODEL_CASES=2000 MODEL_SEED=7 cargo test --test it model -- --nocapture
//! ```
//!
//! A failure names its seed and the shortest list of acts that was found to fail.

use crate::edits::{edit, fields};
use crate::merge::request;
use crate::storm::Dice;
use crate::world::{World, git, git_output};
use git_intake::agent::conflicts::Decided;
use git_intake::agent::desk::{self, Answer, Live, Request};
use git_intake::agent::exchange::{SyncAsked, SyncDirection};
use git_intake::agent::lane::Lane;
use git_intake::agent::records::{Edit, EditChange};
use git_intake::agent::{sync, verify};
use git_intake::model::conflict::ConflictStrategy;
use git_intake::model::record::{Record, Stray};
use git_intake::model::rules::Mode;
use git_intake::step::Steps;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CASES: u64 = 60;
const SEED: u64 = 20_261_126;
const ACTS_MAX: u64 = 24;
const RESOURCES: u64 = 4;
const FIELDS: u64 = 3;
/// Passes until everything has come to rest.
const PASSES_MAX: usize = 12;
const SHRINKS_MAX: usize = 200;

const STRATEGIES: [ConflictStrategy; 5] = [
    ConflictStrategy::Merge,
    ConflictStrategy::RecordWins,
    ConflictStrategy::GitWins,
    ConflictStrategy::Newest,
    ConflictStrategy::Manual,
];

#[test]
fn whatever_meets_nothing_is_lost_and_all_agree_at_rest() {
    let (cases, seed) = (number("MODEL_CASES", CASES), number("MODEL_SEED", SEED));
    let (next, begun) = (AtomicU64::new(0), Instant::now());
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= cases {
                        return;
                    }
                    try_case(seed + n);
                }
            });
        }
    });
    println!("{cases} cases from seed {seed}, {:?}", begun.elapsed());
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(otherwise)
}

/// One act, and the dice that decide about it: the same whatever was done before.
#[derive(Debug, Clone, Copy)]
struct Act(What, u64);

#[derive(Debug, Clone, Copy)]
enum What {
    Drop,
    EditFields,
    EditText,
    EditDelete,
    HandEdit,
    HandBreak,
    HandStage,
    HandCommit,
    HandRemove,
    HandMove,
    OthersPush,
    RemoteAway,
    Ingest,
    Sync,
    Fetch,
    Kill,
    Fail,
    Restart,
    Resolve,
    ForgetStore,
}

/// What happens how often.
const ODDS: [(What, u64); 20] = [
    (What::Drop, 12),
    (What::EditFields, 12),
    (What::EditText, 6),
    (What::EditDelete, 3),
    (What::HandEdit, 8),
    (What::HandBreak, 1),
    (What::HandStage, 3),
    (What::HandCommit, 5),
    (What::HandRemove, 2),
    (What::HandMove, 2),
    (What::OthersPush, 18),
    (What::RemoteAway, 5),
    (What::Ingest, 12),
    (What::Sync, 8),
    (What::Fetch, 6),
    (What::Kill, 5),
    (What::Fail, 3),
    (What::Restart, 2),
    (What::Resolve, 4),
    (What::ForgetStore, 1),
];

fn acts(seed: u64) -> Vec<Act> {
    let mut dice = Dice::new(seed);
    let sum = ODDS.iter().map(|it| it.1).sum();
    let count = 4 + dice.roll(ACTS_MAX - 4);
    let mut one = || {
        let mut at = dice.roll(sum);
        let what = ODDS.iter().find(|it| {
            let here = at < it.1;
            at = at.saturating_sub(it.1);
            here
        });
        Act(what.unwrap().0, dice.roll(u64::MAX))
    };
    (0..count).map(|_| one()).collect()
}

fn try_case(seed: u64) {
    let all = acts(seed);
    let Err(why) = run(seed, &all) else { return };
    // The shortest list that fails, as far as leaving single acts out finds it.
    let (mut short, mut told, mut tries, mut at) = (all, why, 0, 0);
    while at < short.len() && tries < SHRINKS_MAX {
        let mut fewer = short.clone();
        fewer.remove(at);
        tries += 1;
        match run(seed, &fewer) {
            Err(why) => (short, told) = (fewer, why),
            Ok(()) => at += 1,
        }
    }
    panic!("seed {seed} fails with {short:?}:\n{told}");
}

/// Does the acts in a world of their own, and says what went wrong.
fn run(seed: u64, acts: &[Act]) -> Result<(), String> {
    let mut model = Model::new(seed);
    let done = catch_unwind(AssertUnwindSafe(|| {
        for act in acts {
            model.act(*act);
        }
        model.rest();
        model.check();
        model.resolve_all();
        model.rest();
        model.check();
    }));
    done.map_err(|it| {
        let text = it.downcast_ref::<String>().cloned();
        let text = text.or_else(|| it.downcast_ref::<&str>().map(|it| (*it).to_owned()));
        let told = model.told.join("\n");
        let settings = (&model.world.settings.conflict, &model.world.settings.mode);
        if std::env::var("MODEL_KEEP").is_ok() {
            model.world.dir.disable_cleanup(true);
        }
        let dir = model.world.dir.path().display();
        format!("{settings:?} in {dir}\n{told}\n=> {}", text.unwrap_or_default())
    })
}

/// The fields of a resource and their tokens, as a text says them.
type Values = BTreeMap<u64, u64>;

fn text_of(resource: u64, values: &Values, nonce: u64) -> String {
    let mut text = format!(
        "# written as {nonce}\napiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC\nmetadata:\n  name: r{resource}\n  annotations:\n"
    );
    for field in 0..FIELDS {
        let token = values.get(&field).copied().unwrap_or(0);
        text += &format!("    f{field}: t{token}.\n");
    }
    text + "spec:\n  subnets:\n    default: {subnet: 10.0.1.0/24, vlan: 1001}\n"
}

fn values_of(text: &str) -> Values {
    let mut values = Values::new();
    for line in text.lines() {
        let Some((field, token)) =
            line.trim().strip_prefix('f').and_then(|it| it.split_once(": t"))
        else {
            continue;
        };
        let token = token.trim_end_matches('.').parse();
        if let (Ok(field), Ok(token)) = (field.parse(), token) {
            values.insert(field, token);
        }
    }
    values
}

fn resource_of(text: &str) -> Option<u64> {
    text.lines().find_map(|it| it.trim().strip_prefix("name: r")?.parse().ok())
}

/// Somebody gave a field of a resource a value.
#[derive(Debug, Clone)]
struct Write {
    token: u64,
    resource: u64,
    field: u64,
    /// The value that it took the place of.
    saw: Option<u64>,
    by: By,
    /// It was accepted, so it must be found again.
    accepted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Drop,
    Edit,
    Hand,
    Others,
}

struct Model {
    dice: Dice,
    world: World,
    lane: Option<Lane>,
    others: PathBuf,
    away: bool,
    /// The agent has a step ahead of it that fails.
    faulty: bool,
    tokens: u64,
    writes: Vec<Write>,
    /// Texts that say again what other fields held when they were written.
    said_again: BTreeSet<(u64, u64, u64)>,
    /// Resources that a person decided about, or that were removed or moved by somebody.
    decided: BTreeSet<u64>,
    /// The commits of others.
    pushed: BTreeSet<String>,
    removed: BTreeSet<u64>,
    told: Vec<String>,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let mut world = World::in_memory();
        world.settings.intake.quiet = Duration::from_millis(1);
        world.settings.conflict = STRATEGIES[dice.roll(5) as usize];
        world.settings.mode = [Mode::Full, Mode::Full, Mode::Push][dice.roll(3) as usize];
        world.git(&["config", "gc.auto", "0"]);
        let others = world.dir.path().join("others");
        let mut model = Model {
            dice: Dice::new(seed),
            world,
            lane: None,
            others,
            away: false,
            faulty: false,
            tokens: 0,
            writes: Vec::new(),
            said_again: BTreeSet::new(),
            decided: BTreeSet::new(),
            pushed: BTreeSet::new(),
            removed: BTreeSet::new(),
            told: Vec::new(),
        };
        let texts: Vec<String> = (0..RESOURCES - 1)
            .map(|it| {
                let values = model.new_values(it, By::Drop);
                text_of(it, &values, 0)
            })
            .collect();
        model.world.drop("all.yaml", texts.join("---\n"));
        model.ask(&Request::Ingest { dry_run: false });
        git(model.world.dir.path(), &["clone", "-q", "remote.git", "others"]);
        model
    }

    fn act(&mut self, Act(what, seed): Act) {
        self.dice = Dice::new(seed);
        self.told.push(format!("- {what:?}"));
        match what {
            What::Drop => self.drop_some(),
            What::EditFields => self.edit_fields(),
            What::EditText => self.edit_text(),
            What::EditDelete => self.edit_delete(),
            What::HandEdit => self.hand_edit(),
            What::HandBreak => self.hand_break(),
            What::HandStage => self.hand_stage(),
            What::HandCommit => self.hand_commit(),
            What::HandRemove => self.hand_remove(),
            What::HandMove => self.hand_move(),
            What::OthersPush => self.others_push(),
            What::RemoteAway => self.remote_goes_or_comes(),
            What::Ingest => drop(self.ask(&Request::Ingest { dry_run: false })),
            What::Sync => self.sync(),
            What::Fetch => self.fetch(),
            What::Kill => {
                let n = 1 + self.dice.roll(40);
                self.world.steps.stop_after(n);
                self.faulty = true;
                self.say(format!("from step {n} on"));
            }
            What::Fail => {
                let n = 1 + self.dice.roll(30);
                self.world.steps.fail_once(n);
                self.say(format!("step {n}"));
            }
            What::Restart => self.lane = None,
            What::Resolve => self.resolve(),
            What::ForgetStore => {
                self.lane = None;
                let _ = std::fs::remove_dir_all(self.world.work().join(".git/intake/state"));
            }
        }
    }

    fn say(&mut self, text: impl Into<String>) {
        self.told.push(format!("    {}", text.into()));
    }

    // The agent.

    /// A running agent does something; one that was killed meanwhile is started again by the next.
    fn with_lane<T>(&mut self, work: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        if self.lane.is_none() {
            match self.world.open() {
                Ok(mut lane) => {
                    if let Err(error) = lane.prepare() {
                        self.say(format!("not prepared: {}", error.chain()));
                    }
                    self.lane = Some(lane);
                }
                Err(error) => self.say(format!("not opened: {}", error.chain())),
            }
        }
        let done = self.lane.as_mut().map(work);
        if std::mem::take(&mut self.faulty) {
            // Whether it was reached or not: the process ends here.
            self.lane = None;
            self.world.steps = Steps::default();
        }
        done
    }

    fn ask(&mut self, request: &Request) -> Option<Answer> {
        let answer = self.with_lane(|it| desk::answer(it, request, &Live::default()))?;
        if let Answer::Refused { message, .. } = &answer {
            self.say(format!("refused: {message}"));
        }
        if let Answer::Ingest(reports) = &answer {
            let told: Vec<_> = reports.iter().map(|it| format!("{:?}", it.delivery)).collect();
            self.say(told.join(", "));
        }
        Some(answer)
    }

    fn sync(&mut self) {
        let direction = match self.dice.roll(4) {
            0 => SyncDirection::GitToRecord,
            1 => SyncDirection::RecordToGit,
            _ => SyncDirection::Bidirectional,
        };
        let dry_run = self.dice.roll(6) == 0;
        let asked = SyncAsked { direction, dry_run, ..SyncAsked::default() };
        if let Some(Answer::Synced(it)) = self.ask(&Request::Sync(asked)) {
            self.say(format!("{direction:?} dry {dry_run}: {:?}", it.delivery));
        }
    }

    fn fetch(&mut self) {
        if let Some(Err(error)) = self.with_lane(sync::take_in) {
            self.say(error.chain());
        }
    }

    fn resolve(&mut self) {
        let strategy = STRATEGIES[1 + self.dice.roll(2) as usize];
        let decided = Decided { strategy: Some(strategy), ..Decided::default() };
        let answer = self.ask(&request(decided, None));
        if let Some(Answer::Resolved(it)) = answer {
            for one in it.conflicts.iter().filter(|it| it.resolved) {
                self.say(format!("{} by {strategy}", one.path));
            }
        }
        // Cut off in between it may be resolved as well.
        self.decided.extend(0..RESOURCES);
    }

    fn resolve_all(&mut self) {
        self.told.push("- all are resolved".to_owned());
        for _ in 0..2 {
            self.resolve();
        }
    }

    // Writes.

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    fn write(&mut self, resource: u64, field: u64, saw: Option<u64>, by: By) -> u64 {
        let token = self.token();
        self.say(format!("{by:?}: r{resource} f{field} {saw:?} -> t{token}"));
        self.writes.push(Write { token, resource, field, saw, by, accepted: true });
        token
    }

    fn new_values(&mut self, resource: u64, by: By) -> Values {
        (0..FIELDS).map(|it| (it, self.write(resource, it, None, by))).collect()
    }

    /// The text with another value in one field, perhaps two.
    fn rewritten(&mut self, resource: u64, text: &str, by: By) -> String {
        let mut out = text.to_owned();
        let first = self.dice.roll(FIELDS);
        for n in 0..=self.dice.roll(2) {
            let field = (first + n) % FIELDS;
            let Some(old) = values_of(&out).get(&field).copied() else { continue };
            let new = self.write(resource, field, Some(old), by);
            out = out.replace(&format!("f{field}: t{old}."), &format!("f{field}: t{new}."));
        }
        if self.dice.roll(3) == 0 {
            let comment = self.token();
            out = format!("# {by:?} says {comment}\n{out}");
        }
        out
    }

    /// The text as a whole is what somebody wants, whatever it replaces.
    fn as_a_whole(&mut self, resource: u64, text: &str) {
        for (field, token) in values_of(text) {
            self.said_again.insert((resource, field, token));
        }
    }

    fn refuse_from(&mut self, first: usize) {
        self.writes[first..].iter_mut().for_each(|it| it.accepted = false);
    }

    fn resource(&mut self) -> u64 {
        self.dice.roll(RESOURCES)
    }

    // Drops and edits of records.

    /// The managed files of a tree, by resource.
    fn files(&self, top: &Path) -> BTreeMap<u64, (PathBuf, String)> {
        let mut found = BTreeMap::new();
        let mut todo = vec![top.join("fabric-1/managed")];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    todo.push(path);
                } else if let Ok(text) = std::fs::read_to_string(&path)
                    && let Some(resource) = resource_of(&text)
                {
                    found.insert(resource, (path, text));
                }
            }
        }
        found
    }

    fn drop_some(&mut self) {
        let mut texts = Vec::new();
        let first = self.resource();
        for n in 0..=self.dice.roll(2) {
            let resource = (first + n) % RESOURCES;
            let there = self.files(&self.world.work()).remove(&resource);
            let text = match there {
                Some((_, text)) => self.rewritten(resource, &text, By::Drop),
                None => {
                    let (values, nonce) = (self.new_values(resource, By::Drop), self.token());
                    text_of(resource, &values, nonce)
                }
            };
            self.as_a_whole(resource, &text);
            texts.push(text);
        }
        let name = format!("drop-{}.yaml", self.token());
        self.world.drop(&name, texts.join("---\n"));
    }

    fn record(&mut self, resource: u64) -> Option<(Record, String)> {
        let name = format!("VPC/r{resource}");
        match self.ask(&Request::Text { name }) {
            Some(Answer::Text(it)) => Some((it.record, it.text)),
            _ => None,
        }
    }

    /// Whether an edit went through, decides whether it must be found again.
    fn edited(&mut self, first: usize, edit: Edit) {
        let name = edit.name.clone();
        match self.ask(&Request::Edit(edit)) {
            Some(Answer::Edited(it)) => {
                self.say(format!("{name:?}: {:?} open {}", it.delivery, it.open.len()));
            }
            _ => self.refuse_from(first),
        }
    }

    fn edit_fields(&mut self) {
        let resource = self.resource();
        let first = self.writes.len();
        let Some((_, text)) = self.record(resource) else { return };
        let field = self.dice.roll(FIELDS);
        let Some(old) = values_of(&text).get(&field).copied() else { return };
        let token = self.write(resource, field, Some(old), By::Edit);
        let (path, to) = (format!("metadata.annotations.f{field}"), format!("t{token}."));
        self.edited(first, edit(&format!("VPC/r{resource}"), fields(&[(&path, &to)], &[])));
    }

    /// An edit of the text, begun before somebody else does something.
    fn edit_text(&mut self) {
        let resource = self.resource();
        let first = self.writes.len();
        let Some((record, text)) = self.record(resource) else {
            let (values, nonce) = (self.new_values(resource, By::Edit), self.token());
            let text = text_of(resource, &values, nonce);
            self.as_a_whole(resource, &text);
            let change = EditChange::Text { text, base: None };
            return self.edited(first, Edit { name: None, ..edit("", change) });
        };
        let text = self.rewritten(resource, &text, By::Edit);
        let last = self.writes.len();
        if self.dice.roll(2) == 0 {
            self.others_push();
            self.fetch();
        }
        let change = EditChange::Text { text, base: Some(record.blob_id) };
        let own = self.writes[first..last].to_vec();
        self.edited(self.writes.len(), edit(&format!("VPC/r{resource}"), change));
        if self.told.last().is_some_and(|it| !it.contains("open")) {
            // Only its own writes were refused.
            for it in own {
                self.writes[first..last]
                    .iter_mut()
                    .filter(|w| w.token == it.token)
                    .for_each(|it| it.accepted = false);
            }
        }
    }

    fn edit_delete(&mut self) {
        let resource = self.resource();
        self.removed.insert(resource);
        let first = self.writes.len();
        self.edited(first, edit(&format!("VPC/r{resource}"), EditChange::Delete));
    }

    // Hands in the work tree.

    fn work_file(&mut self) -> Option<(u64, PathBuf, String)> {
        let files: Vec<_> = self.files(&self.world.work()).into_iter().collect();
        if files.is_empty() {
            return None;
        }
        let at = self.dice.roll(files.len() as u64) as usize;
        let (resource, (path, text)) = files.into_iter().nth(at)?;
        Some((resource, path, text))
    }

    fn hand_edit(&mut self) {
        let Some((resource, path, text)) = self.work_file() else { return };
        let text = self.rewritten(resource, &text, By::Hand);
        std::fs::write(path, text).unwrap();
    }

    /// Somebody is in the middle of something: no YAML for now.
    fn hand_break(&mut self) {
        let Some((_, path, text)) = self.work_file() else { return };
        std::fs::write(&path, format!("{text}broken: [\n")).unwrap();
        self.say(path.display().to_string());
    }

    fn hand_stage(&mut self) {
        let Some((_, path, _)) = self.work_file() else { return };
        let path = path.display().to_string();
        git_output(&self.world.work(), &["add", "--", &path]);
        self.say(path);
    }

    fn hand_commit(&mut self) {
        let args = ["commit", "-q", "-a", "-m", "by hand"];
        let done = git_output(&self.world.work(), &args).status.success();
        self.say(format!("committed {done}"));
    }

    fn hand_remove(&mut self) {
        let Some((resource, path, _)) = self.work_file() else { return };
        self.removed.insert(resource);
        self.say(path.display().to_string());
        std::fs::remove_file(path).unwrap();
    }

    fn hand_move(&mut self) {
        let Some((resource, path, text)) = self.work_file() else { return };
        self.as_a_whole(resource, &text);
        self.removed.insert(resource);
        let dir = self.world.managed("moved");
        std::fs::create_dir_all(&dir).unwrap();
        let to = dir.join(path.file_name().unwrap());
        self.say(format!("{} -> {}", path.display(), to.display()));
        std::fs::rename(path, to).unwrap();
    }

    // Others.

    fn others_push(&mut self) {
        let others = self.others.clone();
        git(&others, &["fetch", "-q"]);
        git(&others, &["reset", "-q", "--hard", "origin/main"]);
        for _ in 0..=self.dice.roll(3) {
            self.others_change(&others);
        }
        git(&others, &["add", "-A"]);
        if git_output(&others, &["commit", "-q", "-m", "theirs"]).status.success() {
            git(&others, &["push", "-q"]);
            self.pushed.insert(git(&others, &["rev-parse", "HEAD"]).trim().to_owned());
        }
    }

    fn others_change(&mut self, others: &Path) {
        let resource = self.resource();
        let managed = others.join("fabric-1/managed");
        let there = self.files(others).remove(&resource);
        let Some((path, text)) = there else {
            let (values, nonce) = (self.new_values(resource, By::Others), self.token());
            let text = text_of(resource, &values, nonce);
            self.as_a_whole(resource, &text);
            let place = match self.dice.roll(5) {
                // A file that is pushed into raw/ is taken like a drop.
                0 => others.join(format!("fabric-1/raw/theirs-{nonce}.yaml")),
                _ => managed.join(format!("vpcs/r{resource}.yaml")),
            };
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            return std::fs::write(place, text).unwrap();
        };
        match self.dice.roll(8) {
            0 => {
                self.removed.insert(resource);
                self.say(format!("others remove {}", path.display()));
                std::fs::remove_file(path).unwrap();
            }
            1 => {
                self.as_a_whole(resource, &text);
                self.removed.insert(resource);
                let dir = managed.join(format!("team-{}", self.dice.roll(2)));
                std::fs::create_dir_all(&dir).unwrap();
                let to = dir.join(path.file_name().unwrap());
                self.say(format!("others move {} -> {}", path.display(), to.display()));
                std::fs::rename(path, to).unwrap();
            }
            2 => {
                let note = self.token();
                std::fs::write(others.join("notes"), format!("{note}\n")).unwrap();
            }
            _ => {
                let text = self.rewritten(resource, &text, By::Others);
                std::fs::write(path, text).unwrap();
            }
        }
    }

    fn remote_goes_or_comes(&mut self) {
        self.away = !self.away;
        let url = match self.away {
            true => "/nonexistent/remote.git".to_owned(),
            false => self.world.remote.display().to_string(),
        };
        self.world.git(&["config", "remote.origin.url", &url]);
        // A running agent has read it already.
        self.lane = None;
        self.say(if self.away { "away" } else { "back" });
    }

    // Rest.

    /// The remote is back, whoever was in the middle of something has done it, and the agent works
    /// undisturbed.
    fn rest(&mut self) {
        self.told.push("- rest".to_owned());
        if self.away {
            self.remote_goes_or_comes();
        }
        self.faulty = false;
        self.lane = None;
        self.world.steps = Steps::default();
        for _ in 0..PASSES_MAX {
            self.ask(&Request::Sync(SyncAsked::default()));
            // What waited for a person comes with the next pass.
            let finished = self.finish_by_hand();
            if !finished && self.is_at_rest() {
                return;
            }
        }
        let status = self.world.git(&["status", "--porcelain", "-b"]);
        panic!("does not come to rest: {status}");
    }

    /// A person commits what is valid and was left, and undoes what is not; says whether anything was.
    fn finish_by_hand(&mut self) -> bool {
        let mut finished = false;
        let work = self.world.work();
        let files: Vec<_> = self.files(&work).into_iter().collect();
        for (resource, (path, text)) in files {
            if let Some(whole) = text.strip_suffix("broken: [\n") {
                finished = true;
                self.say(format!("mended r{resource}"));
                std::fs::write(path, whole.replace("broken: [\n", "")).unwrap();
            }
        }
        let managed = "fabric-1/managed";
        git(&work, &["add", "-A", "--", managed]);
        let args = ["commit", "-q", "-m", "by hand at last", "--", managed];
        if git_output(&work, &args).status.success() {
            finished = true;
            self.say("committed at last");
        }
        finished
    }

    fn is_at_rest(&mut self) -> bool {
        let head = self.world.git(&["rev-parse", "HEAD"]);
        let clean = self.world.git(&["status", "--porcelain", "--", "fabric-1/managed"]);
        git(&self.world.remote, &["rev-parse", "main"]) == head && clean.is_empty()
    }

    fn check(&mut self) {
        // One more turn changes nothing.
        let before = self.world.git(&["rev-parse", "HEAD"]);
        self.ask(&Request::Ingest { dry_run: false });
        let steps = self.world.steps.taken();
        self.ask(&Request::Ingest { dry_run: false });
        assert_eq!(self.world.steps.taken(), steps, "a turn with nothing to do did something");
        assert_eq!(self.world.git(&["rev-parse", "HEAD"]), before, "a turn made a commit");
        let checked = self.with_lane(|lane| {
            let name = lane.fabrics[0].fabric.name.clone();
            let strays: Vec<Stray> = lane.store.strays(&name).map(Result::unwrap).collect();
            let strange: BTreeSet<String> = strays.iter().map(|it| it.path.to_string()).collect();
            let report = verify::verify(lane, true).unwrap();
            let differ = report.differences.into_iter().filter(|it| !strange.contains(&it.subject));
            assert_eq!(differ.collect::<Vec<_>>(), vec![], "strays {strays:?}");
            assert!(lane.store.open_operations().unwrap().is_empty(), "an operation is open");
            assert!(lane.fabrics[0].hold.is_none());
        });
        assert!(checked.is_some(), "the agent does not start");
        assert_eq!(self.world.git(&["fsck", "--strict", "--no-dangling"]), "");
        self.no_commit_is_empty();
        self.nothing_is_lost();
        self.nothing_comes_back();
    }

    fn no_commit_is_empty(&self) {
        let log = self.world.git(&["log", "--format=%H %T %P"]);
        let lines: Vec<Vec<&str>> = log.lines().map(|it| it.split_whitespace().collect()).collect();
        let trees: BTreeMap<&str, &str> = lines.iter().map(|it| (it[0], it[1])).collect();
        for it in &lines {
            let parent = it.get(2).and_then(|it| trees.get(it));
            assert_ne!(parent, Some(&it[1]), "{} changes nothing", it[0]);
        }
    }

    /// Every token in the remote's history, and those that wait in `raw/` or as a conflict.
    fn found(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let tokens = |text: &str, begins: &str| -> BTreeSet<u64> {
            let lines = text.lines().filter(|it| it.starts_with(begins));
            lines.filter_map(|it| it.split_once(": t")?.1.strip_suffix('.')?.parse().ok()).collect()
        };
        let all = git(&self.world.remote, &["rev-list", "main"]);
        let all: BTreeSet<&str> = all.lines().collect();
        assert!(self.pushed.iter().all(|it| all.contains(it.as_str())), "a commit is gone");
        let history = git(&self.world.remote, &["log", "-p", "-m", "--format=", "main"]);
        let mut waiting = BTreeSet::new();
        let refs =
            self.world.git(&["for-each-ref", "--format=%(refname)", "refs/intake/conflicts"]);
        if !refs.is_empty() {
            // What each side has, and the commits that led to ours.
            let mut args = vec!["log", "-p", "-m", "--root", "--format="];
            args.extend(refs.lines());
            args.push("^refs/heads/main");
            waiting.extend(tokens(&self.world.git(&args), "+"));
        }
        for entry in std::fs::read_dir(self.world.raw("")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.to_string_lossy().ends_with(".rejected.txt") {
                waiting.extend(tokens(&std::fs::read_to_string(path).unwrap(), ""));
            }
        }
        (tokens(&history, "+"), waiting)
    }

    fn nothing_is_lost(&self) {
        let (history, waiting) = self.found();
        for it in self.writes.iter().filter(|it| it.accepted) {
            if history.contains(&it.token) || waiting.contains(&it.token) {
                continue;
            }
            assert!(self.gave_way(it), "t{} is lost: {it:?}", it.token);
        }
    }

    /// Whether a rule says that a write may be nowhere.
    fn gave_way(&self, it: &Write) -> bool {
        // A person decided.
        if self.decided.contains(&it.resource) {
            return true;
        }
        let rivals = || {
            self.writes
                .iter()
                .filter(|w| w.resource == it.resource && w.field == it.field && w.token != it.token)
        };
        // The same hand wrote over it, or removed it, before it was committed.
        let over = rivals().any(|w| w.by == it.by && w.saw == Some(it.token));
        let gone = self.removed.contains(&it.resource);
        if matches!(it.by, By::Hand | By::Others) && (over || gone) {
            return true;
        }
        // It waits as a conflict together with what was made of it later on the same side.
        if it.by != By::Others
            && rivals().any(|w| w.saw == Some(it.token) && w.by != By::Others && w.accepted)
        {
            return true;
        }
        // The strategy prefers the other side, and there is one.
        let strategy = self.world.settings.conflict;
        let decides = !matches!(strategy, ConflictStrategy::Merge | ConflictStrategy::Manual);
        decides && (gone || rivals().any(|w| w.by != it.by))
    }

    /// What somebody replaced is not there again, unless somebody said it again.
    fn nothing_comes_back(&self) {
        let (history, _) = self.found();
        for (resource, (_, text)) in self.files(&self.world.work()) {
            // Who removed it and who changed it have met: one of them has it as a whole.
            if self.decided.contains(&resource) || self.removed.contains(&resource) {
                continue;
            }
            for (field, value) in values_of(&text) {
                let over = self.writes.iter().find(|w| {
                    (w.resource, w.field, w.saw) == (resource, field, Some(value))
                        && w.accepted
                        && history.contains(&w.token)
                });
                let again = self.said_again.contains(&(resource, field, value));
                assert!(over.is_none() || again, "t{value} is back in place of {over:?}");
            }
        }
    }
}
