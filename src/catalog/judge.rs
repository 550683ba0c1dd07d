//! A document against the schema of its kind, field by field, as the API server would look at it.
//!
//! As there, a field without a value counts as left out where the schema does not say `nullable`,
//! and is never a mistake by itself. Positions are those of the file, so that each finding can be
//! shown with its line.

use super::schema::{ListType, Schema, Sort};
use super::{form, near};
use crate::yaml::value::{self, Scalar, Value, is_boolean_word};
use crate::yaml::{Content, Fault, Node, Style};
use std::collections::HashSet;
use std::fmt::Write as _;

/// More findings than this in one document help nobody.
const FINDINGS_MAX: usize = 50;
/// So many names are listed in a hint.
const NAMED_MAX: usize = 12;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The API server would refuse it, or drop what was written.
    Breach,
    /// It goes through, but may not mean what it looks like.
    Note,
}

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What and where.
    pub fault: Fault,
    /// How much it weighs.
    pub weight: Weight,
}

/// Judges a document.
pub fn judge(schema: &Schema, root: &Node) -> Vec<Finding> {
    let mut judge = Judge { path: Vec::new(), found: Vec::new(), inner: false };
    judge.value(schema, root, root.span.start);
    judge.found
}

enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

struct Judge<'a> {
    path: Vec<Step<'a>>,
    found: Vec<Finding>,
    /// Within `allOf`, `anyOf`, `oneOf` or `not`, which only narrow what the schema around says.
    inner: bool,
}

impl<'a> Judge<'a> {
    /// `at` is where the value is spoken of: its key, or the value itself.
    fn value(&mut self, schema: &Schema, node: &'a Node, at: usize) {
        if self.found.len() >= FINDINGS_MAX || (node.is_null() && schema.nullable) {
            return;
        }
        if schema.sort == Sort::Any && schema.open && !self.inner {
            return self.words(node);
        }
        if !self.sort(schema, node) {
            return;
        }
        match &node.content {
            Content::Scalar { .. } => self.scalar(schema, node),
            Content::Sequence(items) => self.list(schema, node, items, at),
            Content::Mapping(_) => self.mapping(schema, node, at),
        }
        if !schema.allowed.is_empty() {
            self.allowed(schema, node);
        }
        self.junctors(schema, node, at);
    }

    /// Whether the type is right; all else is only worth saying then.
    fn sort(&mut self, schema: &Schema, node: &Node) -> bool {
        let fits = match (schema.sort, &node.content) {
            (Sort::Any, _) => true,
            (Sort::Object, it) => matches!(it, Content::Mapping(_)),
            (Sort::Array, it) => matches!(it, Content::Sequence(_)),
            (sort, Content::Scalar { .. }) => match (sort, value::scalar(node)) {
                (Sort::Text, Some(Scalar::Text(_))) => true,
                (Sort::Boolean, Some(Scalar::Bool(_))) => true,
                (Sort::IntegerOrText, Some(Scalar::Int(_) | Scalar::Text(_))) => true,
                (Sort::Integer | Sort::Number, Some(Scalar::Int(_))) => true,
                (Sort::Number, Some(Scalar::Float(_))) => true,
                (Sort::Integer, Some(Scalar::Float(bits))) => f64::from_bits(bits).fract() == 0.0,
                _ => false,
            },
            _ => false,
        };
        if !fits {
            let (message, hint) = self.wrong_sort(schema.sort, node);
            self.tell("wrong-type", message, hint, node.span.start);
        }
        fits
    }

    fn wrong_sort(&self, wanted: Sort, node: &Node) -> (String, String) {
        let path = self.shown();
        let wants = match wanted {
            Sort::Any => "a value",
            Sort::Object => "a mapping",
            Sort::Array => "a list",
            Sort::Text => "text",
            Sort::Integer => "a whole number",
            Sort::Number => "a number",
            Sort::Boolean => "true or false",
            Sort::IntegerOrText => "a whole number or text",
        };
        let text = node.text().map(form::shown);
        let is = match (&node.content, value::scalar(node)) {
            (Content::Mapping(_), _) => "a mapping",
            (Content::Sequence(_), _) => "a list",
            (_, Some(Scalar::Bool(_))) => "a truth value",
            (_, Some(Scalar::Int(_) | Scalar::Float(_))) => "a number",
            (_, Some(Scalar::Null)) => "nothing",
            _ => "text",
        };
        let hint = match (wanted, &text, is) {
            (Sort::Text | Sort::IntegerOrText, Some(text), "a truth value" | "a number") => {
                format!("put it in quotes: \"{text}\"")
            }
            (Sort::Integer | Sort::Number, Some(_), "text") => {
                "write a number, without quotes and units".to_owned()
            }
            (Sort::Boolean, Some(_), "text") => "write true or false, without quotes".to_owned(),
            (Sort::Array, ..) => "write one item a line, each behind a dash".to_owned(),
            (Sort::Object, ..) => "write one `name: value` a line, further to the right".to_owned(),
            _ => format!("write {wants}"),
        };
        let message = match text {
            Some(text) if !text.is_empty() && is != "nothing" => {
                format!("{path} takes {wants}, and Kubernetes reads `{text}` as {is}")
            }
            _ => format!("{path} takes {wants}, and this is {is}"),
        };
        (message, hint)
    }

