//! What answers a request, without the socket: for [`DebugServer`](super::DebugServer), and for programs that have a
//! server of their own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::{convert::Infallible, net::IpAddr};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::{Request, Response};

use super::guard::Guard;
use super::limits::Limits;
use super::registry::Registry;
use super::route;
use super::token::Token;

/// The port's pages for a server of the program's own. Clones share everything. It is a hyper service; with axum, call
/// [`Handler::answer`] in a fallback or in a route for `/debug/{*path}`. See the examples of the demos.
///
/// It needs a tokio runtime with a clock, and uses its threads for what blocks. It answers only while that runtime does: a
/// program whose runtime is stuck cannot be looked into this way, which is why the port has a thread of its own. Limits on
/// connections, on the time that a request's head takes and on slow readers are the server's.
///
/// ```
/// use greenprof_profiler::{http::{Handler, Token}, registry};
///
/// let handler = Handler::with_token(registry(), Token::new("s3cret")?);
/// // A service for hyper: one for each connection, all of which share what is counted and limited.
/// let for_one_connection = handler.clone();
/// # drop(for_one_connection);
/// # Ok::<(), greenprof_profiler::http::TokenError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Handler {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    guard: Guard,
    registry: Registry,
    limits: Limits,
}

impl Handler {
    /// Pages for everyone who has the token, as bearer or as the password of Basic authentication.
    pub fn with_token(registry: Registry, token: Token) -> Self {
        Self::new(registry, Guard::with_token(token, None))
    }

    /// Pages for requests to this machine by a loopback name or address, as the `Host` header says. The server must listen
    /// on a loopback address; the header alone keeps nobody out.
    pub fn for_loopback(registry: Registry) -> Self {
        Self::new(registry, Guard::for_address(IpAddr::from([127, 0, 0, 1])))
    }

    /// Pages for every request that the program lets through. What changes something still needs the header
    /// `X-Greenprof`.
    pub fn unguarded(registry: Registry) -> Self {
        Self::new(registry, Guard::none())
    }

    pub(super) fn new(registry: Registry, guard: Guard) -> Self {
        Self { inner: Arc::new(Inner { guard, registry, limits: Limits::default() }) }
    }

    /// Answers one request; always with some answer. Dropping the future ends what it has started.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Inner { guard, registry, limits } = &*self.inner;
        let pass = match guard.check(request.version(), request.uri(), request.headers()) {
            Ok(pass) => pass,
            Err(refusal) => return refusal.map(Full::new),
        };
        let mut answer = limits.hold(route::answer(registry, limits, pass.may_change, request).await);
        if let Some(cookie) = pass.cookie {
            answer.headers_mut().insert(hyper::header::SET_COOKIE, cookie);
        }
        answer.map(Full::new)
    }
}

impl<B> hyper::service::Service<Request<B>> for Handler
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let handler = self.clone();
        Box::pin(async move { Ok(handler.answer(request).await) })
    }
}
