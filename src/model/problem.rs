//! A finding about somebody's file: data, shown to people, never an error of ours.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file goes through; a person may want to know.
    Warning,
    /// The file stays where it is until somebody mends it.
    Error,
}

/// One finding, with its place and the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable name for the rule, in kebab case, such as `duplicate-key`.
    pub rule: String,
    /// How much it weighs.
    pub severity: Severity,
    /// Which document of the file, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<u32>,
    /// Which line of the file, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Which character of the line, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What is wrong, with what, and why it matters.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line of the file, as written, for the caret under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

impl Problem {
    /// An error with a message, without a place yet.
    pub fn error(rule: &str, message: impl Into<String>) -> Problem {
        Problem {
            rule: rule.to_owned(),
            severity: Severity::Error,
            document: None,
            line: None,
            column: None,
            message: message.into(),
            hint: None,
            excerpt: None,
        }
    }

    /// A warning with a message, without a place yet.
    pub fn warning(rule: &str, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(rule, message) }
    }

    /// Says where: line and column, counted from 1.
    pub fn at(mut self, line: u32, column: u32) -> Problem {
        self.line = Some(line);
        self.column = Some(column);
        self
    }

    /// Says in which document, counted from 1.
    pub fn in_document(mut self, document: u32) -> Problem {
        self.document = Some(document);
        self
    }

    /// Says what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Says whether the file has to stay.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    /// One line: `3:7: message (document 2, rule)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "{line}:{column}: ")?,
            (Some(line), None) => write!(f, "{line}: ")?,
            _ => (),
        }
        write!(f, "{}", self.message)?;
        match self.document {
            Some(document) => write!(f, " (document {document}, {})", self.rule),
            None => write!(f, " ({})", self.rule),
        }
    }
}
