//! Who is asking, and what they may do: by a token, or by the Unix socket they came through.
//!
//! Nothing is taken from a cookie, so a browser that is tricked into asking has nothing to show.

use super::house::House;
use super::listen::{Peer, Via};
use super::refusal::{ErrorCode, Refusal};
use super::tokens::{Scope, TokenFile};
use crate::clock;
use crate::config::{ApiSettings, PeerScope};
use crate::model::fabric::FabricName;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Routes that ask nobody who they are.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/api/v1/openapi.json"];
/// Routes whose callers sign what they send; the routes look at it.
const SIGNED: [&str; 3] =
    ["/api/v1/webhooks/github", "/api/v1/webhooks/gitlab", "/api/v1/webhooks/gitea"];
/// So many wrong tokens a second are looked at, from everybody together.
const STRANGERS_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
/// How many limits of single callers are kept before those that are idle are let go.
const LIMITS_MAX: usize = 10_000;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name that goes into commits and into the audit.
    pub actor: String,
    /// The token's id; none is somebody at the Unix socket.
    pub token: Option<String>,
    /// How far they may go.
    pub scope: Scope,
    /// For these fabrics alone; none is all.
    pub fabrics: Option<Vec<FabricName>>,
    /// Where they ask from.
    pub from: String,
}

impl Caller {
    /// Says whether they may look at a fabric.
    pub fn reaches(&self, fabric: &FabricName) -> bool {
        self.fabrics.as_ref().is_none_or(|it| it.contains(fabric))
    }

