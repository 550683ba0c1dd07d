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