    fn scalar(&mut self, schema: &Schema, node: &Node) {
        let Content::Scalar { text, style, tag } = &node.content else { return };
        let plain = *style == Style::Plain && tag.is_none();
        match value::scalar(node) {
            Some(Scalar::Text(_)) => {
                if plain && schema.sort == Sort::Text {
                    self.trap(text, node.span.start);
                }
                self.text(schema, text, node.span.start);
            }
            Some(Scalar::Int(number)) => {
                if plain && form::is_octal(text) {
                    let message = format!(
                        "{} is written as {}, which Kubernetes reads as the octal of {number}",
                        self.shown(),
                        form::shown(text)
                    );
                    let hint = format!("write {number}, or the number without the leading zero");
                    self.note("yaml-1.1-octal", message, hint, node.span.start);
                }
                self.range(schema, number as f64, text, node.span.start);
                if let Some(why) =
                    schema.format.as_deref().and_then(|it| form::of_number(it, number))
                {
                    let message = format!("{} is {}: {why}", self.shown(), form::shown(text));
                    self.tell("out-of-range", message, "write a number within it", node.span.start);
                }
            }
            Some(Scalar::Float(bits)) => {
                self.range(schema, f64::from_bits(bits), text, node.span.start);
            }
            _ => (),
        }
    }

    /// Text to Kubernetes, and something else to readers of YAML 1.1.
    fn trap(&mut self, text: &str, at: usize) {
        let Some(what) = form::read_otherwise(text) else { return };
        let (path, text) = (self.shown(), form::shown(text));
        let message =
            format!("{path} is text to Kubernetes, but older readers take `{text}` for {what}");
        self.note("yaml-1.1-text", message, format!("put it in quotes: \"{text}\""), at);
    }

    fn text(&mut self, schema: &Schema, text: &str, at: usize) {
        let chars = text.chars().count() as u64;
        self.bounds(schema.length, chars, "character", at);
        if let Some(pattern) = schema.pattern.as_ref().filter(|it| !it.0.is_match(text)) {
            let message =
                format!("{} is `{}`, which has the wrong form", self.shown(), form::shown(text));
            let hint = format!("it must match the pattern {}", pattern.0.as_str());
            self.tell("wrong-form", message, hint, at);
        }
        if let Some(wants) = schema.format.as_deref().and_then(|it| form::of_text(it, text)) {
            let message =
                format!("{} is `{}`, which is not {wants}", self.shown(), form::shown(text));
            self.tell("wrong-form", message, format!("write {wants}"), at);
        }
    }

    fn range(&mut self, schema: &Schema, number: f64, text: &str, at: usize) {
        let range = &schema.range;
        let low = range.minimum.filter(|it| number < *it || (range.above_minimum && number == *it));
        let high =
            range.maximum.filter(|it| number > *it || (range.below_maximum && number == *it));
        let odd = range.multiple_of.filter(|it| *it > 0.0 && (number / it).fract() != 0.0);
        let (path, text) = (self.shown(), form::shown(text));
        for (bound, words) in [(low, "too little: the least is"), (high, "too much: the most is")] {
            if let Some(bound) = bound {
                let message = format!("{path} is {text}, {words} {bound}");
                self.tell("out-of-range", message, "write a number within the bounds", at);
            }
        }
        if let Some(step) = odd {
            let message = format!("{path} is {text}, which is no multiple of {step}");
            self.tell("out-of-range", message, format!("write a multiple of {step}"), at);
        }
    }

