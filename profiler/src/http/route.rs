//! Which path is answered by what. Methods, redirects and error bodies are those of Go's `net/http/pprof`.
//!
//! Three things differ. A negative `debug` means 0 (Go labels compressed bytes as text). `seconds` has an upper bound
//! ([`MAX_SECONDS`](super::MAX_SECONDS)). And `symbol` answers POST: `go tool pprof` posts addresses without a
//! function to it, and drops the whole profile if that is refused. Go's profiles have no such address; ours do, in
//! libraries without symbols.

use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use tokio::time::timeout;

use super::capture::{self, blocking};
use super::limits::Limits;
use super::query::{self, Query};
use super::registry::Registry;
use super::reply::{self, Reply};
use super::{index, pages};
use crate::symbolize;
use greenprof_runtime::heap;

/// Where everything lives.
const ROOT: &str = "/debug/pprof/";

/// Largest body that may be posted: a list of some 70 000 addresses.
const MAX_BODY: usize = 1 << 20;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(15);

/// Answers one request. HEAD is answered like GET; the connection leaves out the body.
///
/// `may_change` says whether the request has shown that it is no foreign web page's; see `guard`.
pub(super) async fn answer<B>(registry: &Registry, limits: &Limits, may_change: bool, request: Request<B>) -> Reply
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bad_path = || reply::error(StatusCode::BAD_REQUEST, "the path has a broken escape");
    let Some(path) = query::decode(request.uri().path(), false) else { return bad_path() };
    // An asterisk for the whole server is not a path.
    if path.starts_with('/')
        && let Some(clean) = query::clean(&path)
    {
        return reply::redirect(&query::encode(&clean), request.uri().query());
    }
    let name = path.strip_prefix(ROOT);
    let is_root = path == "/" || path == ROOT.trim_end_matches('/');
    if !is_root {
        if let Some(page) = registry.page(&path) {
            return pages::answer(registry, limits, page, may_change, request).await;
        }
        if name.is_none() {
            return reply::not_found();
        }
    }
    let is_symbol = name == Some("symbol");
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    if !is_read && is_symbol && request.method() == Method::POST {
        return match body(limits, MAX_BODY, request.into_body()).await {
            Ok(list) => symbol(&String::from_utf8_lossy(&list)).await,
            Err(refusal) => refusal,
        };
    }
    if !is_read {
        return reply::method_not_allowed(if is_symbol { "GET, HEAD, POST" } else { "GET, HEAD" });
    }
    let raw_query = request.uri().query();
    let Some(name) = name else { return reply::redirect(ROOT, raw_query) };
    let query = Query::parse(raw_query.unwrap_or(""));
    match name {
        "" => {
            let registry = registry.clone();
            match blocking(move || index::render(&registry)).await {
                Some(page) => reply::html(page),
                None => reply::error(StatusCode::INTERNAL_SERVER_ERROR, "a profile failed to say its count"),
            }
        }
        "cmdline" => reply::text(command_line()),
        "symbol" => symbol(raw_query.unwrap_or("")).await,
        _ => match registry.capture(name) {
            Some(capture) => capture::record(capture, &query).await,
            None => named(registry, limits, name, &query).await,
        },
    }
}

async fn named(registry: &Registry, limits: &Limits, name: &str, query: &Query) -> Reply {
    let Some(profile) = registry.get(name) else {
        let folder = format!("{ROOT}{name}/");
        if registry.page(&folder).is_some() {
            return reply::redirect(&query::encode(&folder), None);
        }
        return reply::error(StatusCode::NOT_FOUND, "Unknown profile");
    };
    let profile = match heap::tracked(|| profile.view(query)) {
        Ok(view) => view.unwrap_or(profile),
        Err(message) => return reply::error(StatusCode::BAD_REQUEST, message),
    };
    if let Some(reason) = heap::tracked(|| profile.unavailable()) {
        return reply::error(StatusCode::SERVICE_UNAVAILABLE, reason);
    }
    if let Some(seconds) = query.get("seconds") {
        return capture::delta(limits, profile, seconds, query).await;
    }
    let debug = query.debug();
    let content_type = heap::tracked(|| profile.content_type(debug)).map(HeaderValue::from_static);
    let written = blocking(move || profile.write(debug)).await;
    match written {
        Some(Ok(bytes)) if let Some(content_type) = content_type => reply::reply(StatusCode::OK, content_type, bytes),
        Some(Ok(bytes)) if debug == 0 => reply::attachment(name, bytes),
        Some(Ok(text)) => reply::text(text),
        Some(Err(error)) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, error),
        None => reply::error(StatusCode::INTERNAL_SERVER_ERROR, "failed to collect profile"),
    }
}

