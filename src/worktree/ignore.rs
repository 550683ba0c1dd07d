//! What lies in `raw/` and is no drop: hidden, half written, an editor's, or named by the operator.
//!
//! Patterns are gitignore's, matched by the same code that reads `.gitignore` files.
//! Nothing in `raw/` itself changes what is taken: there are no magic files.

use super::TEMP_PREFIX;
use crate::model::report::Ignored;
use crate::pipeline::REPORT_SUFFIX;
use bstr::ByteSlice;
use gix::glob::pattern::Case;
use gix::ignore::Search;
use gix::ignore::search::Ignore;

/// What editors, browsers and transfers leave behind or rename at the end, in gitignore syntax.
///
/// vim, emacs, nano, kate and mc; Firefox, Chromium, Safari; rsync, WinSCP, curl; office programs;
/// and what file systems and archives of other makers bring along.
const LEFTOVERS: [&str; 18] = [
    ".*",
    "*~",
    "\\#*",
    "~$*",
    "*.tmp",
    "*.temp",
    "*.part",
    "*.partial",
    "*.filepart",
    "*.crdownload",
    "*.download",
    "*.opdownload",
    "*.swp",
    "*.swx",
    "*.swo",
    "lost+found/",
    "__MACOSX/",
    "@eaDir/",
];

/// Directories at the top of `raw/` that the agent keeps for what it put aside.
const ASIDE: [&[u8]; 2] = [b"processed", b"errors"];

/// Which entries of `raw/` are no drops.
#[derive(Debug, Clone)]
pub struct Ignores {
    leftovers: Search,
    own: Search,
}

impl Default for Ignores {
    fn default() -> Ignores {
        Ignores::new(&[])
    }
}

impl Ignores {
    /// The built-in patterns, and those of the operator: where one of them matches, the last that
    /// does decides, and one with `!` takes what the built-in ones leave.
    pub fn new(patterns: &[String]) -> Ignores {
        let plain = Ignore { support_precious: false };
        Ignores {
            leftovers: Search::from_overrides(LEFTOVERS, plain),
            own: Search::from_overrides(patterns, plain),
        }
    }

    /// Says why the entry at `path`, relative to `raw/`, is no drop and holds none; none where it
    /// may. The directories above it are not asked again.
    pub fn why(&self, path: &[u8], is_dir: bool) -> Option<Ignored> {
        let name = path.rsplit(|it| *it == b'/').next().unwrap_or(path);
        if name.starts_with(TEMP_PREFIX.as_bytes()) {
            return Some(Ignored::Ours);
        }
        if name.ends_with(REPORT_SUFFIX.as_bytes()) && !is_dir {
            return Some(Ignored::Report);
        }
        if is_dir && ASIDE.contains(&path) {
            return Some(Ignored::Aside);
        }
        if let Some(it) = found(&self.own, path, is_dir, Case::Sensitive) {
            return match it.pattern.is_negative() {
                true => None,
                false => Some(Ignored::Pattern { pattern: it.pattern.to_string() }),
            };
        }
        let it = found(&self.leftovers, path, is_dir, Case::Fold)?;
        Some(match name.first() {
            Some(b'.') => Ignored::Hidden,
            _ => Ignored::Leftover { pattern: it.pattern.to_string() },
        })
    }

    /// Says the same of an entry whose directories may be ignored too.
    pub fn why_anywhere(&self, path: &[u8]) -> Option<Ignored> {
        let above = path.iter().enumerate().filter(|(_, it)| **it == b'/');
        let mut above = above.map(|(at, _)| self.why(&path[..at], true));
        above.find_map(|it| it).or_else(|| self.why(path, false))
    }
}

/// Which drops somebody means, by where they lie.
#[derive(Debug)]
pub struct Patterns(Search);

impl Patterns {
    /// In gitignore syntax: the last that matches decides, and one with `!` leaves out.
    pub fn new(patterns: &[String]) -> Patterns {
        Patterns(Search::from_overrides(patterns, Ignore { support_precious: false }))
    }