    /// Refuses what they may not do.
    pub fn may(&self, scope: Scope, fabric: Option<&FabricName>) -> Result<(), Refusal> {
        let denied = |why: String| Err(Refusal::new(ErrorCode::PermissionDenied, why));
        if self.scope < scope {
            let (needed, has) = (word(scope), word(self.scope));
            return denied(format!("this needs the scope `{needed}`; {} has `{has}`", self.actor));
        }
        match fabric {
            Some(it) if !self.reaches(it) => {
                denied(format!("{} may not reach fabric `{it}`", self.actor))
            }
            // What belongs to no fabric is not for somebody who is kept to some.
            None if scope > Scope::Read && self.fabrics.is_some() => {
                denied(format!("{} is kept to some fabrics", self.actor))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "read",
        Scope::Write => "write",
        Scope::Admin => "admin",
    }
}

/// What stands between the sockets and the routes.
pub(super) struct Gate {
    tokens: TokenFile,
    peers: PeerScope,
    /// Requests of each caller.
    limits: DefaultKeyedRateLimiter<String>,
    strangers: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Gate {
    pub fn new(settings: &ApiSettings, tokens: TokenFile) -> Gate {
        let rate = NonZeroU32::new(settings.requests_per_second).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(rate)
            .allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(1)));
        Gate {
            tokens,
            peers: settings.peers,
            limits: RateLimiter::keyed(quota),
            strangers: RateLimiter::direct(Quota::per_second(STRANGERS_PER_SECOND)),
            clock: DefaultClock::default(),
        }
    }

    /// Finds out who asks.
    fn caller(&self, request: &Request) -> Result<Caller, Refusal> {
        let via = request.extensions().get::<Via>();
        let from = via.map_or_else(|| "nowhere".to_owned(), |it| it.peer.to_string());
        if let Some(given) = request.headers().get(AUTHORIZATION) {
            return self.by_token(given.to_str().unwrap_or_default(), from);
        }
        let Some(Via { peer: Peer::Unix { uid, name, ours, .. }, .. }) = via else {
            return Err(nobody("a token is missing"));
        };
        let scope = match (*ours, self.peers) {
            (true, _) => Scope::Admin,
            (false, PeerScope::None) => return Err(nobody("users of this host need a token too")),
            (false, PeerScope::Read) => Scope::Read,
            (false, PeerScope::Write) => Scope::Write,
            (false, PeerScope::Admin) => Scope::Admin,
        };
        let actor = name.clone().unwrap_or_else(|| format!("uid {uid}"));
        Ok(Caller { actor, token: None, scope, fabrics: None, from })
    }

    fn by_token(&self, given: &str, from: String) -> Result<Caller, Refusal> {
        let (kind, text) = given.split_once(' ').unwrap_or_default();
        let known = ["bearer", "token"].iter().any(|it| kind.eq_ignore_ascii_case(it));
        let found = match known {
            true => self.tokens.find(text.trim()).map_err(|error| {
                tracing::error!(%error, "the tokens cannot be read");
                Refusal::new(ErrorCode::Unavailable, "the agent cannot read its tokens")
            })?,
            false => None,
        };
        let Some(token) = found else {
            return match self.strangers.check() {
                Ok(()) => Err(nobody("this token is not known, or not any more")),
                Err(_) => {
                    Err(Refusal::new(ErrorCode::RateLimited, "too many wrong tokens").after(1))
                }
            };
        };
        let (actor, scope) = (token.name, token.scope);
        Ok(Caller { actor, token: Some(token.id), scope, fabrics: token.fabrics, from })
    }

    /// Looks whether the tokens are what they were, once for all who stay.
    pub fn look(&self) {
        if let Err(error) = self.tokens.all() {
            tracing::error!(%error, "the tokens cannot be read");
            self.tokens.forget();
        }
    }

    /// The same, and says whether this caller may stay.
    pub fn look_and_admit(&self, caller: &Caller) -> bool {
        self.look();
        self.still_admits(caller)
    }

    /// Says whether a caller who came in may stay: their token is what it was at the last look, and not
    /// over.
    pub fn still_admits(&self, caller: &Caller) -> bool {
        let Some(id) = &caller.token else { return true };
        let tokens = self.tokens.held();
        let now = clock::now();
        tokens.iter().any(|it| {
            it.id == *id
                && it.scope == caller.scope
                && it.fabrics == caller.fabrics
                && it.expires_at.is_none_or(|end| now < end)
        })
    }

    /// Refuses a caller who asks too often.
    fn admit(&self, caller: &Caller) -> Result<(), Refusal> {
        if self.limits.len() > LIMITS_MAX {
            self.limits.retain_recent();
        }
        let key = caller.token.clone().unwrap_or_else(|| caller.actor.clone());
        let Err(until) = self.limits.check_key(&key) else { return Ok(()) };
        let wait = until.wait_time_from(self.clock.now()).as_secs() + 1;
        let message =
            "too many requests; see Retry-After, or api.requests_per_second in the settings";
        Err(Refusal::new(ErrorCode::RateLimited, message).after(wait))
    }
}

fn nobody(why: &str) -> Refusal {
    Refusal::new(ErrorCode::AuthenticationRequired, why)
        .suggest("send `Authorization: Bearer TOKEN`; `git-intake token add` makes one")
}

/// The layer that lets nobody in who may not come in.
pub(super) async fn admit(
    State(house): State<Arc<House>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if OPEN.contains(&path) || SIGNED.contains(&path) {
        return next.run(request).await;
    }
    let caller = match house.gate.caller(&request) {
        Ok(it) => it,
        Err(refusal) => {
            house.metrics.strangers.fetch_add(1, Ordering::Relaxed);
            return refusal.into_response();
        }
    };
    // The agent's own commands ask as often as they like.
    let ours = caller.token.is_none() && caller.scope == Scope::Admin;
    if !ours && let Err(refusal) = house.gate.admit(&caller) {
        house.metrics.limited.fetch_add(1, Ordering::Relaxed);
        return refusal.into_response();
    }
    // Whatever a handler forgets: who may only look changes nothing.
    let needed = if request.method().is_safe() { Scope::Read } else { Scope::Write };
    if caller.scope < needed
        && let Err(refusal) = caller.may(needed, None)
    {
        return refusal.into_response();
    }
    request.extensions_mut().insert(caller.clone());
    let mut response = next.run(request).await;
    response.extensions_mut().insert(caller);
    response
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Refusal> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| nobody("a token is missing"))
    }
}
