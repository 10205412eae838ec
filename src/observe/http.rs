//! `/metrics`, `/healthz`, `/readyz`: for Prometheus and for whoever restarts or routes around us.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::guests::Guests;
use super::metrics::Told;
use super::{metrics, prometheus};
use crate::session::shared::Shared;

/// Answers being worked out at once; more are told to come again.
const MAX_REQUESTS: usize = 16;
/// Connections at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 128;
/// How long a connection may be kept open between requests, or take for one.
const IDLE: Duration = Duration::from_secs(60);
/// Longest time for one answer.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    told: Arc<Told>,
    room: Arc<Semaphore>,
}

/// Serves for as long as it is polled, or until `over`: then connections end with the answer that they wait for, so
/// that whoever keeps one open asks the process that listens next.
///
/// # Errors
/// What the listener says.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    told: Arc<Told>,
    over: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let context = Context { shared, told, room: Arc::new(Semaphore::new(MAX_REQUESTS)) };
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(context);
    let guests = Guests::new(listener, MAX_CONNECTIONS, IDLE);
    axum::serve(guests, router).with_graceful_shutdown(over).await
}

async fn scrape(State(context): State<Context>) -> impl IntoResponse {
    let Ok(_room) = context.room.clone().try_acquire_owned() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            [(CONTENT_TYPE, "text/plain")],
            "too many scrapes\n".to_string(),
        );
    };
    // Copying histograms takes a while with many pools; the event loop has clients to serve.
    let collect = move || metrics::collect(&context.shared, &context.told);
    let work = tokio::task::spawn_blocking(move || prometheus::render(&collect()));
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(text)) => (StatusCode::OK, [(CONTENT_TYPE, prometheus::CONTENT_TYPE)], text),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], "no metrics\n".to_string()),
    }
}

async fn ready(State(context): State<Context>) -> impl IntoResponse {
    if context.shared.draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    (StatusCode::OK, "ok\n")
}
