//! `GET /reports/NAME`: for a CDN that keeps what it is given, and for whoever asks past it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;

use super::access::{Denial, Grant};
use super::ask::Fault;
use super::kept::Answer;
use super::params;
use super::render::content_type;
use super::serve::{Failed, Server};
use crate::config::{Report, ReportFormat};
use crate::core::clock::Instant;
use crate::observe::guests::Guests;

/// Connections at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 1024;
/// How long a connection may be kept open between requests, or be silent in one: longer than a query may take.
const IDLE: Duration = Duration::from_secs(660);
/// What `Cache-Control` says of what nobody may keep.
const NO_STORE: &str = "no-store";

/// Serves for as long as it is polled, or until `over`: then connections end with the answer that they wait for.
///
/// # Errors
/// What the listener says.
pub async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    over: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let tls = server.shared.gate.reports.clone();
    let router = Router::new()
        .route("/reports/{name}", get(report))
        // For a CDN that asks whether there is anybody.
        .route("/healthz", get(|| async { ([(CACHE_CONTROL, NO_STORE)], "ok\n") }))
        .method_not_allowed_fallback(|| async {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "reports can only be got")
        })
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is no such report") })
        .layer(CompressionLayer::new().gzip(true).br(true))
        .with_state(server);
    let guests = Guests::new(listener, MAX_CONNECTIONS, IDLE).secured(tls);
    axum::serve(guests, router).with_graceful_shutdown(over).await
}

/// An answer without a report in it. Nobody is to keep it.
fn refusal(status: StatusCode, text: &str) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, NO_STORE)];
    (status, headers, format!("{text}\n")).into_response()
}

async fn report(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let current = server.current();
    let Some(report) = current.report(&name) else {
        return refusal(StatusCode::NOT_FOUND, "there is no such report");
    };
    let answer = answered(&server, &current, report, query.as_deref().unwrap_or_default(), &headers).await;
    server.shared.ledger.report(&name).answered(answer.status().as_u16());
    answer
}

async fn answered(
    server: &Server,
    current: &super::serve::Current,
    report: &Report,
    query: &str,
    headers: &HeaderMap,
) -> Response {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = match params::read(query) {
        Ok(asked) => asked,
        Err(problem) => return refusal(StatusCode::BAD_REQUEST, &problem),
    };
    let now = server.shared.unix_time() as u64;
    let keys = match &current.keys {
        Ok(keys) => keys,
        // Why is in the log; what is public needs no keys.
        Err(_) if !report.is_public() => {
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, "this report cannot be given now");
        }
        Err(_) => &super::access::Keys::default(),
    };
    let grant = match keys.check(report, &asked, text(AUTHORIZATION), now) {
        Ok(grant) => grant,
        Err(denial) => return denied(denial),
    };
    let values = match asked.values(report, matches!(grant, Grant::Signed(_))) {
        Ok(values) => values,
        Err(problem) => return refusal(StatusCode::BAD_REQUEST, &problem),
    };
    let (answer, vouched) = match server.answer(current, report, &values).await {
        Ok(found) => found,
        Err(failed) => return failure(&failed),
    };
    let is_known = text(IF_NONE_MATCH).is_some_and(|header| answer.is_named_by(header));
    given(report, &answer, grant, vouched, is_known)
}