    fn bounds(&mut self, (least, most): super::Bounds, n: u64, thing: &str, at: usize) {
        let plural = |n: u64| if n == 1 { thing.to_owned() } else { form::plural(thing) };
        if let Some(least) = least.filter(|it| n < *it) {
            let message =
                format!("{} has {n} {}, and needs {least} at least", self.shown(), plural(n));
            self.tell("out-of-range", message, "add what is missing", at);
        }
        if let Some(most) = most.filter(|it| n > *it) {
            let message =
                format!("{} has {n} {}, and takes {most} at most", self.shown(), plural(n));
            self.tell("out-of-range", message, "make it shorter, or split it", at);
        }
    }

    fn allowed(&mut self, schema: &Schema, node: &Node) {
        if schema.allowed.contains(&value::resolve(node)) {
            return;
        }
        let words: Vec<String> = schema.allowed.iter().map(form::of_value).collect();
        let mut hint = format!("write one of {}", words.join(", "));
        if let Some(near) =
            near::nearest(node.text().unwrap_or_default(), words.iter().map(String::as_str))
        {
            hint = format!("did you mean {near}? The values are {}", words.join(", "));
        }
        let is = node.text().map_or("this".to_owned(), |it| format!("`{}`", form::shown(it)));
        let message = format!("{} does not take {is}", self.shown());
        self.tell("not-allowed", message, hint, node.span.start);
    }

    fn list(&mut self, schema: &Schema, node: &Node, items: &'a [Node], at: usize) {
        self.bounds(schema.count, items.len() as u64, "item", at);
        let Some(of) = &schema.items else { return };
        for (n, item) in items.iter().enumerate() {
            self.path.push(Step::Item(n));
            self.value(of, item, item.span.start);
            self.path.pop();
        }
        let mut seen = HashSet::new();
        for (n, item) in items.iter().enumerate() {
            let key = match &schema.list {
                ListType::Atomic => return,
                ListType::Set => value::digest(item),
                ListType::Map(keys) => {
                    let part = |key: &String| match item.get(key) {
                        Some(it) => Some(value::resolve(it)),
                        None => of.fields.get(key).and_then(|it| it.default.clone()),
                    };
                    let parts = keys.iter().map(|it| part(it).unwrap_or(Value::Null));
                    Value::List(parts.collect()).digest()
                }
            };
            if !seen.insert(key) {
                let what = match &schema.list {
                    ListType::Map(keys) => format!("with the same {}", keys.join(" and ")),
                    _ => "with the same value".to_owned(),
                };
                let message =
                    format!("{} has an earlier item {what} as item {}", self.shown(), n + 1);
                let place = if item.alias { node.span.start } else { item.span.start };
                self.tell("duplicate-item", message, "keep one of the two", place);
            }
        }
    }

    fn mapping(&mut self, schema: &Schema, node: &'a Node, at: usize) {
        let mut present: Vec<&'a str> = Vec::new();
        for (key, value) in written(node) {
            let name = key.text().unwrap_or_default();
            let known = schema.fields.get(name).or(schema.rest.as_deref());
            // Without a value it counts as left out, before anything is looked at.
            let left_out = value.is_null() && known.is_some_and(|it| !it.nullable);
            // An entry of an open mapping is there by its name alone.
            if !left_out || !schema.fields.contains_key(name) {
                present.push(name);
            }
            match known {
                _ if left_out => (),
                Some(of) => {
                    self.path.push(Step::Field(name));
                    self.value(of, value, key.span.start);
                    self.path.pop();
                }
                None if schema.open && !self.inner => self.words(value),
                None if schema.open || self.inner || schema.sort == Sort::Any => (),
                None => self.unknown(schema, name, key.span.start),
            }
        }
        self.bounds(schema.entries, present.len() as u64, "entry", at);
        for name in schema.required.iter().filter(|it| !present.contains(&it.as_str())) {
            if schema.fields.get(name).is_some_and(|it| it.default.is_some()) {
                continue;
            }
            let message = format!("{} must have `{name}`", self.shown());
            self.tell("missing-field", message, format!("add `{name}`"), at);
        }
    }

    fn unknown(&mut self, schema: &Schema, name: &str, at: usize) {
        let fields = || schema.fields.keys().map(String::as_str);
        let hint = match near::nearest(name, fields()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if schema.fields.is_empty() => "take it out: nothing is known here".to_owned(),
            None => {
                let named: Vec<&str> = fields().take(NAMED_MAX).collect();
                let more = if schema.fields.len() > NAMED_MAX { ", ..." } else { "" };
                format!("the fields here are {}{more}", named.join(", "))
            }
        };
        let name = form::shown(name);
        let message = match self.path.is_empty() {
            true => format!("there is no field `{name}` in this kind, so it would be dropped"),
            false => format!("{} has no field `{name}`, so it would be dropped", self.shown()),
        };
        self.tell("unknown-field", message, hint, at);
    }

