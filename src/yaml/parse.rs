//! Text becomes documents, under limits, one event at a time.

use super::build::Builder;
use super::{Fault, Limits, Node, decode, fault, plain};
use libyaml_safer::{Encoding, EventData, Parser};
use std::borrow::Cow;
use std::io::BufReader;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// More faults than this in one text help nobody, and each costs a look for the next document.
const FAULTS_MAX: usize = 100;
/// The parser takes all that its input has at hand, four bytes for each: little at a time stays in
/// the processor's cache.
const AT_HAND_BYTES: usize = 1024;

/// One document of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Its value; none where it holds nothing but comments.
    pub root: Option<Node>,
    /// Where its text stands: behind its `---` and up to the next. Comments are part of it.
    pub region: Range<usize>,
    /// Comments that stand before its `---`, where nothing else does.
    pub preface: Range<usize>,
    /// Its text says the same when it stands alone: no directive before it, and nothing but a
    /// comment on the line of its `---`.
    pub alone: bool,
}

/// A document that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Why.
    pub fault: Fault,
    /// Where it stands: up to the next `---`, from the one it began with. What was read before it
    /// without a `---` between is part of it.
    pub region: Range<usize>,
}

/// Splits `text` into documents, up to the first fault.
pub fn parse(text: &str, limits: Limits) -> (Vec<Parsed>, Option<Fault>) {
    let (mut documents, mut fault) = (Vec::new(), None);
    parse_all(text, limits, 1, true, &mut |it| match it {
        Ok(document) => documents.push(document),
        Err(broken) => fault = Some(broken.fault),
    });
    (documents, fault)
}

/// Splits `text` into documents, and reads on behind a document with a fault: a `---` at the
/// beginning of a line ends whatever stands before it, so the next document can be judged.
pub fn parse_on(text: &str, limits: Limits) -> Vec<Result<Parsed, Broken>> {
    let mut found = Vec::new();
    parse_each(text, limits, &mut |it| found.push(it));
    found
}

/// The same, one document at a time: what it holds need not live longer than it takes to judge it.
pub fn parse_each(text: &str, limits: Limits, take: &mut dyn FnMut(Result<Parsed, Broken>)) {
    parse_all(text, limits, FAULTS_MAX, true, take);
}

/// The same by libyaml alone, to compare with.
#[cfg(any(test, fuzzing))]
pub fn parse_on_by_libyaml(text: &str, limits: Limits) -> Vec<Result<Parsed, Broken>> {
    let mut found = Vec::new();
    parse_all(text, limits, FAULTS_MAX, false, &mut |it| found.push(it));
    found
}

fn parse_all(
    text: &str,
    limits: Limits,
    faults_max: usize,
    plainly: bool,
    take: &mut dyn FnMut(Result<Parsed, Broken>),
) {
    // The scanner panics where a block scalar ends in the middle of the last line.
    let whole = match text.is_empty() || text.ends_with('\n') {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("{text}\n")),
    };
    if let Some(fault) = fault::flooded(&whole) {
        return take(Err(Broken { fault, region: 0..text.len() }));
    }
    let plainly = plainly && decode::oddity(&whole).is_none();
    let room = |found: usize| Limits {
        documents_max: limits.documents_max.saturating_sub(found),
        ..limits
    };
    let (mut from, mut found, mut faults) = (0, 0, 0);
    'on: loop {
        if plainly {
            found += read_plain(&whole, &mut from, text.len(), room(found), take);
            if from == whole.len() && found > 0 {
                return;
            }
        }
        let mut run = Run::new(&whole, from, room(found));
        let mut begin = from;
        let stop = loop {
            // The parser has sharp corners of its own; a file that finds one is that file's affair.
            match catch_unwind(AssertUnwindSafe(|| run.document())) {
                Ok(Ok(Some(mut it))) => {
                    it.region.end = it.region.end.min(text.len().max(it.region.start));
                    begin = it.region.end;
                    found += 1;
                    take(Ok(it));
                    // Beginning anew costs what a small document does: only where it helps.
                    if plainly && is_plain(&whole, begin, limits) {
                        from = begin;
                        continue 'on;
                    }
                }
                Ok(Ok(None)) => break None,
                Ok(Err(stop)) => break Some(stop),
                Err(_) => break Some(Stop { fault: fault::unreadable(&whole, begin), next: None }),
            }
        };
        let end = stop.as_ref().and_then(|it| it.next).filter(|_| faults + 1 < faults_max);
        if let Some(mut it) = run.last.take() {
            // Whatever stands behind it without a `---` belongs to it, and so does a fault there.
            let open = it.region.end == usize::MAX;
            let bound = if open { end.unwrap_or(text.len()) } else { text.len() };
            it.region.end = it.region.end.min(bound.max(it.region.start));
            begin = if open { it.preface.start } else { it.region.end };
            found += 1;
            take(Ok(it));
        }
        let Some(stop) = stop else { return };
        let region = begin..end.unwrap_or(text.len()).max(begin);
        found += 1;
        take(Err(Broken { fault: stop.fault, region }));
        faults += 1;
        match end {
            Some(next) => from = next,
            None => return,
        }
    }
}

