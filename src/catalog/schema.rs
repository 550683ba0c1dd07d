//! What the API server expects of a kind's fields: the structural schema of its definition.
//!
//! Read once from a definition, under limits, and then only looked at. What a definition says that
//! has no meaning for a manifest (titles, examples, printer columns) is passed over.

use crate::yaml::value::Value;
use regex::Regex;
use std::collections::BTreeMap;

/// How large a compiled pattern may grow, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The type that a value must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Any.
    #[default]
    Any,
    /// A mapping.
    Object,
    /// A list.
    Array,
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A truth value.
    Boolean,
    /// A whole number or text (`x-kubernetes-int-or-string`).
    IntegerOrText,
}

/// What the items of a list have in common (`x-kubernetes-list-type`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListType {
    /// Nothing: the list is one value.
    #[default]
    Atomic,
    /// No item stands in it twice.
    Set,
    /// No two items agree in these fields.
    Map(Vec<String>),
}

/// A least and a greatest number, both allowed.
pub type Bounds = (Option<u64>, Option<u64>);

/// Least and greatest value of a number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Range {
    /// Not less than this.
    pub minimum: Option<f64>,
    /// Nor equal to it.
    pub above_minimum: bool,
    /// Not more than this.
    pub maximum: Option<f64>,
    /// Nor equal to it.
    pub below_maximum: bool,
    /// A multiple of this.
    pub multiple_of: Option<f64>,
}

/// A regular expression that text must match.
#[derive(Debug, Clone)]
pub struct Pattern(pub Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A rule in the Common Expression Language (`x-kubernetes-validations`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub expression: String,
    /// What it says where it is not kept, in the words of the definition.
    pub message: Option<String>,
}

/// What is expected of one value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    /// Its type.
    pub sort: Sort,
    /// Nothing (`null`) is a value, and not the same as leaving the field out.
    pub nullable: bool,
    /// Fields that are not named here stay (`x-kubernetes-preserve-unknown-fields`).
    pub open: bool,
    /// The fields of a mapping, by name.
    pub fields: BTreeMap<String, Schema>,
    /// All other fields of a mapping, whatever their name.
    pub rest: Option<Box<Schema>>,
    /// The items of a list.
    pub items: Option<Box<Schema>>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// The only values there are; empty for no such limit.
    pub allowed: Vec<Value>,
    /// What is filled in where the field is left out.
    pub default: Option<Value>,
    /// For numbers.
    pub range: Range,
    /// Characters of a text.
    pub length: Bounds,
    /// Items of a list.
    pub count: Bounds,
    /// Entries of a mapping.
    pub entries: Bounds,
    /// For text.
    pub pattern: Option<Pattern>,
    /// A well-known form of text or numbers, such as `int32` or `cidr`.
    pub format: Option<String>,
    /// For lists.
    pub list: ListType,
    /// Each of these holds.
    pub all_of: Vec<Schema>,
    /// At least one of these holds.
    pub any_of: Vec<Schema>,
    /// Exactly one of these holds.
    pub one_of: Vec<Schema>,
    /// This does not hold.
    pub not: Option<Box<Schema>>,
    /// These hold.
    pub rules: Vec<Rule>,
}

impl Schema {
    /// Anything at all.
    pub fn anything() -> Schema {
        Schema { open: true, nullable: true, ..Schema::default() }
    }

    /// Reads a schema; the error says where in it something is wrong.
    pub fn read(value: &Value) -> Result<Schema, String> {
        let Value::Map(map) = value else { return Err("a schema is a mapping".to_owned()) };
        let read = Reader { map };
        let mut schema = Schema {
            nullable: read.flag("nullable"),
            open: read.flag("x-kubernetes-preserve-unknown-fields"),
            fields: read.fields()?,
            rest: read.rest()?,
            items: read.inner("items")?,
            required: read.words("required"),
            allowed: read.list("enum").to_vec(),
            default: read.map.get("default").cloned(),
            range: read.range(),
            length: read.bounds("minLength", "maxLength"),
            count: read.bounds("minItems", "maxItems"),
            entries: read.bounds("minProperties", "maxProperties"),
            pattern: read.pattern()?,
            format: read.text("format").map(str::to_owned),
            list: match read.text("x-kubernetes-list-type") {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(read.words("x-kubernetes-list-map-keys")),
                _ => ListType::Atomic,
            },
            all_of: read.each("allOf")?,
            any_of: read.each("anyOf")?,
            one_of: read.each("oneOf")?,
            not: read.inner("not")?,
            rules: read.rules(),
            ..Schema::default()
        };
        schema.sort = read.sort(&schema);
        if read.flag("x-kubernetes-embedded-resource") {
            schema.make_resource();
        }
        Ok(schema)
    }

    /// Adds what every resource has: apiVersion, kind, metadata and status.
    pub fn make_resource(&mut self) {
        for name in ["apiVersion", "kind", "status"] {
            self.fields.entry(name.to_owned()).or_insert_with(Schema::anything);
        }
        let metadata = self.fields.entry("metadata".to_owned()).or_default();
        metadata.sort = Sort::Object;
        // What stands in them is judged for every kind alike, with its envelope.
        for name in METADATA {
            metadata.fields.entry(name.to_owned()).or_insert_with(Schema::anything);
        }
        self.sort = Sort::Object;
    }