    /// Says whether they take the file at `path`, or a directory above it.
    pub fn take(&self, path: &[u8]) -> bool {
        let takes = |path: &[u8], is_dir| {
            let it = found(&self.0, path, is_dir, Case::Sensitive)?;
            Some(!it.pattern.is_negative())
        };
        if let Some(it) = takes(path, false) {
            return it;
        }
        let above = path.iter().enumerate().rev().filter(|(_, it)| **it == b'/');
        above.map(|(at, _)| takes(&path[..at], true)).find_map(|it| it).unwrap_or(false)
    }
}

fn found<'a>(
    patterns: &'a Search,
    path: &[u8],
    is_dir: bool,
    case: Case,
) -> Option<gix::ignore::search::Match<'a>> {
    patterns.pattern_matching_relative_path(path.as_bstr(), Some(is_dir), case)
}

/// Says whether the name ends like a manifest.
pub(super) fn has_drop_name(name: &[u8]) -> bool {
    [&b".yaml"[..], b".yml", b".json"]
        .iter()
        .any(|it| name.len() > it.len() && name[name.len() - it.len()..].eq_ignore_ascii_case(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(patterns: &[&str], path: &str) -> Option<Ignored> {
        let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
        Ignores::new(&patterns).why_anywhere(path.as_bytes())
    }

    #[test]
    fn what_editors_and_transfers_leave_behind_is_no_drop() {
        for path in [
            ".a.yaml",
            ".a.yaml.swp",
            "a.yaml~",
            "a.yaml.~1~",
            "#a.yaml#",
            ".#a.yaml",
            "~$a.yaml",
            ".goutputstream-ABC",
            ".a.yaml.Xy12z",
            "a.yaml.part",
            "a.YAML.TMP",
            ".~lock.a.yaml#",
            "a.yaml.crdownload",
            ".nfs0000001",
            "a.yaml.filepart",
            ".a.yaml.kate-swp",
            "team/.git/config.yaml",
            "lost+found/a.yaml",
            "a.download/a.yaml",
            "__MACOSX/a.yaml",
            ".git-intake-x.tmp",
            "processed/a.yaml",
            "errors/a.yaml",
            "a.yaml.rejected.txt",
        ] {
            assert!(why(&[], path).is_some(), "{path}");
        }
        for path in [
            "a.yaml",
            "team/a.yaml",
            "partial.yaml",
            "tmp/a.yaml",
            "-a.yaml",
            "team/processed/a.yaml",
            "pending/a.yaml",
            "a.tmp.yaml",
            "lost+found",
        ] {
            assert_eq!(why(&[], path), None, "{path}");
        }
    }

    #[test]
    fn the_operators_patterns_are_gitignores_and_have_the_last_word() {
        let patterns = ["drafts/", "*.local.yaml", "!keep.local.yaml", "/top.yaml", "a/**/z.yaml"];
        for (path, ignored) in [
            ("drafts/a.yaml", true),
            ("team/drafts/deep/a.yaml", true),
            ("drafts", false),
            ("a.local.yaml", true),
            ("team/keep.local.yaml", false),
            ("top.yaml", true),
            ("team/top.yaml", false),
            ("a/b/c/z.yaml", true),
            ("b/z.yaml", false),
        ] {
            assert_eq!(why(&patterns, path).is_some(), ignored, "{path}");
        }
        assert_eq!(why(&["!.hidden.yaml"], ".hidden.yaml"), None);
        assert_eq!(why(&["!*"], ".git-intake-taken-a.yaml"), Some(Ignored::Ours));
        assert_eq!(why(&["!*"], "a.yaml.rejected.txt"), Some(Ignored::Report));
    }

    #[test]
    fn patterns_take_files_and_what_lies_in_directories() {
        let take = |patterns: &[&str], path: &str| {
            let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
            Patterns::new(&patterns).take(path.as_bytes())
        };
        assert!(take(&["*.yaml"], "team/a.yaml") && take(&["team/"], "team/deep/a.yaml"));
        assert!(take(&["/a.yaml"], "a.yaml") && !take(&["/a.yaml"], "team/a.yaml"));
        assert!(!take(&["team/", "!b.yaml"], "team/b.yaml") && !take(&["*.json"], "a.yaml"));
    }
}
