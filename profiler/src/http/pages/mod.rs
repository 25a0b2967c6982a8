//! Pages with a path of their own: how they are asked, and the two that every port has.

mod metrics;
mod rates;

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Method, Request, StatusCode};

use super::capture::blocking;
use super::limits::Limits;
use super::query::Query;
use super::registry::{RegisterError, Registry};
use super::reply::{self, Reply};
use super::{Ask, Page, route};

/// Puts `/metrics` and `/debug/greenprof/rates` into a registry. They show what is in the registry when they are asked.
///
/// # Errors
/// If there are pages of these paths already.
pub fn register_pages(registry: &Registry) -> Result<(), RegisterError> {
    registry.register_page(Arc::new(metrics::MetricsPage))?;
    registry.register_page(Arc::new(rates::RatesPage))
}

/// Asks a page.
pub(super) async fn answer<B>(
    registry: &Registry,
    limits: &Limits,
    page: Arc<dyn Page>,
    may_change: bool,
    request: Request<B>,
) -> Reply
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let method = match *request.method() {
        Method::HEAD => Method::GET,
        ref method => method.clone(),
    };
    let changes = page.changes();
    if method != Method::GET && !changes.contains(&method) {
        let others = changes.iter().map(|method| format!(", {method}"));
        return reply::method_not_allowed(&format!("GET, HEAD{}", others.collect::<String>()));
    }
    if method != Method::GET && !may_change {
        return reply::error(
            StatusCode::FORBIDDEN,
            "a request that changes something needs the port's token or the header \"X-Greenprof: 1\"",
        );
    }
    let query = Query::parse(request.uri().query().unwrap_or(""));
    let body = match method {
        Method::GET => Bytes::new(),
        _ => match route::body(limits, page.max_body(), request.into_body()).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        },
    };
    let ask = Ask { method, query, registry: registry.clone(), body };
    let answer = blocking(move || page.answer(&ask)).await;
    answer.unwrap_or_else(|| reply::error(StatusCode::INTERNAL_SERVER_ERROR, "this page failed"))
}
