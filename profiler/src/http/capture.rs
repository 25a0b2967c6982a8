//! Answers that take time: captures and differences of two snapshots.
//!
//! The waiting is asynchronous and holds no thread. If the client goes away, hyper drops the future, and with it the
//! session, which stops the recording; nothing else has to notice.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::task::JoinHandle;

use super::limits::Limits;
use super::query::Query;
use super::reply::{self, Reply};
use super::{Capture, CaptureError, Length, NamedProfile};
use crate::profile::{Profile, encode};
use crate::symbolize;
use greenprof_runtime::heap;

/// The longest capture that can be asked for, in seconds. A forgotten request must not sample for ever; an hour is far
/// beyond what the sample buffers and a reader's patience are made for.
pub const MAX_SECONDS: i64 = 3600;

/// Runs what may block on a thread that may; `None` if it panicked. If the client goes away before a thread has got round
/// to it, it is not run at all.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    struct Queued<T>(JoinHandle<T>);

    impl<T> Drop for Queued<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }

    let mut queued = Queued(tokio::task::spawn_blocking(work));
    (&mut queued.0).await.ok()
}

fn too_long() -> Reply {
    reply::error(StatusCode::BAD_REQUEST, format_args!("invalid value for \"seconds\" - must be at most {MAX_SECONDS}"))
}

/// How long a capture takes. As in Go a length that makes no sense means the default, never an error.
fn length(rule: Length, query: &Query) -> Duration {
    let asked = query.get("seconds");
    match rule {
        Length::Whole(default) => {
            let asked = asked.and_then(|value| value.parse::<i64>().ok()).filter(|&seconds| seconds > 0);
            Duration::from_secs(asked.map_or(default.into(), i64::unsigned_abs))
        }
        Length::Fractional(default) => {
            let asked = asked.and_then(|value| value.parse::<f64>().ok()).filter(|&seconds| seconds > 0.0);
            Duration::try_from_secs_f64(asked.unwrap_or(default)).unwrap_or(Duration::MAX)
        }
    }
}

/// `/debug/pprof/NAME` of something that is recorded for a while.
pub(super) async fn record(capture: Arc<dyn Capture>, query: &Query) -> Reply {
    let length = length(capture.length(), query);
    if length > Duration::from_secs(MAX_SECONDS.unsigned_abs()) {
        return too_long();
    }
    let internal = |what: &str, why: &str| {
        reply::error(StatusCode::INTERNAL_SERVER_ERROR, format_args!("Could not {what} {}: {why}", capture.activity()))
    };
    let session = {
        let (capture, query) = (capture.clone(), query.clone());
        blocking(move || capture.start(&query)).await
    };
    let session = match session {
        Some(Ok(session)) => session,
        Some(Err(CaptureError::BadRequest(why))) => return reply::error(StatusCode::BAD_REQUEST, why),
        Some(Err(error)) => return internal("enable", &error.to_string()),
        None => return internal("enable", "the profiler failed"),
    };
    tokio::time::sleep(length).await;
    match blocking(move || session.finish()).await {
        Some(Ok(bytes)) => reply::attachment(capture.name(), bytes),
        Some(Err(error)) => internal("finish", &error.to_string()),
        None => internal("finish", "the profiler failed"),
    }
}

/// `/debug/pprof/NAME?seconds=N`: what changed in N seconds. The checks come in Go's order.
pub(super) async fn delta(limits: &Limits, profile: Arc<dyn NamedProfile>, asked: &str, query: &Query) -> Reply {
    let bad_request = |message: &str| reply::error(StatusCode::BAD_REQUEST, message);
    let internal = |message: &str| reply::error(StatusCode::INTERNAL_SERVER_ERROR, message);
    let seconds = match asked.parse::<i64>() {
        Ok(seconds) if seconds > 0 => seconds,
        _ => return bad_request("invalid value for \"seconds\" - must be a positive integer"),
    };
    let unsupported = || bad_request("\"seconds\" parameter is not supported for this profile type");
    if !heap::tracked(|| profile.supports_delta()) {
        return unsupported();
    }
    if query.debug() != 0 {
        return bad_request("seconds and debug params are incompatible");
    }
    if seconds > MAX_SECONDS {
        return too_long();
    }
    let _room = match limits.delta() {
        Ok(room) => room,
        Err(refusal) => return refusal,
    };
    let before = match collect(&profile).await {
        Some(Some(before)) => before,
        Some(None) => return unsupported(),
        None => return internal("failed to collect profile"),
    };
    tokio::time::sleep(Duration::from_secs(seconds.unsigned_abs())).await;
    let Some(Some(after)) = collect(&profile).await else { return internal("failed to collect profile") };
    let encoded =
        blocking(move || heap::untracked(|| encode::encode(&after.since(before), &mut symbolize::shared().lock())));
    let encoded = encoded.await;
    match encoded {
        Some(Ok(bytes)) => reply::attachment(&format!("{}-delta", profile.name()), bytes),
        _ => internal("failed to compute delta"),
    }
}

async fn collect(profile: &Arc<dyn NamedProfile>) -> Option<Option<Profile>> {
    let profile = profile.clone();
    blocking(move || profile.collect()).await
}