/// The arguments this program was started with, as the kernel keeps them: joined by NUL.
fn command_line() -> Vec<u8> {
    std::env::args_os().map(OsStringExt::into_vec).collect::<Vec<_>>().join(&0)
}

/// Reads what was posted.
pub(super) async fn body<B>(limits: &Limits, longest: usize, body: B) -> Result<Bytes, Reply>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let _room = limits.bytes(longest)?;
    match timeout(BODY_PATIENCE, Limited::new(body, longest).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => {
            Err(reply::error(StatusCode::BAD_REQUEST, format_args!("the request's body could not be read: {error}")))
        }
        Err(_) => Err(reply::error(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time")),
    }
}

/// Names for addresses joined by `+`. What cannot be read or resolved is left out, as in Go.
async fn symbol(list: &str) -> Reply {
    let addresses: Vec<u64> =
        list.split('+').filter_map(query::parse_address).filter(|&address| address != 0).collect();
    let lines = blocking(move || heap::untracked(|| symbol_lines(&addresses)));
    match lines.await {
        Some(text) => reply::text(text),
        None => reply::error(StatusCode::INTERNAL_SERVER_ERROR, "the addresses could not be resolved"),
    }
}

fn symbol_lines(addresses: &[u64]) -> String {
    let mut symbolizer = symbolize::shared().lock();
    symbolizer.refresh();
    let mut text = "num_symbols: 1\n".to_owned();
    for &address in addresses {
        let Ok(place) = usize::try_from(address) else { continue };
        if let Some(frame) = symbolizer.resolve(place).first() {
            text.push_str(&format!("{address:#x} {}\n", frame.function));
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::http::{Capture, CaptureError, CaptureSession, Length, NamedProfile};
    use crate::profile::{LabelValue, Profile, ProfileError, ValueType, encode};
    use http_body_util::Full;
    use hyper::header;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    /// A profile whose only value grows by two with each snapshot.
    pub(crate) struct Fake {
        name: String,
        value: AtomicI64,
    }

    impl Fake {
        pub(crate) fn named(name: &str) -> Self {
            Self { name: name.into(), value: AtomicI64::new(5) }
        }
    }

    impl NamedProfile for Fake {
        fn name(&self) -> &str {
            &self.name
        }
        fn description(&self) -> &str {
            "A profile for tests."
        }
        fn count(&self) -> usize {
            3
        }
        fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError> {
            match self.name.as_str() {
                "broken" => Err(ProfileError::Unavailable("nothing to see".into())),
                "panicking" => panic!("a test profile that panics"),
                _ => Ok(format!("debug={debug}").into_bytes()),
            }
        }
        fn collect(&self) -> Option<Profile> {
            assert_ne!(self.name, "panicking");
            if self.name == "custom" {
                return None;
            }
            let kind = || ValueType::new("goroutine", "count");
            let mut profile = Profile::new(vec![kind()], kind(), 1);
            profile.default_sample_type = Some("goroutine".into());
            let label = vec![("k".to_owned(), LabelValue::Str("v".to_owned()))];
            profile.push(vec![symbol as fn(&'static str) -> _ as usize], vec![9], vec![]);
            profile.push(vec![1], vec![self.value.fetch_add(2, Ordering::SeqCst)], label);
            Some(profile)
        }
        fn supports_delta(&self) -> bool {
            self.name != "nodelta"
        }
    }

    /// A CPU profiler that only counts its sessions; one at a time.
    #[derive(Default)]
    pub(crate) struct FakeCpu {
        pub(crate) running: Arc<AtomicUsize>,
    }

    struct FakeSession(Arc<AtomicUsize>);

    impl Capture for FakeCpu {
        fn name(&self) -> &str {
            "profile"
        }
        fn description(&self) -> &str {
            "A capture for tests."
        }
        fn length(&self) -> Length {
            Length::Whole(30)
        }
        fn activity(&self) -> &str {
            "CPU profiling"
        }
        fn start(&self, _query: &Query) -> Result<Box<dyn CaptureSession>, CaptureError> {
            if self.running.fetch_add(1, Ordering::SeqCst) > 0 {
                self.running.fetch_sub(1, Ordering::SeqCst);
                return Err(CaptureError::Busy("cpu profiling already in use"));
            }
            Ok(Box::new(FakeSession(self.running.clone())))
        }
    }

    impl CaptureSession for FakeSession {
        fn finish(self: Box<Self>) -> Result<Vec<u8>, ProfileError> {
            Ok(b"cpu".to_vec())
        }
    }

    impl Drop for FakeSession {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn registry() -> Registry {
        let registry = Registry::new();
        for name in ["goroutine", "custom", "nodelta", "broken", "panicking", "with space"] {
            registry.register(Arc::new(Fake::named(name))).expect("a new name");
        }
        registry.register_capture(Arc::new(FakeCpu::default())).expect("a new name");
        registry
    }

    fn request(method: &str, uri: &str, body: &str) -> Request<Full<Bytes>> {
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        Request::builder().method(method).uri(uri).body(body).expect("a request")
    }

    /// Status, headers and body of one answer.
    fn ask(registry: &Registry, method: &str, uri: &str) -> (u16, header::HeaderMap, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let reply = answer(registry, &Limits::default(), false, request(method, uri, "")).await;
            let (head, body) = reply.into_parts();
            let body = body.to_vec();
            (head.status.as_u16(), head.headers, body)
        })
    }

    fn value<'a>(headers: &'a header::HeaderMap, name: &str) -> &'a str {
        headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    const SECONDS: &str = "invalid value for \"seconds\" - must be a positive integer\n";
    const NO_DELTA: &str = "\"seconds\" parameter is not supported for this profile type\n";

    #[test]
    fn errors_have_gos_status_headers_and_body() {
        let registry = registry();
        for (uri, status, body) in [
            ("/debug/pprof/nosuch", 404, "Unknown profile\n"),
            ("/debug/pprof/nosuch?seconds=abc", 404, "Unknown profile\n"),
            ("/debug/pprof/goroutine/", 404, "Unknown profile\n"),
            ("/debug/pprof/cmdline/", 404, "Unknown profile\n"),
            ("/debug/pprof/goroutine?seconds=0", 400, SECONDS),
            ("/debug/pprof/goroutine?seconds=-1", 400, SECONDS),
            ("/debug/pprof/goroutine?seconds=1.5", 400, SECONDS),
            ("/debug/pprof/goroutine?seconds=abc&debug=1", 400, SECONDS),
            ("/debug/pprof/goroutine?seconds=1&debug=1", 400, "seconds and debug params are incompatible\n"),
            ("/debug/pprof/goroutine?seconds=3601", 400, "invalid value for \"seconds\" - must be at most 3600\n"),
            ("/debug/pprof/profile?seconds=3601", 400, "invalid value for \"seconds\" - must be at most 3600\n"),
            ("/debug/pprof/nodelta?seconds=1&debug=1", 400, NO_DELTA),
            ("/debug/pprof/custom?seconds=1", 400, NO_DELTA),
            ("/debug/pprof/broken", 500, "nothing to see\n"),
            ("/debug/pprof/panicking?debug=1", 500, "failed to collect profile\n"),
            ("/debug/pprof/panicking?seconds=1", 500, "failed to collect profile\n"),
        ] {
            let (got, headers, text) = ask(&registry, "GET", uri);
            assert_eq!((got, String::from_utf8_lossy(&text).as_ref()), (status, body), "{uri}");
            assert_eq!(value(&headers, "content-type"), "text/plain; charset=utf-8", "{uri}");
            assert_eq!(value(&headers, "x-go-pprof"), "1", "{uri}");
            assert_eq!(value(&headers, "x-content-type-options"), "nosniff", "{uri}");
            assert!(!headers.contains_key("content-disposition"), "{uri}");
        }
    }

    #[test]
    fn profiles_come_as_files_and_texts_as_text() {
        let registry = registry();
        for (uri, body, kind, disposition) in [
            ("/debug/pprof/goroutine", "debug=0", "application/octet-stream", "attachment; filename=\"goroutine\""),
            (
                "/debug/pprof/goroutine?debug=-1",
                "debug=0",
                "application/octet-stream",
                "attachment; filename=\"goroutine\"",
            ),
            (
                "/debug/pprof/goroutine?debug=x&seconds=",
                "debug=0",
                "application/octet-stream",
                "attachment; filename=\"goroutine\"",
            ),
            ("/debug/pprof/goroutine?debug=1", "debug=1", "text/plain; charset=utf-8", ""),
            ("/debug/pprof/goroutine?debug=2", "debug=2", "text/plain; charset=utf-8", ""),
            ("/debug/pprof/with%20space?debug=1", "debug=1", "text/plain; charset=utf-8", ""),
            ("/debug/pprof/with%20space", "debug=0", "application/octet-stream", "attachment; filename=\"with space\""),
        ] {
            let (status, headers, text) = ask(&registry, "GET", uri);
            assert_eq!((status, String::from_utf8_lossy(&text).as_ref()), (200, body), "{uri}");
            assert_eq!(value(&headers, "content-type"), kind, "{uri}");
            assert_eq!(value(&headers, "content-disposition"), disposition, "{uri}");
            assert_eq!(value(&headers, "x-content-type-options"), "nosniff", "{uri}");
            assert_eq!(value(&headers, "content-length"), text.len().to_string(), "{uri}");
        }
    }

    #[test]
    fn paths_and_methods_follow_go() {
        let registry = registry();
        for (method, uri, status, location) in [
            ("GET", "/", 307, "/debug/pprof/"),
            ("GET", "/debug/pprof", 307, "/debug/pprof/"),
            ("HEAD", "/debug/pprof?debug=1", 307, "/debug/pprof/?debug=1"),
            ("GET", "/debug/pprof/", 200, ""),
            ("POST", "/debug/pprof/goroutine", 405, ""),
            ("PUT", "/debug/pprof/goroutine", 405, ""),
            ("DELETE", "/debug/pprof/nosuch", 405, ""),
            ("OPTIONS", "/debug/pprof", 405, ""),
            ("GET", "/elsewhere", 404, ""),
            ("POST", "/elsewhere", 404, ""),
            ("GET", "/debug/pprofx", 404, ""),
            ("GET", "/debug/%zz", 400, ""),
            ("GET", "/debug//pprof/a%20b?x", 307, "/debug/pprof/a%20b?x"),
            ("POST", "/debug/pprof/../pprof/", 307, "/debug/pprof/"),
        ] {
            let (got, headers, body) = ask(&registry, method, uri);
            assert_eq!((got, value(&headers, "location")), (status, location), "{method} {uri}");
            assert_eq!(value(&headers, "x-content-type-options"), "nosniff", "{method} {uri}");
            let body = String::from_utf8_lossy(&body);
            match status {
                404 => assert_eq!(body, "404 page not found\n", "{method} {uri}"),
                405 => {
                    assert_eq!((body.as_ref(), value(&headers, "allow")), ("Method Not Allowed\n", "GET, HEAD"));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_program_without_cpu_profiler_has_no_such_page() {
        let (status, _, body) = ask(&Registry::new(), "GET", "/debug/pprof/profile?seconds=1");
        assert_eq!((status, body.as_slice()), (404, b"Unknown profile\n".as_slice()));
    }

    #[test]
    fn a_cpu_profile_takes_its_time_and_is_exclusive() {
        let registry = registry();
        let began = std::time::Instant::now();
        let (status, headers, body) = ask(&registry, "GET", "/debug/pprof/profile?seconds=1");
        assert_eq!((status, body.as_slice()), (200, b"cpu".as_slice()));
        assert_eq!(value(&headers, "content-type"), "application/octet-stream");
        assert_eq!(value(&headers, "content-disposition"), "attachment; filename=\"profile\"");
        assert!(began.elapsed() >= std::time::Duration::from_secs(1));

        let _held = registry.capture("profile").expect("set").start(&Query::default()).expect("idle");
        let (status, headers, body) = ask(&registry, "GET", "/debug/pprof/profile?seconds=1");
        let text = String::from_utf8_lossy(&body);
        assert_eq!((status, text.as_ref()), (500, "Could not enable CPU profiling: cpu profiling already in use\n"));
        assert_eq!(value(&headers, "x-go-pprof"), "1");
    }

    #[test]
    fn a_cancelled_cpu_profile_stops_sampling() {
        let registry = Registry::new();
        let cpu = FakeCpu::default();
        let running = cpu.running.clone();
        registry.register_capture(Arc::new(cpu)).expect("a new name");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        for seconds in ["0", "abc", "-5", "1.5", "", "99999999999999999999"] {
            let uri = format!("/debug/pprof/profile?seconds={seconds}");
            runtime.block_on(async {
                let limits = Limits::default();
                // All of these mean 30 seconds, so none is done after a moment.
                let answer = answer(&registry, &limits, false, request("GET", &uri, ""));
                let patience = std::time::Duration::from_millis(60);
                assert!(tokio::time::timeout(patience, answer).await.is_err(), "{seconds:?}");
            });
            assert_eq!(running.load(Ordering::SeqCst), 0, "{seconds:?}");
        }
    }

    #[test]
    fn a_delta_has_what_changed_and_keeps_the_default_type() {
        let (status, headers, body) = ask(&registry(), "GET", "/debug/pprof/goroutine?seconds=1");
        assert_eq!(status, 200);
        assert_eq!(value(&headers, "content-disposition"), "attachment; filename=\"goroutine-delta\"");
        let delta = encode::decode(&body).expect("a profile");
        assert_eq!(delta.sample.len(), 1);
        assert_eq!(delta.sample[0].value, [2]);
        assert_eq!(delta.string_table[delta.default_sample_type as usize], "goroutine");
        assert!(delta.duration_nanos >= 1_000_000_000, "{}", delta.duration_nanos);
    }

    #[test]
    fn the_command_line_is_joined_by_nul() {
        let (status, _, body) = ask(&registry(), "GET", "/debug/pprof/cmdline");
        let expected = std::fs::read("/proc/self/cmdline").expect("own command line");
        assert_eq!((status, body.as_slice()), (200, expected.strip_suffix(b"\0").unwrap_or(&expected)));
    }

    #[test]
    fn symbols_are_named_and_the_unknown_left_out() {
        let address = command_line as fn() -> Vec<u8> as usize;
        let uri = format!("/debug/pprof/symbol?{address:#x}+nonsense+0+3+{address}");
        let (status, headers, body) = ask(&registry(), "GET", &uri);
        let name = "greenprof_profiler::http::route::command_line";
        let expected = format!("num_symbols: 1\n{address:#x} {name}\n{address:#x} {name}\n");
        assert_eq!((status, String::from_utf8_lossy(&body).as_ref()), (200, expected.as_str()));
        assert_eq!(value(&headers, "content-type"), "text/plain; charset=utf-8");
        assert_eq!(ask(&registry(), "GET", "/debug/pprof/symbol").2, b"num_symbols: 1\n");

        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (registry, limits) = (registry(), Limits::default());
        let post = |body: &str| {
            runtime.block_on(async {
                let reply = answer(&registry, &limits, false, request("POST", "/debug/pprof/symbol", body)).await;
                let (head, body) = reply.into_parts();
                (head.status.as_u16(), body)
            })
        };
        assert_eq!(post(&format!("0x3+{address:#x}")).1, format!("num_symbols: 1\n{address:#x} {name}\n"));
        assert_eq!(post(&"+".repeat(MAX_BODY + 1)).0, 400);
        let (status, headers, _) = ask(&registry, "PUT", "/debug/pprof/symbol");
        assert_eq!((status, value(&headers, "allow")), (405, "GET, HEAD, POST"));
    }
}
