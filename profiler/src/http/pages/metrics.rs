//! `/metrics`: what the collectors say, in OpenMetrics text.

use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::http::reply::{self, Reply};
use crate::http::{Ask, Page};

/// The only format that is offered; Prometheus asks for it first.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(super) struct MetricsPage;

impl Page for MetricsPage {
    fn path(&self) -> &str {
        "/metrics"
    }

    fn description(&self) -> &str {
        "Figures of the runtime and the profilers, for Prometheus."
    }

    fn answer(&self, ask: &Ask) -> Reply {
        match ask.registry.metrics() {
            Ok(text) => reply::reply(StatusCode::OK, OPEN_METRICS, text),
            Err(_) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, "a collector failed to say its figures"),
        }
    }
}
