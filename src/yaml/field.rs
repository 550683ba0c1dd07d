//! Reading and changing one field of a value by its path.

use super::value::Value;
use crate::model::field::{FieldPath, FieldStep};
use std::collections::BTreeMap;

/// The field at `path`; none where it is not there.
pub fn get<'a>(value: &'a Value, path: &FieldPath) -> Option<&'a Value> {
    path.0.iter().try_fold(value, |at, step| match (at, step) {
        (Value::Map(entries), FieldStep::Key(key)) => entries.get(key),
        (Value::List(items), step) => items.get(index(items, step)?),
        _ => None,
    })
}

/// Sets the field at `path`, or removes it. Mappings on the way are made; lists are not.
///
/// # Errors
/// In words, where the way leads through something that cannot hold the next step.
pub fn set(value: &mut Value, path: &FieldPath, to: Option<Value>) -> Result<(), String> {
    let Some((last, parents)) = path.0.split_last() else {
        return Err("the whole resource cannot be set by a field".to_owned());
    };
    let mut at = value;
    for step in parents {
        if to.is_none() && get(at, &FieldPath(vec![step.clone()])).is_none() {
            return Ok(());
        }
        at = enter(at, step).ok_or_else(|| no_way(path, step))?;
    }
    if *at == Value::Null && to.is_some() && matches!(last, FieldStep::Key(_)) {
        *at = Value::Map(BTreeMap::new());
    }
    match (at, last, to) {
        (Value::Map(entries), FieldStep::Key(key), Some(to)) => {
            entries.insert(key.clone(), to);
        }
        (Value::Map(entries), FieldStep::Key(key), None) => {
            entries.remove(key);
        }
        (Value::List(items), step, to) => match (index(items, step), to) {
            (Some(n), Some(to)) => items[n] = to,
            (Some(n), None) => {
                items.remove(n);
            }
            // One behind the last adds an item.
            (None, Some(to)) if *step == FieldStep::Index(items.len()) => items.push(to),
            (None, Some(to)) if matches!(step, FieldStep::Item { .. }) => items.push(to),
            (None, Some(_)) => return Err(no_way(path, step)),
            (None, None) => (),
        },
        (_, _, None) => (),
        (_, step, Some(_)) => return Err(no_way(path, step)),
    }
    Ok(())
}

fn enter<'a>(at: &'a mut Value, step: &FieldStep) -> Option<&'a mut Value> {
    if *at == Value::Null {
        *at = Value::Map(BTreeMap::new());
    }
    match (at, step) {
        (Value::Map(entries), FieldStep::Key(key)) => {
            Some(entries.entry(key.clone()).or_insert(Value::Null))
        }
        (Value::List(items), step) => {
            let n = index(items, step)?;
            items.get_mut(n)
        }
        _ => None,
    }
}

fn index(items: &[Value], step: &FieldStep) -> Option<usize> {
    match step {
        FieldStep::Index(n) => (*n < items.len()).then_some(*n),
        FieldStep::Item { key, value } => {
            items.iter().position(|it| item_key(it, key).as_deref() == Some(value))
        }
        FieldStep::Key(_) => None,
    }
}

/// What an item of a list says under `key` (dotted where it lies deeper), as text; none for a
/// collection or nothing.
pub fn item_key(item: &Value, key: &str) -> Option<String> {
    let found = key.split('.').try_fold(item, |at, part| match at {
        Value::Map(entries) => entries.get(part),
        _ => None,
    })?;
    match found {
        Value::Text(it) => Some(it.clone()),
        Value::Int(it) => Some(it.to_string()),
        Value::Bool(it) => Some(it.to_string()),
        Value::Float(it) => Some(f64::from_bits(*it).to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

fn no_way(path: &FieldPath, step: &FieldStep) -> String {
    let step = FieldPath(vec![step.clone()]);
    format!("there is no place for {path}: what is above `{step}` cannot hold it")
}

/// The same value as JSON, for programs; a number that JSON lacks becomes text.
pub fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(it) => (*it).into(),
        Value::Int(it) => match (i64::try_from(*it), u64::try_from(*it)) {
            (Ok(it), _) => it.into(),
            (_, Ok(it)) => it.into(),
            _ => it.to_string().into(),
        },
        Value::Float(it) => match serde_json::Number::from_f64(f64::from_bits(*it)) {
            Some(it) => it.into(),
            None => f64::from_bits(*it).to_string().into(),
        },
        Value::Text(it) => it.as_str().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), to_json(value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Limits;
    use crate::yaml::edit::only;
    use crate::yaml::value::resolve;

    fn value(text: &str) -> Value {
        resolve(&only(text, Limits::default()).unwrap())
    }

    #[test]
    fn fields_are_set_made_and_removed() {
        let check = |path: &str, to: Option<&str>, expect: Result<&str, &str>| {
            let mut it = value("{a: {b: 1}, l: [{n: x, v: 1}, {n: w}]}");
            let done = set(&mut it, &path.parse().unwrap(), to.map(value));
            match expect {
                Ok(expect) => assert_eq!((done, it), (Ok(()), value(expect)), "{path}"),
                Err(part) => assert!(done.unwrap_err().contains(part), "{path}"),
            }
        };
        check("a.b", Some("2"), Ok("{a: {b: 2}, l: [{n: x, v: 1}, {n: w}]}"));
        check("a.c.d", Some("2"), Ok("{a: {b: 1, c: {d: 2}}, l: [{n: x, v: 1}, {n: w}]}"));
        check("a.b", None, Ok("{a: {}, l: [{n: x, v: 1}, {n: w}]}"));
        check("z.y", None, Ok("{a: {b: 1}, l: [{n: x, v: 1}, {n: w}]}"));
        check("l[n=w].v", Some("3"), Ok("{a: {b: 1}, l: [{n: x, v: 1}, {n: w, v: 3}]}"));
        check("l[0]", None, Ok("{a: {b: 1}, l: [{n: w}]}"));
        check("l[2]", Some("{n: z}"), Ok("{a: {b: 1}, l: [{n: x, v: 1}, {n: w}, {n: z}]}"));
        check("a.b.c", Some("1"), Err("`c`"));
        check("l[7]", Some("1"), Err("`[7]`"));
        check(".", Some("1"), Err("whole"));
    }
}
