//! The events as they happen, for clients that stay: server-sent events, resumed where they broke off.
//!
//! A stream takes from the ring whenever its client has taken what came before, so nothing gathers for
//! who is slow: they miss events, and are told how many. A stream holds no task, no queue and no copy,
//! only the number of the last event it gave.

use crate::agent::events::{Event, EventKind};
use crate::api::auth::Caller;
use crate::api::body::Query;
use crate::api::house::House;
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::event::{EventMessage, EventType, EventView, id_of};
use crate::model::fabric::FabricName;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::IntoParams;

/// The last event that a client has seen.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// A client that hears nothing for so long hears that the stream lives.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// A client waits so long before it comes back, in milliseconds.
const RETRY_MS: u32 = 2_000;
/// So many events are taken from the ring at once.
const TAKEN_MAX: usize = 64;
/// Who is over the limit may ask again after so many seconds.
const FULL_SECONDS: u64 = 30;

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Wanted {
    /// Of these fabrics only: names, with commas between them.
    fabric: Option<String>,
    /// Of these types only, with commas between them.
    #[serde(rename = "type")]
    #[param(rename = "type", value_type = Option<Vec<EventType>>, style = Form, explode = false,
        min_items = 1,        example = json!(["sync_completed", "file_rejected"]))]
    kind: Option<String>,
}

/// Follows what happens. The first message is `ready`; `missed` comes where events were let go that the
/// client had not seen, with their `count` where it is known. A comment comes when nothing else does.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(Wanted, ("Last-Event-ID" = Option<String>, Header,
        description = "The id of the last event seen; what came after it comes first.")),
    responses((status = 200, description = "Messages without an end; the schema is of each.",
        body = EventMessage, content_type = "text/event-stream")))]
pub(in crate::api) async fn follow(
    State(house): State<Arc<House>>,
    caller: Caller,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let filter = Filter::of(&house, &caller, &wanted)?;
    let permit = house.streams.clone().try_acquire_owned().map_err(|_| {
        let max = house.api().streams_max;
        let message = format!("{max} clients follow the events already (api.streams_max)");
        Refusal::new(ErrorCode::Unavailable, message).after(FULL_SECONDS)
    })?;
    let last = headers.get(LAST_EVENT_ID).map(|it| it.to_str().unwrap_or("?").trim().to_owned());
    let stream = Stream::open(house, caller, filter, permit, last.filter(|it| !it.is_empty()));
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(Messages(Some(Box::pin(stream.next()))))).into_response())
}

/// What a client asked for.
#[derive(Debug)]
struct Filter {
    fabrics: Option<BTreeSet<FabricName>>,
    kinds: Option<BTreeSet<EventKind>>,
}

impl Filter {
    fn of(house: &House, caller: &Caller, wanted: &Wanted) -> Result<Filter, Refusal> {
        caller.may(Scope::Read, None)?;
        let fabrics = wanted.fabric.as_ref().map(|it| {
            let named = it.split(',').map(str::trim);
            let named = named.map(|it| house.fabric(caller, it, Scope::Read));
            named.map(|it| it.map(|it| it.name().clone())).collect::<Result<_, Refusal>>()
        });
        let kinds = wanted.kind.as_ref().map(|it| it.split(',').map(kind).collect());
        Ok(Filter { fabrics: fabrics.transpose()?, kinds: kinds.transpose()? })
    }

    fn takes(&self, it: &Event) -> bool {
        let of_fabric = |wanted: &BTreeSet<FabricName>| {
            // What happens to a repository happens to each of its fabrics.
            it.fabric.as_ref().is_none_or(|it| wanted.contains(it))
        };
        self.fabrics.as_ref().is_none_or(of_fabric)
            && self.kinds.as_ref().is_none_or(|wanted| wanted.contains(&it.kind))
    }
}

fn kind(word: &str) -> Result<EventKind, Refusal> {
    EventKind::parse(word.trim()).ok_or_else(|| {
        let all: Vec<&str> = EventKind::ALL.iter().map(|it| it.word()).collect();
        Refusal::field("type", format!("there is no type `{word}`; there are {}", all.join(", ")))
    })
}

/// One client's place among the events.
struct Stream {
    house: Arc<House>,
    caller: Caller,
    filter: Filter,
    heard: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    /// The number of the last event that was given or passed over.
    last: u64,
    /// What is said before anything else.
    opening: Option<String>,
    _counted: Counted,
}

