//! What the local repository says: settings, references, and where a remote is.

use std::{collections::BTreeMap, fs, io::IsTerminal, path::PathBuf, process::Command};

use gix::ObjectId;

/// The program that git is.
pub fn program() -> String {
    std::env::var("PUSH_SHIM_GIT").unwrap_or_else(|_| "git".into())
}

/// What git prints, if it succeeds.
pub fn git(args: &[&str]) -> Option<String> {
    let output = Command::new(program()).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    output.status.success().then_some(text)
}

/// The object that a revision names.
pub fn object(revision: &str) -> Option<ObjectId> {
    let id = git(&["rev-parse", "--verify", "-q", "--end-of-options", revision])?;
    ObjectId::from_hex(id.as_bytes()).ok()
}

/// A local reference.
#[derive(Clone)]
pub struct Local {
    pub name: String,
    pub id: ObjectId,
    pub is_tag_object: bool,
}

/// The local repository, asked once.
pub struct Here {
    config: Vec<(String, String)>,
    /// Those of the command line (`-c`), which gix does not look for.
    commanded: Vec<(String, String)>,
    pub refs: Vec<Local>,
    /// The branch that HEAD is on.
    pub head: Option<String>,
    dir: PathBuf,
}

/// What stands for the value of a key that has none, which is as good as true.
const NO_VALUE: &str = "\0";

/// A place to push to.
pub struct Remote {
    pub name: String,
    pub urls: Vec<String>,
    /// Its own refspecs for pushing.
    pub push: Vec<String>,
    pub fetch: Vec<String>,
}

impl Here {
    pub fn look() -> Option<Here> {
        let text = git(&["config", "-z", "--list", "--show-scope"])?;
        let mut parts = text.split('\0');
        let (mut config, mut commanded) = (Vec::new(), Vec::new());
        while let (Some(scope), Some(entry)) = (parts.next(), parts.next()) {
            let (key, value) = entry.split_once('\n').unwrap_or((entry, NO_VALUE));
            let entry = (key.to_owned(), value.to_owned());
            if scope == "command" {
                commanded.push(entry.clone());
            }
            config.push(entry);
        }
        let listed = git(&["for-each-ref", "--format=%(objectname) %(objecttype) %(refname)"])?;
        let mut refs = Vec::new();
        for line in listed.lines() {
            let mut parts = line.splitn(3, ' ');
            let id = ObjectId::from_hex(parts.next()?.as_bytes()).ok()?;
            let is_tag_object = parts.next()? == "tag";
            refs.push(Local { name: parts.next()?.to_owned(), id, is_tag_object });
        }
        Some(Here {
            config,
            commanded,
            refs,
            head: git(&["symbolic-ref", "-q", "HEAD"]),
            dir: git(&["rev-parse", "--git-common-dir"])?.into(),
        })
    }

    /// Gives `repo` the settings of the command line.
    pub fn command(&self, repo: &mut gix::Repository) {
        let mut config = repo.config_snapshot_mut();
        for (key, value) in self.commanded.iter().filter(|it| it.1 != NO_VALUE) {
            let _ = config.set_raw_value(key.as_str(), value.as_str());
        }
    }