/// Says whether a document begins at `at` that needs no libyaml.
fn is_plain(whole: &str, at: usize, limits: Limits) -> bool {
    is_marker(&whole[at..]) && plain::document(whole, at, limits).is_some()
}

/// Reads documents as long as they are plain, sets `from` behind the last one, and counts them.
fn read_plain(
    whole: &str,
    from: &mut usize,
    text_len: usize,
    limits: Limits,
    take: &mut dyn FnMut(Result<Parsed, Broken>),
) -> usize {
    let mut found = 0;
    while found < limits.documents_max
        && let Some(mut it) = plain::document(whole, *from, limits)
    {
        *from = it.region.end;
        it.region.end = it.region.end.min(text_len.max(it.region.start));
        take(Ok(it));
        found += 1;
    }
    found
}

/// What ended the reading, and where the next document begins, if that can be said.
struct Stop {
    fault: Fault,
    next: Option<usize>,
}

/// Where the next `---` stands that begins a line, at `at` or behind it.
fn next_marker(text: &str, at: usize) -> Option<usize> {
    let begins = at == 0 || text[..at].ends_with('\n');
    let mut at = if begins { at } else { super::line_end(text, at) };
    loop {
        if is_marker(&text[at..]) {
            return Some(at);
        }
        at += text[at..].find("\n---")? + 1;
    }
}

/// Says whether `rest`, which begins a line, begins with a `---`.
pub(super) fn is_marker(rest: &str) -> bool {
    rest.strip_prefix("---").is_some_and(|it| it.is_empty() || it.starts_with([' ', '\t', '\n']))
}

/// Reads the documents from one place on, which is the beginning or a `---`.
struct Run<'t> {
    text: &'t str,
    from: usize,
    limits: Limits,
    parser: Parser<BufReader<&'t [u8]>>,
    builder: Builder,
    /// Where the text of the current document began, and the one before ended.
    open: Option<Opened>,
    free: usize,
    /// The last `---` that was read.
    marker: Option<usize>,
    /// How many documents have begun.
    count: usize,
    /// The document that was read last; where it ends is not known before the next begins.
    last: Option<Parsed>,
}

