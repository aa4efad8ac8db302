//! Which path is which call, and which status is which refusal.
//!
//! Owns the routes under `/v1` and the limits of a request. May not decide anything.
//! Invariant: every answer that is not a success has the body `{kind, message}`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::Core;
use crate::api::{self, Call, Command, PoolView, Refusal, RefusalKind, SetView, Sweep};

/// A commit names a few channels and a report holds 64 KiB; nothing comes near.
const BODY_BYTES_MAX: usize = 256 << 10;
const SWEEPS_MAX: usize = 1024;
/// Where a ledger page ends, the run that the next one begins with.
pub(crate) const NEXT_RUN_HEADER: &str = "cirrus-next-run";

pub(super) fn routes(core: Arc<Core>) -> Router {
    let router = Router::new()
        .route("/v1/health", get(async || "ok\n"))
        .route("/v1/status", get(status))
        .route("/v1/ledger/{channel}", get(ledger))
        .route("/v1/pools/{pool}/view", get(view))
        .route("/v1/sets/{set}", get(set))
        .route("/v1/sweeps", get(sweeps));
    calls(router)
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(core)
}

fn calls(router: Router<Arc<Core>>) -> Router<Arc<Core>> {
    let router = call::<api::Register>(router);
    let router = call::<api::Heartbeat>(router);
    let router = call::<api::MemberGone>(router);
    let router = call::<api::End>(router);
    let router = call::<api::SealSet>(router);
    let router = call::<api::Lease>(router);
    let router = call::<api::Commit>(router);
    let router = call::<api::Return>(router);
    let router = call::<api::OpenConsumer>(router);
    let router = call::<api::Next>(router);
    let router = call::<api::Checkpoint>(router);
    let router = call::<api::Lost>(router);
    let router = call::<api::Report>(router);
    let router = call::<api::RequestStop>(router);
    call::<api::Swept>(router)
}

fn call<C: Call + Into<Command> + 'static>(router: Router<Arc<Core>>) -> Router<Arc<Core>> {
    router.route(&format!("/v1/{}", C::PATH), post(answer::<C>))
}

async fn answer<C: Call + Into<Command>>(
    Shared(core): Shared<Arc<Core>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let call: C = parse(&headers, body)?;
    let reply = core.handle(call.into()).await?;
    Ok(axum::Json(reply).into_response())
}

/// A web page can post to loopback without asking, but not with this content type.
fn parse<C: Call>(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<C, Refusal> {
    let input = |message| Refusal::new(RefusalKind::Input, message);
    let json = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !json.is_some_and(|value| value.starts_with("application/json")) {
        return Err(input("the body must be JSON, with content-type: application/json".into()));
    }
    let body = body.map_err(|rejection| {
        let kind = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => RefusalKind::TooLarge,
            _ => RefusalKind::Input,
        };
        Refusal::new(kind, format!("{} (at most {BODY_BYTES_MAX} B)", rejection.body_text()))
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| input(format!("the body of /v1/{} is wrong: {error}", C::PATH)))
}

async fn status(Shared(core): Shared<Arc<Core>>) -> Result<Response, Refusal> {
    let status = core.read(|state| Ok(state.status()), |_| true).await?;
    Ok(axum::Json(status).into_response())
}

#[derive(Debug, Deserialize)]
struct ViewQuery {
    /// The epoch that the asker knows; the answer waits for a later one.
    #[serde(default)]
    after: Option<u32>,
}

async fn view(
    Shared(core): Shared<Arc<Core>>,
    Path(pool): Path<String>,
    Query(query): Query<ViewQuery>,
) -> Result<axum::Json<PoolView>, Refusal> {
    let news = |view: &PoolView| query.after.is_none_or(|after| view.epoch > after);
    core.read(|state| state.pool_view(&pool), news).await.map(axum::Json)
}

#[derive(Debug, Deserialize)]
struct SetQuery {
    /// Whether the answer waits for the set to be sealed.
    #[serde(default)]
    wait: bool,
}

async fn set(
    Shared(core): Shared<Arc<Core>>,
    Path(set): Path<String>,
    Query(query): Query<SetQuery>,
) -> Result<axum::Json<SetView>, Refusal> {
    let news = |view: &SetView| !query.wait || view.count.is_some();
    core.read(|state| state.set_view(&set), news).await.map(axum::Json)
}

async fn sweeps(Shared(core): Shared<Arc<Core>>) -> Result<axum::Json<Vec<Sweep>>, Refusal> {
    core.read(|state| Ok(state.pending_sweeps(SWEEPS_MAX)), |_| true).await.map(axum::Json)
}

#[derive(Debug, Deserialize)]
struct LedgerQuery {
    #[serde(default)]
    from_run: usize,
    /// All of them if missing.
    #[serde(default)]
    runs: Option<usize>,
}

/// One line of JSON a batch.
async fn ledger(
    Shared(core): Shared<Arc<Core>>,
    Path(channel): Path<String>,
    Query(query): Query<LedgerQuery>,
) -> Result<Response, Refusal> {
    let len = query.runs.unwrap_or(usize::MAX);
    let page =
        core.read(|state| state.ledger_lines(&channel, query.from_run, len), |_| true).await?;
    let (lines, next) = page;
    let mut body = Vec::new();
    for line in &lines {
        json_line(&mut body, line)?;
    }
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok(match next {
        Some(next) => (kind, [(NEXT_RUN_HEADER, next.to_string())], body).into_response(),
        None => (kind, body).into_response(),
    })
}

fn json_line(body: &mut Vec<u8>, line: &impl Serialize) -> Result<(), Refusal> {
    serde_json::to_writer(&mut *body, line)
        .map_err(|error| Refusal::new(RefusalKind::Unavailable, error.to_string()))?;
    body.push(b'\n');
    Ok(())
}

async fn nothing_here(method: axum::http::Method, uri: axum::http::Uri) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("there is no {method} {}", uri.path()))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.kind {
            RefusalKind::Input => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::MemberExpired
            | RefusalKind::StaleAttempt
            | RefusalKind::StaleGeneration
            | RefusalKind::StaleRequest
            | RefusalKind::Corrupt => StatusCode::CONFLICT,
            RefusalKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, axum::Json(self)).into_response()
    }
}
