//! The one shape of a no: which kind it is, what was wrong where, and what to do next.
//!
//! Handlers return a [`Refusal`]; the outermost layer writes it down with the request's id and the
//! time, so that whatever goes wrong, also in a library, leaves in the same shape.

use crate::agent::Because;
use crate::agent::desk::Answer;
use crate::model::problem::{Problem, Severity};
use crate::store;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Which kind of no; programs may rely on these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// There is no such route.
    NotFound,
    /// There is no such fabric.
    FabricNotFound,
    /// There is no such repository.
    RepositoryNotFound,
    /// There is no such resource.
    ResourceNotFound,
    /// There is no such operation.
    OperationNotFound,
    /// There is no such conflict.
    ConflictNotFound,
    /// There is no such file.
    FileNotFound,
    /// There is no such webhook.
    WebhookNotFound,
    /// There is no such delivery, or it has arrived.
    DeliveryNotFound,
    /// The route exists, for other methods: see `Allow`.
    MethodNotAllowed,
    /// No token, or one that is not known.
    AuthenticationRequired,
    /// The token may not do that.
    PermissionDenied,
    /// The repository, or that part of it, is closed to the API.
    RepositoryAccessDenied,
    /// The same is under way already.
    OperationInProgress,
    /// The fabric's directories have not been made yet.
    DirectoryNotInitialized,
    /// The conflict cannot be resolved that way.
    ConflictResolutionFailed,
    /// Others changed the same fields meanwhile; both contents are kept.
    ConflictDetected,
    /// Too many requests: see `Retry-After`.
    RateLimited,
    /// Something in the request is wrong.
    ValidationFailed,
    /// The document is not what the client saw any more.
    PreconditionFailed,
    /// There is such a thing already.
    AlreadyExists,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is of a type that is not understood.
    UnsupportedMediaType,
    /// The repository stands still until a person acts.
    RepositoryHeld,
    /// It cannot be done as things stand.
    Refused,
    /// It took too long.
    TimeoutError,
    /// The agent is stopping, or has too much to do.
    Unavailable,
    /// A mistake of the agent's own.
    InternalError,
}

impl ErrorCode {
    /// The status it goes with.
    pub(super) fn status(self) -> StatusCode {
        use ErrorCode as E;
        match self {
            E::NotFound
            | E::FabricNotFound
            | E::RepositoryNotFound
            | E::ResourceNotFound
            | E::OperationNotFound
            | E::ConflictNotFound
            | E::FileNotFound
            | E::WebhookNotFound
            | E::DeliveryNotFound => StatusCode::NOT_FOUND,
            E::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            E::AuthenticationRequired => StatusCode::UNAUTHORIZED,
            E::PermissionDenied | E::RepositoryAccessDenied => StatusCode::FORBIDDEN,
            E::OperationInProgress
            | E::DirectoryNotInitialized
            | E::AlreadyExists
            | E::ConflictDetected
            | E::RepositoryHeld
            | E::Refused => StatusCode::CONFLICT,
            E::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            E::ConflictResolutionFailed | E::IdempotencyKeyReused => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            E::ValidationFailed => StatusCode::BAD_REQUEST,
            E::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            E::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            E::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            E::Unavailable | E::TimeoutError => StatusCode::SERVICE_UNAVAILABLE,
            E::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// One mistake of a document, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ValidationError {
    /// A stable name for the rule, such as `duplicate-key`.
    pub rule: String,
    /// `error`, or `warning` for what does not keep the document from being filed.
    pub severity: &'static str,
    /// Which document, counted from 1.
    pub document: Option<u32>,
    /// Which line, counted from 1.
    pub line: Option<u32>,
    /// Which character of the line, counted from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl From<&Problem> for ValidationError {
    fn from(it: &Problem) -> ValidationError {
        ValidationError {
            rule: it.rule.clone(),
            severity: match it.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            document: it.document,
            line: it.line,
            column: it.column,
            message: it.message.clone(),
            hint: it.hint.clone(),
        }
    }
}

/// What exactly was wrong.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Details {
    /// By the field of the request.
    pub field_errors: BTreeMap<String, Vec<String>>,
    /// By the place in a document.
    pub validation_errors: Vec<ValidationError>,
    /// What to do next.
    pub suggestions: Vec<String>,
}

/// Every answer that says no.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// In words.
    pub error: String,
    /// Which kind.
    pub error_code: ErrorCode,
    /// What exactly was wrong.
    pub details: Details,
    /// Names this request in the agent's log.
    pub request_id: String,
    /// When.
    #[schema(format = DateTime)]
    pub timestamp: String,
}

