//! The shapes of all answers: success with bytes or text, Go's error shape, redirects.
//!
//! Every answer says `nosniff` and its length; with the length set here, the answer to HEAD carries it although hyper
//! sends no body.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

/// An answer whose body is complete.
pub type Reply = Response<Bytes>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Tells `go tool pprof` that the body is a message to show.
const GO_PPROF: HeaderName = HeaderName::from_static("x-go-pprof");

/// A complete answer of any type.
pub fn reply(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let body = body.into();
    let length = HeaderValue::from(body.len());
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_LENGTH, length);
    reply
}

/// 200 with plain text.
///
/// ```
/// use greenprof_profiler::http::reply;
///
/// let reply = reply::text("hello\n");
/// assert_eq!((reply.status().as_u16(), &reply.body()[..]), (200, &b"hello\n"[..]));
/// assert_eq!(reply.headers()["content-type"], "text/plain; charset=utf-8");
/// ```
pub fn text(body: impl Into<Bytes>) -> Reply {
    reply(StatusCode::OK, TEXT, body)
}

/// 200 with a page.
pub fn html(body: String) -> Reply {
    reply(StatusCode::OK, HTML, body)
}

/// 200 with a file to save.
///
/// ```
/// use greenprof_profiler::http::reply;
///
/// let reply = reply::attachment("trace", b"go 1.26 trace".to_vec());
/// assert_eq!(reply.headers()["content-disposition"], "attachment; filename=\"trace\"");
/// ```
pub fn attachment(file_name: &str, body: Vec<u8>) -> Reply {
    let mut reply = reply(StatusCode::OK, BYTES, body);
    // A name that cannot stand in the header would only lose the suggestion where to save.
    let safe = file_name.replace(['"', '\\'], "_");
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{safe}\"")) {
        reply.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    reply
}

/// An error: one sentence that `go tool pprof` shows to its user.
pub fn error(status: StatusCode, message: impl std::fmt::Display) -> Reply {
    let mut reply = reply(status, TEXT, format!("{message}\n"));
    reply.headers_mut().insert(GO_PPROF, HeaderValue::from_static("1"));
    reply
}

/// 404 for a path outside of what this port serves.
pub(super) fn not_found() -> Reply {
    reply(StatusCode::NOT_FOUND, TEXT, "404 page not found\n")
}

/// 405, with the methods that are.
pub(super) fn method_not_allowed(allowed: &str) -> Reply {
    let mut reply = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
    // Method names are tokens.
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        reply.headers_mut().insert(header::ALLOW, allowed);
    }
    reply
}

/// 401, asking for a password.
pub(super) fn unauthorized() -> Reply {
    let mut reply = error(
        StatusCode::UNAUTHORIZED,
        "this port needs its token: send it as a bearer token, or as the password in http://:TOKEN@HOST:PORT/",
    );
    let challenge = HeaderValue::from_static("Basic realm=\"greenprof\"");
    reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    reply
}

/// 307 to another path of this port.
pub(super) fn redirect(path: &str, query: Option<&str>) -> Reply {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let body = format!("<a href=\"{}\">Temporary Redirect</a>.\n\n", escape(&target));
    let mut reply = reply(StatusCode::TEMPORARY_REDIRECT, HTML, body);
    // A query came out of a parsed URI, so it holds nothing that a header cannot.
    let target = HeaderValue::from_str(&target).unwrap_or(HeaderValue::from_static("/debug/pprof/"));
    reply.headers_mut().insert(header::LOCATION, target);
    reply
}

/// Makes text safe inside HTML, attributes included.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