    /// How many rules there are in it, at any depth.
    pub fn rules_within(&self) -> usize {
        let inner = self.fields.values().chain(self.rest.as_deref()).chain(self.items.as_deref());
        let junctors = self.all_of.iter().chain(&self.any_of).chain(&self.one_of);
        self.rules.len()
            + inner
                .chain(junctors)
                .chain(self.not.as_deref())
                .map(Schema::rules_within)
                .sum::<usize>()
    }

    /// The schema of a field, by the keys from here down; `*` is any item of a list.
    pub fn at(&self, path: &[&str]) -> Option<&Schema> {
        path.iter().try_fold(self, |it, key| match (*key, &it.items) {
            ("*", Some(items)) => Some(items.as_ref()),
            _ => it.fields.get(*key).or(it.rest.as_deref()),
        })
    }
}

/// The fields of `metadata` that the API server takes.
const METADATA: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "creationTimestamp",
    "generation",
    "resourceVersion",
    "uid",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// One mapping of a schema, while it is read.
struct Reader<'a> {
    map: &'a BTreeMap<String, Value>,
}

impl<'a> Reader<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        match self.map.get(key) {
            Some(Value::Text(it)) => Some(it),
            _ => None,
        }
    }

    fn flag(&self, key: &str) -> bool {
        self.map.get(key) == Some(&Value::Bool(true))
    }

    fn list(&self, key: &str) -> &'a [Value] {
        match self.map.get(key) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    fn words(&self, key: &str) -> Vec<String> {
        let text = |it: &Value| match it {
            Value::Text(it) => Some(it.clone()),
            _ => None,
        };
        self.list(key).iter().filter_map(text).collect()
    }

    fn number(&self, key: &str) -> Option<f64> {
        match self.map.get(key) {
            Some(Value::Int(it)) => Some(*it as f64),
            Some(Value::Float(bits)) => Some(f64::from_bits(*bits)),
            _ => None,
        }
    }

    fn bounds(&self, least: &str, most: &str) -> Bounds {
        let whole = |key| match self.map.get(key) {
            Some(Value::Int(it)) => u64::try_from(*it).ok(),
            _ => None,
        };
        (whole(least), whole(most))
    }

    fn range(&self) -> Range {
        Range {
            minimum: self.number("minimum"),
            above_minimum: self.flag("exclusiveMinimum"),
            maximum: self.number("maximum"),
            below_maximum: self.flag("exclusiveMaximum"),
            multiple_of: self.number("multipleOf"),
        }
    }

    fn sort(&self, read: &Schema) -> Sort {
        if self.flag("x-kubernetes-int-or-string") {
            return Sort::IntegerOrText;
        }
        match self.text("type") {
            Some("object") => Sort::Object,
            Some("array") => Sort::Array,
            Some("string") => Sort::Text,
            Some("integer") => Sort::Integer,
            Some("number") => Sort::Number,
            Some("boolean") => Sort::Boolean,
            _ if !read.fields.is_empty() || read.rest.is_some() => Sort::Object,
            _ if read.items.is_some() => Sort::Array,
            _ => Sort::Any,
        }
    }

    fn fields(&self) -> Result<BTreeMap<String, Schema>, String> {
        let Some(Value::Map(fields)) = self.map.get("properties") else {
            return Ok(BTreeMap::new());
        };
        let read = |(name, value): (&String, &Value)| match Schema::read(value) {
            Ok(it) => Ok((name.clone(), it)),
            Err(why) => Err(format!("{name}: {why}")),
        };
        fields.iter().map(read).collect()
    }

    fn rest(&self) -> Result<Option<Box<Schema>>, String> {
        match self.map.get("additionalProperties") {
            Some(Value::Bool(true)) => Ok(Some(Box::new(Schema::anything()))),
            Some(Value::Map(_)) => self.inner("additionalProperties"),
            _ => Ok(None),
        }
    }

    fn inner(&self, key: &str) -> Result<Option<Box<Schema>>, String> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        Schema::read(value).map(Box::new).map(Some).map_err(|why| format!("{key}: {why}"))
    }

    fn each(&self, key: &str) -> Result<Vec<Schema>, String> {
        let read = |it| Schema::read(it).map_err(|why| format!("{key}: {why}"));
        self.list(key).iter().map(read).collect()
    }

    fn pattern(&self) -> Result<Option<Pattern>, String> {
        let Some(text) = self.text("pattern") else { return Ok(None) };
        let built = regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
        match built {
            Ok(it) => Ok(Some(Pattern(it))),
            Err(error) => Err(format!("pattern: `{text}` cannot be used: {error}")),
        }
    }

    fn rules(&self) -> Vec<Rule> {
        let rule = |it: &'a Value| {
            let Value::Map(map) = it else { return None };
            let read = Reader { map };
            let expression = read.text("rule")?.to_owned();
            Some(Rule { expression, message: read.text("message").map(str::to_owned) })
        };
        self.list("x-kubernetes-validations").iter().filter_map(rule).collect()
    }
}