/// A no, on its way out.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) status: StatusCode,
    pub(super) message: String,
    pub(super) details: Details,
    /// Seconds.
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            status: code.status(),
            message: message.into(),
            details: Details::default(),
            retry_after: None,
        }
    }

    /// A field of the request that is wrong.
    pub(super) fn field(field: &str, message: impl Into<String>) -> Refusal {
        let message = message.into();
        let mut refusal =
            Refusal::new(ErrorCode::ValidationFailed, format!("`{field}` is wrong: {message}"));
        refusal.details.field_errors.insert(field.to_owned(), vec![message]);
        refusal
    }

    /// A field that is of the right form, and asks for what cannot be.
    pub(super) fn unfit(field: &str, message: impl Into<String>) -> Refusal {
        Refusal::field(field, message).status(StatusCode::UNPROCESSABLE_ENTITY)
    }

    pub(super) fn suggest(mut self, what: impl Into<String>) -> Refusal {
        self.details.suggestions.push(what.into());
        self
    }

    pub(super) fn status(mut self, status: StatusCode) -> Refusal {
        self.status = status;
        self
    }

    pub(super) fn after(mut self, seconds: u64) -> Refusal {
        self.retry_after = Some(seconds);
        self
    }

    /// What a lane's no becomes, `absent` being what a thing that is not there is called here.
    pub(super) fn of(answer: Answer, absent: ErrorCode) -> Refusal {
        let Answer::Refused { message, later, because, problems } = answer else {
            tracing::error!("a lane gave another answer than asked for");
            return Refusal::new(ErrorCode::InternalError, "the agent gave an unexpected answer");
        };
        let code = match because {
            Because::Absent => absent,
            Because::Refused => ErrorCode::Refused,
            Because::Invalid => ErrorCode::ValidationFailed,
            Because::Exists => ErrorCode::AlreadyExists,
            Because::Stale => ErrorCode::PreconditionFailed,
            Because::Held => ErrorCode::RepositoryHeld,
            Because::Busy => ErrorCode::Unavailable,
            Because::Failed if later => ErrorCode::Unavailable,
            Because::Failed => ErrorCode::InternalError,
        };
        let mut refusal = Refusal::new(code, message);
        if because == Because::Invalid {
            refusal = refusal.status(StatusCode::UNPROCESSABLE_ENTITY);
        }
        if code == ErrorCode::Unavailable {
            refusal = refusal.after(1);
        }
        refusal.details.validation_errors = problems.iter().map(ValidationError::from).collect();
        refusal
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Refusal {
        tracing::error!(%error, source = ?std::error::Error::source(&error), "cannot read the store for the API");
        Refusal::new(ErrorCode::Unavailable, "the agent's store cannot be read now").after(5)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<crate::git::Error> for Refusal {
    fn from(error: crate::git::Error) -> Refusal {
        tracing::error!(%error, source = ?std::error::Error::source(&error), "cannot read the repository for the API");
        Refusal::new(ErrorCode::Unavailable, "the repository cannot be read now").after(5)
    }
}

impl From<crate::agent::Error> for Refusal {
    fn from(error: crate::agent::Error) -> Refusal {
        let answer = Answer::Refused {
            message: error.chain(),
            later: error.retry() == crate::git::Retry::Later,
            because: error.because(),
            problems: error.problems().to_vec(),
        };
        Refusal::of(answer, ErrorCode::NotFound)
    }
}