impl<'t> Run<'t> {
    fn new(text: &'t str, from: usize, limits: Limits) -> Run<'t> {
        let mut parser = Parser::new();
        // Else it takes the first letter of some scripts for half a byte order mark.
        parser.set_encoding(Encoding::Utf8);
        parser.set_input(BufReader::with_capacity(AT_HAND_BYTES, &text.as_bytes()[from..]));
        let (builder, free) = (Builder::new(limits), from);
        let (open, marker, count, last) = Default::default();
        Run { text, from, limits, parser, builder, open, free, marker, count, last }
    }

    /// Reads on until the next document begins, and gives the one before it; none at the end, where
    /// the last one stays in `last`.
    fn document(&mut self) -> Result<Option<Parsed>, Stop> {
        loop {
            let event = self.parser.parse().map_err(|it| {
                let bracket = self.builder.open_bracket();
                let (fault, reached) = fault::of_grammar(self.text, self.from, bracket, &it);
                self.stop(fault, reached)
            })?;
            let place = |index: u64| fault::offset(self.text, self.from, index);
            let span = place(event.start_mark.index)..place(event.end_mark.index);
            match event.data {
                EventData::StreamStart { .. } => (),
                EventData::StreamEnd => return Ok(None),
                EventData::DocumentStart { implicit, version_directive, tag_directives } => {
                    let bare = version_directive.is_none() && tag_directives.is_empty();
                    self.begin(&span, implicit, bare)?;
                    if let Some(last) = self.last.take() {
                        return Ok(Some(last));
                    }
                }
                EventData::DocumentEnd { implicit } => self.end(&span, implicit),
                _ => {
                    let reached = span.end;
                    self.builder.add(event, span).map_err(|it| match it.rule {
                        // `{{ .x }}` without quotes is a mapping with a mapping as its key.
                        "complex-key" if fault::line_at(self.text, it.at).contains("{{") => {
                            self.stop(fault::template(it.at), reached)
                        }
                        _ => self.stop(it, reached),
                    })?;
                }
            }
        }
    }

    fn begin(&mut self, span: &Range<usize>, implicit: bool, bare: bool) -> Result<(), Stop> {
        if let Some(last) = self.last.as_mut().filter(|it| it.region.end == usize::MAX) {
            last.region.end = span.start;
            self.free = span.start;
        }
        if self.count >= self.limits.documents_max {
            let message = "there are more documents in the file than are allowed";
            let fault = Fault::new("too-many-documents", message, span.start)
                .hint("split the file, or raise `yaml.documents_max` in the configuration");
            return Err(Stop { fault, next: None });
        }
        self.count += 1;
        let (text, free) = (self.text, self.free);
        let begin = if implicit { free } else { behind_marker(text, span.end) };
        let preface = if implicit { free..free } else { free..span.start };
        let alone = bare && (implicit || text[span.end..begin].ends_with('\n'));
        if !implicit {
            self.marker = Some(span.end.saturating_sub("---".len()));
        }
        self.open = Some(Opened { preface, begin, alone });
        self.builder = Builder::new(self.limits);
        Ok(())
    }

    fn end(&mut self, span: &Range<usize>, implicit: bool) {
        let Some(Opened { preface, begin, alone }) = self.open.take() else { return };
        // Without a `...` the document reaches to the next `---`, or to the end.
        let end = if implicit { usize::MAX } else { span.start };
        self.free = if implicit { span.end } else { super::line_end(self.text, span.end) };
        let root = self.builder.take().filter(|it| !(it.span.is_empty() && it.is_null()));
        self.last = Some(Parsed { root, region: begin..end.max(begin), preface, alone });
    }

    /// Where reading can go on behind a fault, when the parser has read up to `reached`.
    fn stop(&self, fault: Fault, reached: usize) -> Stop {
        let (text, from) = (self.text, self.from);
        let line = super::line_start(text, reached.min(text.len()));
        let next = next_marker(text, line).filter(|it| Some(*it) > self.marker && *it > from);
        let next = next.or_else(|| next_marker(text, super::line_end(text, line)));
        Stop { fault, next: next.filter(|it| *it > from) }
    }
}

/// What is known of a document when it begins.
struct Opened {
    preface: Range<usize>,
    begin: usize,
    alone: bool,
}

/// The text of a document begins on the line behind its `---`, or right behind it.
fn behind_marker(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    match rest[blank..].starts_with('\n') {
        true => at + blank + 1,
        false => at + blank,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docs(text: &str) -> Vec<String> {
        let (documents, fault) = parse(text, Limits::default());
        assert_eq!(fault, None, "{text}");
        documents.iter().map(|it| text[it.region.clone()].to_owned()).collect()
    }

    #[test]
    fn documents_keep_their_own_words() {
        assert_eq!(
            docs("# top\na: 1 # x\n---\n# two\nb: 2\n"),
            ["# top\na: 1 # x\n", "# two\nb: 2\n"]
        );
        assert_eq!(docs("--- # x\na: 1\n...\n# c\n---\nb: 2\n"), ["# x\na: 1\n", "b: 2\n"]);
        assert_eq!(docs("a: \u{e9}\u{1f600}\n---\nb: 2"), ["a: \u{e9}\u{1f600}\n", "b: 2"]);
        assert_eq!(docs("%YAML 1.1\n---\na: 1\n"), ["a: 1\n"]);
    }

    #[test]
    fn a_block_may_end_with_the_text() {
        for text in ["a: |\n  x", "a: >\n  x\n  y", "a: |+\n  x", "- |\n x"] {
            let (documents, fault) = parse(text, Limits::default());
            assert!(fault.is_none() && documents.len() == 1, "{text:?}");
            assert_eq!(documents[0].region, 0..text.len());
        }
    }

    #[test]
    fn a_document_without_content_has_no_root() {
        for text in ["", "# x\n", "---\n", "---\n# x\n---\n"] {
            let (documents, fault) = parse(text, Limits::default());
            assert!(fault.is_none() && documents.iter().all(|it| it.root.is_none()), "{text:?}");
        }
    }

    #[test]
    fn a_document_with_a_fault_hides_no_other() {
        let cases = [
            ("a: 1\n---\nb: [\n---\nc: 3\n", "1 x 3"),
            ("a: [\n--- # x\nb: \"\n---\nc: 3\n", "x x 3"),
            ("a: b: c\n---\nb: 2\n---\n}\n", "x 2 x"),
            ("--- a: b: c\n--- a: b: c\n---\nb: 2\n", "x x 2"),
            ("a: !x y\n---\na: *n\n---\nb: 2\n", "x x 2"),
            ("a: |\n  ---\n  x: [\n---\nb: 2\n", "d 2"),
            ("a: {{ x }}\n---\nb: 2\n---\n\tc: 3\n", "x 2 x"),
            ("a: 1\nb\n", "x"),
            ("a: 1\n...\nb: [\n...\n---\nc: 3\n", "1 x 3"),
        ];
        for (text, expect) in cases {
            let told: Vec<&str> = parse_on(text, Limits::default())
                .iter()
                .map(|it| match it {
                    Ok(document) => match document.root.as_ref().unwrap().entries()[0].1.text() {
                        Some("1") => "1",
                        Some("2") => "2",
                        Some("3") => "3",
                        _ => "d",
                    },
                    Err(_) => "x",
                })
                .collect();
            assert_eq!(told.join(" "), expect, "{text:?}");
        }
    }

    #[test]
    fn many_faults_are_told_up_to_a_limit() {
        let found = parse_on(&"---\n}\n".repeat(50_000), Limits::default());
        assert_eq!(found.len(), FAULTS_MAX);
    }

    #[test]
    fn bombs_are_refused_at_once() {
        let laughs = (b'b'..=b'z').fold("a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, c| {
            let (this, last) = (char::from(c), char::from(c - 1));
            format!(
                "{text}{this}: &{this} [*{last},*{last},*{last},*{last},*{last},*{last},*{last}]\n"
            )
        });
        let bombs = [
            ("[".repeat(100_000), "too-deep"),
            ("{a: ".repeat(100_000), "too-deep"),
            ("- ".repeat(100_000), "too-deep"),
            ("? ".repeat(100_000), "too-deep"),
            (laughs, "too-many-values"),
            ("---\n".repeat(20_000), "too-many-documents"),
        ];
        for (text, rule) in bombs {
            let (_, fault) = parse(&text, Limits::default());
            assert_eq!(fault.map(|it| it.rule), Some(rule), "{}", &text[..20]);
        }
    }
}
