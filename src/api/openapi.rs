//! The description of the API, made from the code that answers.

use super::refusal::{ErrorBody, ErrorCode};
use super::routes;
use super::wire::event::EventView;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, PathItem, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "git-intake",
        description = "Fabrics, their resources and what happens to them. Every change becomes a \
                       commit with the caller's name in it. The same routes answer below \
                       /api/plugins/hedgehog, and with a slash at the end."
    ),
    components(schemas(ErrorBody, ErrorCode, EventView)),
    security(("token" = [])),
    modifiers(&Finish)
)]
struct Frame;

/// What holds for every route.
struct Finish;

impl Modify for Finish {
    fn modify(&self, document: &mut Document) {
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token of `git-intake token add`; `Token` does as well as `Bearer`.",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(token));
    }
}

/// The document's frame, to which the routes are added.
pub(super) fn frame() -> Document {
    Frame::openapi()
}

/// The whole document.
pub fn document() -> Document {
    let mut document = routes::described().split_for_parts().1;
    // The router's sign for what may hold slashes is none of OpenAPI.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths =
        paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            // By method and path, which no two share.
            let words = path.trim_start_matches("/api/v1").split(['/', '{', '}', '-', '.']);
            let words: Vec<&str> = words.filter(|it| !it.is_empty()).collect();
            operation.operation_id = Some(format!("{method}_{}", words.join("_")));
            finish(operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, it)| Some((method, it.as_mut()?)))
}

/// Every route may say no, always in the same shape; and every answer has a description.
fn finish(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let utoipa::openapi::RefOr::T(it) = response
            && it.description.is_empty()
        {
            it.description = format!("Answered with {status}.");
        }
    }
    let shape = Content::new(Some(Ref::from_schema_name("Error")));
    let no = ResponseBuilder::new()
        .description("A no: which kind, what was wrong where, and what to do next.")
        .content("application/json", shape)
        .build();
    operation.responses.responses.insert("default".to_owned(), no.into());
}

#[cfg(test)]
mod tests {
    use super::document;
    use crate::agent::events::EventKind;
    use serde_json::{Value, json};

    fn described() -> Value {
        serde_json::to_value(document()).unwrap()
    }

    #[test]
    fn what_a_query_may_hold_is_described_as_it_is_held_to() {
        let document = described();
        let mut limits = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            let all = item.as_object().unwrap().values();
            let parameters = all.filter_map(|it| it["parameters"].as_array()).flatten();
            for it in parameters {
                let (name, schema) = (it["name"].as_str().unwrap(), &it["schema"]);
                let bounds = (&schema["minimum"], &schema["maximum"]);
                match name {
                    "limit" => assert_eq!(bounds, (&json!(1), &json!(1000)), "{path}"),
                    "offset" => assert_eq!(bounds, (&json!(0), &json!(1_000_000_000)), "{path}"),
                    _ => continue,
                }
                limits += 1;
            }
        }
        assert!(limits > 10, "{limits}");
    }

    #[test]
    fn the_stream_of_events_is_described_by_its_messages_and_types() {
        let document = described();
        let events = &document["paths"]["/api/v1/events"]["get"];
        let content = &events["responses"]["200"]["content"]["text/event-stream"];
        assert_eq!(content["schema"]["$ref"], "#/components/schemas/EventMessage");
        let parameters = events["parameters"].as_array().unwrap();
        let kind = parameters.iter().find(|it| it["name"] == "type").unwrap();
        assert_eq!((&kind["style"], &kind["explode"]), (&json!("form"), &json!(false)));
        assert_eq!(kind["schema"]["items"]["$ref"], "#/components/schemas/EventType");
        let words: Vec<&str> = EventKind::ALL.iter().map(|it| it.word()).collect();
        let types = &document["components"]["schemas"]["EventType"];
        let listed = match types["enum"].as_array() {
            Some(it) => it.clone(),
            // Each with words of its own.
            None => {
                types["oneOf"].as_array().unwrap().iter().map(|it| it["const"].clone()).collect()
            }
        };
        assert_eq!(Value::from(listed), json!(words));
    }
}