/// Why somebody may not have it. Which of the proofs is wrong is all that is told.
fn denied(denial: Denial) -> Response {
    let (status, text) = match denial {
        Denial::Nothing => (StatusCode::UNAUTHORIZED, "this report asks for a signed URL or a token"),
        Denial::Token => (StatusCode::UNAUTHORIZED, "that token does not count here"),
        Denial::Signature => (StatusCode::FORBIDDEN, "the signature is not of this URL"),
        Denial::Expired => (StatusCode::FORBIDDEN, "this URL has expired"),
    };
    let mut response = refusal(status, text);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Why there is no answer. What may have data or names of objects in it is for SHOW REPORTS.
fn failure(failed: &Failed) -> Response {
    let (status, text) = match failed {
        Failed::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many ask for reports"),
        Failed::Fault(Fault::Value(text)) => return refusal(StatusCode::BAD_REQUEST, text),
        Failed::Fault(Fault::Time) => (StatusCode::GATEWAY_TIMEOUT, "the report takes too long"),
        Failed::Fault(Fault::Server(_)) => (StatusCode::SERVICE_UNAVAILABLE, "no server can be asked"),
        Failed::Fault(Fault::Large(bound)) => {
            let text = format!("the report is larger than it may be ({bound})");
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, &text);
        }
        Failed::Fault(Fault::Query(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "the report cannot be made"),
    };
    let mut response = refusal(status, text);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The report, or only that it has not changed.
fn given(report: &Report, answer: &Answer, grant: Grant, vouched: bool, is_known: bool) -> Response {
    let age = Instant::now().since(answer.made);
    let body = if is_known { bytes::Bytes::new() } else { answer.body.clone() };
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        // Everything that comes here is printable.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(CONTENT_TYPE, content_type(report.format));
    set(ETAG, &answer.etag);
    set(VARY, "accept-encoding");
    set(AGE, &age.as_secs().to_string());
    set(CACHE_CONTROL, &cache_control(report, grant, age, vouched));
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Where a link leads is not told what was signed.
    set(REFERRER_POLICY, "no-referrer");
    if report.format == ReportFormat::Html {
        set(CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    }
    set(HeaderName::from_static("surrogate-key"), &answer.tags.join(" "));
    set(HeaderName::from_static("cache-tag"), &answer.tags.join(","));
    if is_known {
        headers.remove(CONTENT_TYPE);
    }
    response
}

/// Who may keep it, and for how long (RFC 9111; RFC 5861 for what is stale). Browsers ask each time, as nobody can tell
/// them of a write. What is not public nobody keeps at all, unless `edge` says that a shared cache may: then no longer
/// than its URL is good for, since the cache does not look at that.
fn cache_control(report: &Report, grant: Grant, age: Duration, vouched: bool) -> String {
    let (shared, left) = match grant {
        Grant::Public => (true, Duration::MAX),
        Grant::Signed(left) => (report.edge, left),
        Grant::Token => (false, Duration::ZERO),
    };
    if !shared {
        return "private, no-store".into();
    }
    if !vouched {
        // It was being written to meanwhile: who comes next is to ask again.
        return "public, max-age=0, s-maxage=0, must-revalidate".into();
    }
    // Caches count from the age that they are told.
    let fresh = report.ttl.saturating_sub(age).min(left);
    let rest = left.saturating_sub(fresh);
    let mut header = format!("public, max-age=0, s-maxage={}", (age + fresh).as_secs());
    for (name, stale) in
        [("stale-while-revalidate", report.stale_while_revalidate), ("stale-if-error", report.stale_if_error)]
    {
        let stale = stale.min(rest).as_secs();
        if stale > 0 {
            header.push_str(&format!(", {name}={stale}"));
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn who_may_keep_it_and_for_how_long() {
        let secs = Duration::from_secs;
        let lasting =
            Report { ttl: secs(60), stale_while_revalidate: secs(30), stale_if_error: secs(600), ..report() };
        let of = |report: &Report, grant, age| cache_control(report, grant, secs(age), true);
        assert_eq!(
            of(&lasting, Grant::Public, 10),
            "public, max-age=0, s-maxage=60, stale-while-revalidate=30, stale-if-error=600"
        );
        assert_eq!(of(&report(), Grant::Public, 0), "public, max-age=0, s-maxage=60");
        assert_eq!(of(&lasting, Grant::Signed(secs(100)), 0), "private, no-store");
        assert_eq!(of(&lasting, Grant::Token, 0), "private, no-store");
        let edge = Report { edge: true, ..lasting };
        // Nothing is given for longer than the URL is good for: fresh 40 s, then stale for 5 at most.
        assert_eq!(
            of(&edge, Grant::Signed(secs(45)), 20),
            "public, max-age=0, s-maxage=60, stale-while-revalidate=5, stale-if-error=5"
        );
        assert_eq!(of(&edge, Grant::Signed(secs(7)), 20), "public, max-age=0, s-maxage=27");
        let unvouched = cache_control(&edge, Grant::Public, secs(0), false);
        assert_eq!(unvouched, "public, max-age=0, s-maxage=0, must-revalidate");
    }
}