    /// The last value of a setting.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.config.iter().rfind(|it| it.0 == key).map(|it| it.1.as_str())
    }

    /// Whether a setting is on.
    pub fn is_on(&self, key: &str) -> bool {
        self.get(key).is_some_and(|it| ["true", "yes", "on", "1", NO_VALUE].contains(&it))
    }

    pub fn all(&self, key: &str) -> Vec<String> {
        self.config.iter().filter(|it| it.0 == key).map(|it| it.1.clone()).collect()
    }

    fn branch(&self) -> Option<&str> {
        self.head.as_deref().and_then(|it| it.strip_prefix("refs/heads/"))
    }

    /// Where a push goes that names no remote.
    pub fn default_remote(&self) -> String {
        let of_branch = |key: &str| self.get(&format!("branch.{}.{key}", self.branch()?));
        let named = of_branch("pushremote").or_else(|| self.get("remote.pushdefault"));
        named.map(str::to_owned).unwrap_or_else(|| self.upstream_remote())
    }

    /// Where the current branch's upstream is.
    pub fn upstream_remote(&self) -> String {
        let own = self.branch().and_then(|it| self.get(&format!("branch.{it}.remote")));
        if let Some(name) = own {
            return name.to_owned();
        }
        let parts = self.config.iter().filter_map(|it| it.0.strip_prefix("remote."));
        let mut names: Vec<_> = parts.filter_map(|it| Some(it.rsplit_once('.')?.0)).collect();
        names.dedup();
        match names[..] {
            [only] => only.to_owned(),
            _ => "origin".to_owned(),
        }
    }

    /// The remote of a name, or what an address by itself makes of one.
    pub fn remote(&self, name: &str) -> Remote {
        let part = |key: &str| self.all(&format!("remote.{name}.{key}"));
        let mut remote = Remote {
            name: name.to_owned(),
            urls: part("url"),
            push: part("push"),
            fetch: part("fetch"),
        };
        let plain = !name.is_empty() && !name.contains('/') && !name.starts_with("..");
        if remote.urls.is_empty() && plain {
            self.read_remotes_file(&mut remote);
        }
        if remote.urls.is_empty() && plain {
            self.read_branches_file(&mut remote);
        }
        if remote.urls.is_empty() {
            remote.urls.push(name.to_owned());
        }
        let own = part("pushurl");
        let instead = self.rewrites("insteadof");
        if own.is_empty() {
            let for_push = self.rewrites("pushinsteadof");
            let moved: Vec<_> =
                remote.urls.iter().filter_map(|it| rewritten(it, &for_push)).collect();
            let kept = remote.urls.iter().map(|it| rewritten(it, &instead).unwrap_or(it.clone()));
            remote.urls = if moved.is_empty() { kept.collect() } else { moved };
        } else {
            let own = own.into_iter().map(|it| rewritten(&it, &instead).unwrap_or(it));
            remote.urls = own.collect();
        }
        remote
    }

    /// Beginnings of addresses and what to put there.
    fn rewrites(&self, kind: &str) -> Vec<(&str, &str)> {
        let of = |key: &'_ str| -> Option<(usize, usize)> {
            let (base, last) = key.strip_prefix("url.")?.rsplit_once('.')?;
            (last == kind).then_some((4, 4 + base.len()))
        };
        let found = self
            .config
            .iter()
            .filter_map(|(key, value)| of(key).map(|(from, to)| (value.as_str(), &key[from..to])));
        found.collect()
    }

    /// The first form of remotes that git knew: lines of `URL:`, `Push:` and `Pull:`.
    fn read_remotes_file(&self, remote: &mut Remote) {
        let text = fs::read_to_string(self.dir.join("remotes").join(&remote.name));
        for line in text.unwrap_or_default().lines() {
            let value = |key: &str| line.strip_prefix(key).map(|it| it.trim().to_owned());
            remote.urls.extend(value("URL:"));
            remote.push.extend(value("Push:"));
            remote.fetch.extend(value("Pull:"));
        }
    }

    /// The second: one line with an address, and a branch after `#`.
    fn read_branches_file(&self, remote: &mut Remote) {
        let text = fs::read_to_string(self.dir.join("branches").join(&remote.name));
        let Ok(text) = text else { return };
        let (url, branch) = match text.trim().split_once('#') {
            Some((url, branch)) => (url, branch.to_owned()),
            None => {
                let default = self.get("init.defaultbranch").map(str::to_owned);
                let tests = std::env::var("GIT_TEST_DEFAULT_INITIAL_BRANCH_NAME").ok();
                (text.trim(), tests.or(default).unwrap_or_else(|| "master".into()))
            }
        };
        if !url.is_empty() {
            remote.urls.push(url.to_owned());
            remote.push.push(format!("HEAD:refs/heads/{branch}"));
        }
    }

    /// The reference behind a name, through a symbolic one.
    pub fn resolve(&self, name: &str) -> Option<String> {
        if name == "HEAD" {
            return Some(self.head.clone().unwrap_or_else(|| "HEAD".into()));
        }
        self.refs.iter().find(|it| it.name == name)?;
        git(&["symbolic-ref", "-q", name]).or_else(|| Some(name.to_owned()))
    }

    /// Where the remote's reference is followed here.
    pub fn tracking(&self, remote: &Remote, name: &str) -> Option<String> {
        let specs = remote.fetch.iter().map(|it| it.trim_start_matches('+'));
        specs.filter_map(|it| it.split_once(':')).find_map(|(from, to)| {
            if from == name { Some(to.to_owned()) } else { mapped(from, name, to) }
        })
    }

    /// `text` in a colour, where the settings and the terminal want one.
    pub fn painted(&self, what: &str, colour: &str, text: &str) -> String {
        let wanted = self.get(&format!("color.{what}")).or_else(|| self.get("color.ui"));
        let to_terminal = || std::io::stderr().is_terminal();
        match wanted.unwrap_or("auto") {
            "always" => {}
            "auto" | "true" if to_terminal() => {}
            _ => return text.to_owned(),
        }
        format!("{colour}{text}\x1b[m")
    }

    /// Whether there are settings that git refuses to read.
    pub fn is_malformed(&self) -> bool {
        self.config.iter().any(|it| it.0.starts_with("branch..") || it == &no_option())
    }

    /// The push options of the settings; an empty one takes back those before it.
    pub fn push_options(&self) -> Vec<String> {
        let all = self.all("push.pushoption");
        let after = all.iter().rposition(String::is_empty).map_or(0, |it| it + 1);
        all[after..].to_vec()
    }

    pub fn hook_exists(&self) -> bool {
        git(&["rev-parse", "--git-path", "hooks/pre-push"])
            .is_some_and(|it| PathBuf::from(it).is_file())
    }

    pub fn by_name(&self) -> BTreeMap<&str, &Local> {
        self.refs.iter().map(|it| (it.name.as_str(), it)).collect()
    }
}

/// A push option that is named and has no value.
fn no_option() -> (String, String) {
    ("push.pushoption".to_owned(), NO_VALUE.to_owned())
}

fn rewritten(url: &str, rewrites: &[(&str, &str)]) -> Option<String> {
    let fitting = rewrites.iter().filter(|it| url.starts_with(it.0));
    let (from, to) = fitting.max_by_key(|it| it.0.len())?;
    Some(format!("{to}{}", &url[from.len()..]))
}

/// What `name` becomes if it fits `pattern`, which has one star, as `target` has.
pub fn mapped(pattern: &str, name: &str, target: &str) -> Option<String> {
    let (before, after) = pattern.split_once('*')?;
    let middle = name.strip_prefix(before)?.strip_suffix(after)?;
    Some(target.replacen('*', middle, 1))
}