/// Holds a place among the streams, and is counted as long as it does.
struct Counted {
    house: Arc<House>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.house.metrics.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream {
    fn open(
        house: Arc<House>,
        caller: Caller,
        filter: Filter,
        permit: OwnedSemaphorePermit,
        seen: Option<String>,
    ) -> Stream {
        house.metrics.streams.fetch_add(1, Ordering::Relaxed);
        let counted = Counted { house: house.clone(), _permit: permit };
        let heard = house.heard.subscribe();
        let newest = house.events.last();
        let epoch = house.events.epoch();
        let number = |it: &str| it.strip_prefix(epoch)?.strip_prefix('-')?.parse::<u64>().ok();
        let (last, restarted) = match seen.as_deref().map(number) {
            None => (newest, false),
            Some(Some(number)) if number <= newest => (number, false),
            // An id of an earlier start, or none of ours: all that is kept of this one is new.
            Some(_) => (0, true),
        };
        let ready = format!("{{\"id\":\"{}\"}}", id_of(epoch, last));
        let mut opening = format!("retry: {RETRY_MS}\n");
        message(&mut opening, &id_of(epoch, last), "ready", &ready);
        if restarted {
            let data = "{\"count\":null,\"reason\":\"the agent was started anew since\"}";
            message(&mut opening, &id_of(epoch, last), "missed", data);
        }
        let stopping = house.stopping.subscribe();
        let opening = Some(opening);
        Stream { house, caller, filter, heard, stopping, last, opening, _counted: counted }
    }

    /// What the client gets next; none is the end.
    async fn next(mut self) -> Option<(Bytes, Stream)> {
        if let Some(opening) = self.opening.take() {
            return Some((Bytes::from(opening), self));
        }
        let asleep = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(asleep);
        loop {
            self.heard.mark_unchanged();
            let text = self.taken();
            // A token that was revoked ends what it opened.
            if *self.stopping.borrow() || !self.house.gate.still_admits(&self.caller) {
                return None;
            }
            if let Some(text) = text {
                return Some((text, self));
            }
            tokio::select! {
                // The house outlives its streams, so neither channel closes.
                _ = self.heard.changed() => (),
                _ = self.stopping.changed() => return None,
                () = &mut asleep => match self.house.gate.look_and_admit(&self.caller) {
                    true => return Some((Bytes::from_static(b": alive\n\n"), self)),
                    false => return None,
                },
            }
        }
    }

    /// The messages of what is new; none where there is nothing for this client. What a single event
    /// says is written down once, and shared by all who follow.
    fn taken(&mut self) -> Option<Bytes> {
        let mut all = Vec::new();
        loop {
            let found = self.house.events.since(self.last, TAKEN_MAX);
            let epoch = self.house.events.epoch();
            if found.missed > 0 {
                let data = format!("{{\"count\":{},\"reason\":\"too slow\"}}", found.missed);
                let id = id_of(epoch, self.last + found.missed);
                let mut text = String::new();
                message(&mut text, &id, "missed", &data);
                all.push(Bytes::from(text));
            }
            for it in &found.events {
                if self.filter.takes(it) && self.house.may_hear(&self.caller, it) {
                    all.push(it.written.get_or_init(|| written(epoch, it)).clone());
                }
            }
            let more = !found.events.is_empty();
            self.last = found.last;
            if !all.is_empty() || !more {
                return match all.len() {
                    0 | 1 => all.pop(),
                    _ => Some(Bytes::from(all.concat())),
                };
            }
        }
    }
}

/// The message of an event.
fn written(epoch: &str, it: &Event) -> Bytes {
    let view = EventView::of(epoch, it);
    // Plain values can always be written down.
    let data = serde_json::to_string(&view).unwrap_or_default();
    let mut text = String::new();
    message(&mut text, &view.id, it.kind.word(), &data);
    Bytes::from(text)
}

/// One message; neither id nor type nor JSON has a line break in it.
fn message(out: &mut String, id: &str, kind: &str, data: &str) {
    // Writing to a string does not fail.
    let _ = write!(out, "id: {id}\nevent: {kind}\ndata: {data}\n\n");
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Stream)>> + Send>>;

/// A stream as the body of an answer.
struct Messages(Option<Next>);

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        match next.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.0 = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some((bytes, stream))) => {
                self.0 = Some(Box::pin(stream.next()));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_wire_are_those_of_the_events() {
        for it in EventKind::ALL {
            assert_eq!(crate::api::wire::word(&EventType::from(it)), it.word());
        }
    }
}
