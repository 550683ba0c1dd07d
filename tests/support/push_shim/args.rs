//! The words after `git push`, sorted out.

/// What was asked for.
#[derive(Default)]
pub struct Asked {
    pub force: bool,
    /// `None` stands for every reference, at what was last seen of it.
    pub leases: Vec<Option<String>>,
    pub atomic: bool,
    pub delete: bool,
    pub porcelain: bool,
    pub verbosity: i32,
    pub dry_run: bool,
    pub upstream: bool,
    pub all: bool,
    pub mirror: bool,
    pub tags: bool,
    pub follow_tags: Option<bool>,
    pub prune: bool,
    pub no_thin: bool,
    pub progress: Option<bool>,
    pub no_verify: bool,
    pub options: Vec<String>,
    pub receive_pack: Option<String>,
    pub repo: Option<String>,
    pub rest: Vec<String>,
}

/// Reads the words; none of a form that is git's own affair (`--signed`, submodules, help).
pub fn parse(args: &[String]) -> Option<Asked> {
    let mut out = Asked::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = |name: &str| arg.strip_prefix(name).and_then(|it| it.strip_prefix('='));
        match arg.as_str() {
            "-f" | "--force" => out.force = true,
            "--no-force" => out.force = false,
            "--atomic" => out.atomic = true,
            "--no-atomic" => out.atomic = false,
            "-d" | "--delete" => out.delete = true,
            "--porcelain" => out.porcelain = true,
            "-q" | "--quiet" => out.verbosity = -1,
            "-v" | "--verbose" => out.verbosity = out.verbosity.max(0) + 1,
            "-n" | "--dry-run" => out.dry_run = true,
            "-u" | "--set-upstream" => out.upstream = true,
            "--all" | "--branches" => out.all = true,
            "--mirror" => out.mirror = true,
            "--tags" => out.tags = true,
            "--follow-tags" => out.follow_tags = Some(true),
            "--no-follow-tags" => out.follow_tags = Some(false),
            "--prune" => out.prune = true,
            "--no-thin" => out.no_thin = true,
            "--thin" => out.no_thin = false,
            "--no-signed" | "--recurse-submodules=no" | "--no-recurse-submodules" => {}
            "--progress" => out.progress = Some(true),
            "--no-progress" => out.progress = Some(false),
            "--no-verify" => out.no_verify = true,
            "--verify" => out.no_verify = false,
            "--force-with-lease" => out.leases.push(None),
            "--no-force-with-lease" => out.leases.clear(),
            "-o" | "--push-option" => out.options.push(args.next()?.clone()),
            "--receive-pack" | "--exec" => out.receive_pack = Some(args.next()?.clone()),
            "--repo" => out.repo = Some(args.next()?.clone()),
            "--" => out.rest.extend(args.by_ref().cloned()),
            _ => {
                if let Some(lease) = value("--force-with-lease") {
                    out.leases.push(Some(lease.into()));
                } else if let Some(option) = value("--push-option") {
                    out.options.push(option.into());
                } else if let Some(path) = value("--receive-pack").or(value("--exec")) {
                    out.receive_pack = Some(path.into());
                } else if let Some(name) = value("--repo") {
                    out.repo = Some(name.into());
                } else if arg.starts_with('-') {
                    return None;
                } else {
                    out.rest.push(arg.clone());
                }
            }
        }
    }
    let named = out.rest.len() > 1;
    // Git has words of its own for what does not go together.
    let clash = out.delete && (out.all || out.mirror || out.tags || !named)
        || out.all && (out.tags || out.mirror || named)
        || out.mirror && (out.tags || named);
    (!clash).then_some(out)
}