    fn junctors(&mut self, schema: &Schema, node: &'a Node, at: usize) {
        for of in &schema.all_of {
            let found = self.within(of, node, at);
            self.found.extend(found);
        }
        if !schema.any_of.is_empty()
            && !schema.any_of.iter().any(|of| self.within(of, node, at).is_empty())
        {
            let message = format!("{} fits none of the forms it may have", self.shown());
            self.tell("wrong-form", message, "compare it with the documentation of its kind", at);
        }
        if !schema.one_of.is_empty() {
            self.one_of(&schema.one_of, node, at);
        }
        if schema.not.as_ref().is_some_and(|of| self.within(of, node, at).is_empty()) {
            let message = format!("{} has a form that its kind excludes", self.shown());
            self.tell("wrong-form", message, "compare it with the documentation of its kind", at);
        }
    }

    fn one_of(&mut self, schemas: &[Schema], node: &'a Node, at: usize) {
        let fit = schemas.iter().filter(|of| self.within(of, node, at).is_empty()).count();
        if fit == 1 {
            return;
        }
        let names: Vec<&str> =
            schemas.iter().flat_map(|it| &it.required).map(String::as_str).collect();
        let message = match fit {
            _ if names.len() != schemas.len() => {
                format!("{} fits {fit} of the forms of which it must have one", self.shown())
            }
            0 => format!("{} has none of the fields of which it must have one", self.shown()),
            n => format!("{} has {n} of the fields of which it must have one", self.shown()),
        };
        let hint = match names.is_empty() {
            true => "compare it with the documentation of its kind".to_owned(),
            false => format!("keep exactly one of {}", names.join(", ")),
        };
        self.tell("wrong-form", message, hint, at);
    }

    /// What a schema that only narrows another one finds.
    fn within(&mut self, schema: &Schema, node: &'a Node, at: usize) -> Vec<Finding> {
        let path = std::mem::take(&mut self.path);
        let mut inner = Judge { path, found: Vec::new(), inner: true };
        inner.value(schema, node, at);
        self.path = inner.path;
        inner.found
    }

    /// Words that may be meant as such, where nobody knows what is wanted.
    fn words(&mut self, node: &Node) {
        if node.alias {
            return;
        }
        match &node.content {
            Content::Scalar { text, style: Style::Plain, tag: None } if is_boolean_word(text) => {
                self.found.push(Finding {
                    fault: boolean_word(text, node.span.start),
                    weight: Weight::Note,
                });
            }
            Content::Scalar { .. } => (),
            Content::Sequence(items) => items.iter().for_each(|it| self.words(it)),
            Content::Mapping(entries) => entries.iter().for_each(|(_, it)| self.words(it)),
        }
    }

    /// The path to the value, as one would write it.
    fn shown(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Item(n) => {
                    let _ = write!(out, "[{n}]");
                }
                Step::Field(name) => {
                    let dot = if out.is_empty() { "" } else { "." };
                    let _ = write!(out, "{dot}{}", form::shown(name));
                }
            }
        }
        if out.is_empty() { "this document".to_owned() } else { out }
    }

    fn tell(&mut self, rule: &'static str, message: String, hint: impl Into<String>, at: usize) {
        let fault = Fault::new(rule, message, at).hint(hint);
        self.found.push(Finding { fault, weight: Weight::Breach });
    }

    fn note(&mut self, rule: &'static str, message: String, hint: String, at: usize) {
        if !self.inner {
            let fault = Fault::new(rule, message, at).hint(hint);
            self.found.push(Finding { fault, weight: Weight::Note });
        }
    }
}

/// A plain word that Kubernetes takes for a truth value, though its writer may not.
pub fn boolean_word(text: &str, at: usize) -> Fault {
    let message = format!("Kubernetes reads `{text}` as a truth value");
    let hint = format!("write \"{text}\" in quotes if you mean the word, else true or false");
    Fault::new("yaml-1.1-boolean", message, at).hint(hint)
}

/// The entries of a mapping, and those that are merged into it with `<<`.
fn written(node: &Node) -> Vec<&(Node, Node)> {
    let own = node.entries().iter().filter(|(key, _)| !key.is_merge());
    let mut all: Vec<&(Node, Node)> = own.collect();
    for (_, merged) in node.entries().iter().filter(|(key, _)| key.is_merge()) {
        for it in merged.merge_sources().iter().flat_map(|it| written(it)) {
            if !all.iter().any(|(key, _)| key.text() == it.0.text()) {
                all.push(it);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
