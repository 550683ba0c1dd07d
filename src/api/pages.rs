//! Long lists in pieces: how many there are, some of them, and where the ones before and after are.

use super::refusal::Refusal;
use super::serve::Prefix;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;
use std::convert::Infallible;
use utoipa::ToSchema;

/// How many a page has where nobody says.
const LIMIT: usize = 50;
/// No page has more.
const LIMIT_MAX: usize = 1_000;
/// No list is longer.
const OFFSET_MAX: usize = 1_000_000_000;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// How many there are in all.
    pub count: u64,
    /// Where the next ones are.
    pub next: Option<String>,
    /// Where the ones before are.
    pub previous: Option<String>,
    /// These.
    pub results: Vec<T>,
}

/// Which part of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub limit: usize,
    pub offset: usize,
}

impl Window {
    /// What a query asks for.
    pub fn of(limit: Option<usize>, offset: Option<usize>) -> Result<Window, Refusal> {
        let limit = limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Refusal::field("limit", format!("write 1 to {LIMIT_MAX}")));
        }
        let offset = offset.unwrap_or(0);
        if offset > OFFSET_MAX {
            return Err(Refusal::field("offset", format!("write 0 to {OFFSET_MAX}")));
        }
        Ok(Window { limit, offset })
    }

    /// The part of a list that is there as a whole.
    pub fn cut<T>(&self, all: Vec<T>) -> (u64, Vec<T>) {
        let count = all.len() as u64;
        (count, all.into_iter().skip(self.offset).take(self.limit).collect())
    }
}

/// What links are made of: the address of the request, as the client wrote it.
pub(super) struct Links {
    path: String,
    query: String,
}

impl<S: Sync> FromRequestParts<S> for Links {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Links, Infallible> {
        let prefix = parts.extensions.get::<Prefix>().map_or("/api/v1", |it| it.0);
        let path = parts.uri.path();
        let path =
            path.strip_prefix("/api/v1").map_or(path.to_owned(), |it| format!("{prefix}{it}"));
        Ok(Links { path, query: parts.uri.query().unwrap_or_default().to_owned() })
    }
}

impl Links {
    /// A page with its neighbours.
    pub fn page<T>(&self, window: Window, count: u64, results: Vec<T>) -> Page<T> {
        let Window { limit, offset } = window;
        let more = (offset as u64).saturating_add(results.len() as u64) < count;
        let next = (more && !results.is_empty()).then(|| self.at(limit, offset + limit));
        let previous = (offset > 0).then(|| self.at(limit, offset.saturating_sub(limit)));
        Page { count, next, previous, results }
    }

    fn at(&self, limit: usize, offset: usize) -> String {
        let pairs = self.query.split('&').filter(|it| !it.is_empty());
        let kept = pairs.filter(|it| !it.starts_with("limit=") && !it.starts_with("offset="));
        let mut query: Vec<String> = kept.map(str::to_owned).collect();
        query.push(format!("limit={limit}"));
        query.push(format!("offset={offset}"));
        format!("{}?{}", self.path, query.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_its_neighbours() {
        let links = Links { path: "/api/v1/x".into(), query: "kind=VPC&offset=2&limit=2".into() };
        let window = Window::of(Some(2), Some(2)).unwrap();
        let (count, some) = window.cut(vec![1, 2, 3, 4, 5]);
        let page = links.page(window, count, some);
        assert_eq!((page.count, page.results), (5, vec![3, 4]));
        assert_eq!(page.next.unwrap(), "/api/v1/x?kind=VPC&limit=2&offset=4");
        assert_eq!(page.previous.unwrap(), "/api/v1/x?kind=VPC&limit=2&offset=0");
        assert!(Window::of(Some(0), None).is_err() && Window::of(Some(1_001), None).is_err());
        let beyond = Window { limit: 2, offset: 9 };
        assert!(links.page(beyond, 5, Vec::<u8>::new()).next.is_none());
    }
}
