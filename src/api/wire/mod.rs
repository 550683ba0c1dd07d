//! What goes over the wire: types of their own, so that the model can change and clients need not.

pub mod account;
pub mod change;
pub mod choice;
pub mod conflict;
pub mod event;
pub mod fabric;
pub mod operation;
pub mod resource;
pub mod webhook;

use crate::model::field::FieldPath;

/// A field's path as text; the resource as a whole is the empty text.
pub(super) fn field_text(path: &FieldPath) -> String {
    path.to_string()
}

/// The words that the model's JSON uses, as text.
pub(in crate::api) fn word(it: &impl serde::Serialize) -> String {
    match serde_json::to_value(it) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}
