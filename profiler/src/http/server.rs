//! The socket, its thread, and the limits on both.
//!
//! One OS thread runs a single-threaded tokio runtime that accepts and answers. It shares nothing with the program's own
//! workers, so it answers while they are all busy or stuck. Everything a peer can make it hold is bounded: connections,
//! the size of a request's head and the time until it is complete, the time an answer may be stuck, the number of
//! threads that collect and encode.
//!
//! Shutting down: the stop message ends the accept loop, dropping the runtime drops all connections and with them any
//! capture in progress, and the thread is joined; when [`DebugServer::shutdown`] returns, the port is free again.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::guard::Guard;
use super::handler::Handler;
use super::registry::Registry;
use super::session::Session;
use super::stall::Stall;
use super::token::{Token, TokenError};
use crate::process;
use greenprof_runtime::heap;

/// Where the port is if nothing else is said: Go's customary address.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:6060";

/// Threads that collect and encode at a time. More would compete with the program for its processors.
pub const MAX_BLOCKING_THREADS: usize = 4;

/// Connections at a time unless set otherwise: a browser opens six, tools one each. A connection without a request is a
/// few KiB.
const DEFAULT_CONNECTIONS: usize = 256;

/// Connections beyond the limit that are told so at a time; more are just closed.
const MAX_REFUSALS: usize = 16;

/// Largest request head in bytes. Browsers with cookies for localhost from other programs send a few KiB.
const MAX_HEAD: usize = 16 << 10;

/// How long a request head may take to arrive, and how long an idle connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);

/// How long an answer may make no progress.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// How long a refused peer may take to read why.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// How long a shutdown waits for a profile that is being written; its thread ends by itself when it is done.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// Pause after a failed accept: the usual cause, too many open files, does not go away by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nX-Go-Pprof: 1\r\n\
    X-Content-Type-Options: nosniff\r\nContent-Length: 40\r\nConnection: close\r\n\r\n\
    too many connections to this debug port\n";

/// Why the port could not be opened.
///
/// ```
/// use greenprof_profiler::http::{BindError, DebugServer};
///
/// let error = DebugServer::builder().address("0.0.0.0:0").bind().unwrap_err();
/// assert!(matches!(error, BindError::Remote(_)), "other machines may ask only if the program says so");
/// let error = DebugServer::builder().address("0.0.0.0:0").allow_remote(true).bind().unwrap_err();
/// assert!(matches!(error, BindError::TokenMissing(_)), "and only with a token");
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address is no `HOST:PORT` or its name does not resolve.
    #[error("{address:?} is no address to listen on: {source}")]
    BadAddress {
        /// What was given.
        address: String,
        /// Why it is none.
        source: io::Error,
    },
    /// The address can be reached from other machines, and that was not asked for.
    #[error("{0} can be reached from other machines; call allow_remote(true) and set a token if that is wanted")]
    Remote(SocketAddr),
    /// Other machines may ask, but there is no token for them to prove who they are.
    #[error("{0} can be reached from other machines, so a token is needed; set one that is not empty")]
    TokenMissing(SocketAddr),
    /// There should be a token, but what was given is none.
    #[error(transparent)]
    BadToken(#[from] TokenError),
    /// Another program, or another server of this one, has the port.
    #[error("{0} is in use; stop what listens there, or choose another port (port 0 takes any free one)")]
    InUse(SocketAddr),
    /// Anything else that the system refuses.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The thread or its runtime could not be made.
    #[error("the thread that serves the port could not be started: {0}")]
    Thread(io::Error),
}

/// Settings of a [`DebugServer`].
///
/// ```
/// use greenprof_profiler::{http::DebugServer, registry};
///
/// let port = DebugServer::builder()
///     .address("127.0.0.1:0") // any free one
///     .token("s3cret")
///     .max_connections(8)
///     .registry(registry())
///     .bind()?;
/// assert_ne!(port.local_addr().port(), 0);
/// # Ok::<(), greenprof_profiler::http::BindError>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    address: String,
    allow_remote: bool,
    token: Option<Token>,
    bad_token: Option<TokenError>,
    registry: Registry,
    max_connections: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            address: DEFAULT_ADDRESS.to_owned(),
            allow_remote: false,
            token: None,
            bad_token: None,
            registry: Registry::new(),
            max_connections: DEFAULT_CONNECTIONS,
        }
    }
}

impl Builder {
    /// Where to listen, `HOST:PORT`; port 0 takes any free one. Default: [`DEFAULT_ADDRESS`].
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Allows an address that other machines can reach. A token must be set as well. The connection is not encrypted, so
    /// the token is as secret as the network is.
    pub fn allow_remote(mut self, allow: bool) -> Self {
        self.allow_remote = allow;
        self
    }

    /// Requires this token from everyone, as bearer or as Basic password.
    pub fn token(self, token: impl Into<String>) -> Self {
        self.with_token(Token::new(token))
    }

    /// Requires the token that stands in this environment variable.
    pub fn token_from_env(self, variable: &str) -> Self {
        self.with_token(Token::from_env(variable))
    }

    /// Requires the token that stands in this file.
    pub fn token_from_file(self, path: impl AsRef<Path>) -> Self {
        self.with_token(Token::from_file(path))
    }

    /// What is wrong with a token is said by `bind`.
    fn with_token(mut self, token: Result<Token, TokenError>) -> Self {
        match token {
            Ok(token) => self.token = Some(token),
            Err(error) => self.bad_token = Some(error),
        }
        self
    }

    /// What to serve. Profiles may be registered later too.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// How many connections are served at a time, at least one.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Opens the port and starts its thread.
    pub fn bind(self) -> Result<DebugServer, BindError> {
        let listener = self.listen()?;
        if let Some(error) = self.bad_token {
            return Err(error.into());
        }
        let local_address = listener.local_addr().map_err(BindError::Thread)?;
        listener.set_nonblocking(true).map_err(BindError::Thread)?;
        let guard = match self.token {
            Some(token) => Guard::with_token(token, Session::new(local_address.port())),
            None => Guard::for_address(local_address.ip()),
        };
        let handler = Handler::new(self.registry, guard);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .thread_name("greenprof-write")
            .on_thread_start(process::threads::enter)
            .on_thread_stop(process::threads::leave)
            .build()
            .map_err(BindError::Thread)?;
        let max_connections = self.max_connections;
        let thread = std::thread::Builder::new()
            .name("greenprof-http".to_owned())
            .spawn(move || {
                // The port's own memory is not the program's. Profiles are written on other threads, and what they need
                // is for them to say; the little of theirs that runs here is called through `tracked`.
                heap::untracked(|| {
                    process::threads::enter();
                    runtime.block_on(accept_until(stopped, listener, handler, max_connections));
                    runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
                    process::threads::leave();
                });
            })
            .map_err(BindError::Thread)?;
        Ok(DebugServer { local_address, stop: Some(stop), thread: Some(thread) })
    }

    /// Checks every address the name stands for, then takes the first that works.
    fn listen(&self) -> Result<TcpListener, BindError> {
        let bad_address = |source| BindError::BadAddress { address: self.address.clone(), source };
        let addresses: Vec<SocketAddr> = self.address.to_socket_addrs().map_err(bad_address)?.collect();
        for &address in addresses.iter().filter(|address| !address.ip().to_canonical().is_loopback()) {
            if !self.allow_remote {
                return Err(BindError::Remote(address));
            }
            if self.token.is_none() && self.bad_token.is_none() {
                return Err(BindError::TokenMissing(address));
            }
        }
        let mut failure = bad_address(io::ErrorKind::NotFound.into());
        for address in addresses {
            match TcpListener::bind(address) {
                Ok(listener) => return Ok(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => failure = BindError::InUse(address),
                Err(source) => failure = BindError::Listen { address, source },
            }
        }
        Err(failure)
    }
}

/// A running port. Dropping it closes the port.
///
/// ```
/// use std::{io::{Read, Write}, net::TcpStream};
///
/// let port = greenprof_profiler::serve("127.0.0.1:0")?;
/// let address = port.local_addr();
/// let mut connection = TcpStream::connect(address)?;
/// write!(connection, "GET /debug/pprof/goroutine?debug=1 HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
/// let mut answer = String::new();
/// connection.read_to_string(&mut answer)?;
/// assert!(answer.contains("goroutine profile: total "), "{answer}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DebugServer {
    local_address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DebugServer {
    /// Settings to start from.
    ///
    /// ```
    /// use greenprof_profiler::{http::DebugServer, registry};
    ///
    /// let port = DebugServer::builder().address("127.0.0.1:0").registry(registry()).token("s3cret").bind()?;
    /// assert!(port.local_addr().ip().is_loopback());
    /// port.shutdown();
    /// # Ok::<(), greenprof_profiler::http::BindError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens; with the real port if port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_address
    }

    /// Closes the port, its connections and captures, and waits for its thread.
    pub fn shutdown(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Nobody listens any more only if the thread is gone already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the server thread was reported when it happened and must not become ours.
            let _ = thread.join();
        }
    }
}

impl Drop for DebugServer {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

async fn accept_until(
    mut stopped: oneshot::Receiver<()>,
    listener: TcpListener,
    handler: Handler,
    max_connections: usize,
) {
    // Fails only where the runtime has no I/O driver, which it was built with.
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(max_connections));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if let Ok(place) = places.clone().try_acquire_owned() {
            tokio::spawn(serve(stream, handler.clone(), place));
        } else if let Ok(place) = refusals.clone().try_acquire_owned() {
            tokio::spawn(refuse(stream, place));
        }
    }
}

/// Serves one connection until it ends. The place is free again when this returns or is dropped.
async fn serve(stream: TcpStream, handler: Handler, _place: OwnedSemaphorePermit) {
    // Answers leave as one piece; waiting to fill a packet would only add delay.
    let _ = stream.set_nodelay(true);
    // Whatever ends a connection concerns its peer only, who notices.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MAX_HEAD)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(Stall::new(stream, WRITE_PATIENCE)), handler)
        .await;
}

/// Tells a peer that there is no place, and reads what it sent: closing with unread data would discard the answer.
async fn refuse(mut stream: TcpStream, _place: OwnedSemaphorePermit) {
    let exchange = async {
        stream.writable().await?;
        stream.try_write(BUSY.as_bytes())?;
        std::future::poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await?;
        let mut ignored = [0; 1024];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut ignored) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    let _: Result<io::Result<()>, _> = timeout(REFUSAL_PATIENCE, exchange).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route::tests::{FakeCpu, registry};
    use std::io::{Read, Write};
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    fn server() -> DebugServer {
        DebugServer::builder().address("127.0.0.1:0").registry(registry()).bind().expect("a free port")
    }

    fn connect(server: &DebugServer) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(server.local_addr()).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    /// Sends a request and reads until the server closes. Gives head and body.
    fn exchange(server: &DebugServer, request: &str) -> (String, Vec<u8>) {
        let mut stream = connect(server);
        stream.write_all(request.as_bytes()).expect("sends");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let body = answer.split_off(end);
        (String::from_utf8(answer).expect("a text head").to_ascii_lowercase(), body)
    }

    fn request(method: &str, path: &str, host: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    }

    #[test]
    fn answers_over_a_socket_have_gos_status_headers_and_body() {
        let server = server();
        for (method, path, status, needed, body) in [
            ("GET", "/debug/pprof/nosuch", 404, "x-go-pprof: 1", "Unknown profile\n"),
            ("GET", "/debug/pprof/goroutine?debug=1", 200, "content-type: text/plain; charset=utf-8", "debug=1"),
            ("HEAD", "/debug/pprof/goroutine?debug=1", 200, "content-length: 7", ""),
            ("HEAD", "/debug/pprof/nosuch", 404, "content-length: 16", ""),
            ("POST", "/debug/pprof/goroutine", 405, "allow: get, head", "Method Not Allowed\n"),
            ("GET", "/elsewhere", 404, "x-content-type-options: nosniff", "404 page not found\n"),
            ("GET", "/debug/pprof/profile?seconds=1", 200, "attachment; filename=\"profile\"", "cpu"),
        ] {
            let (head, got) = exchange(&server, &request(method, path, "localhost"));
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{method} {path}: {head}");
            assert!(head.contains(needed), "{method} {path}: {head}");
            assert!(head.contains("x-content-type-options: nosniff"), "{method} {path}: {head}");
            assert_eq!(String::from_utf8_lossy(&got), body, "{method} {path}");
        }
    }

    #[test]
    fn a_foreign_host_name_is_refused() {
        let server = server();
        let (head, body) = exchange(&server, &request("GET", "/debug/pprof/", "evil.example"));
        assert!(head.starts_with("http/1.1 403 "), "{head}");
        assert!(String::from_utf8_lossy(&body).contains("localhost"));
        let own = server.local_addr().to_string();
        assert!(exchange(&server, &request("GET", "/debug/pprof/", &own)).0.starts_with("http/1.1 200 "));
        let (head, _) = exchange(&server, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(head.starts_with("http/1.1 400 "), "{head}");
    }

    #[test]
    fn a_token_is_asked_for_and_accepted() {
        let server = DebugServer::builder().address("127.0.0.1:0").token("s3cret").bind().expect("binds");
        let (head, _) = exchange(&server, &request("GET", "/debug/pprof/", "localhost"));
        assert!(head.starts_with("http/1.1 401 ") && head.contains("www-authenticate: basic"), "{head}");
        let with_token = request("GET", "/debug/pprof/", "x\r\nAuthorization: Basic OnMzY3JldA==");
        assert!(exchange(&server, &with_token).0.starts_with("http/1.1 200 "));
    }

    #[test]
    fn other_machines_need_consent_and_a_token() {
        let open = || DebugServer::builder().address("0.0.0.0:0");
        assert!(matches!(open().bind(), Err(BindError::Remote(_))));
        assert!(matches!(open().token("t").bind(), Err(BindError::Remote(_))));
        assert!(matches!(open().allow_remote(true).bind(), Err(BindError::TokenMissing(_))));
        assert!(matches!(open().allow_remote(true).token("").bind(), Err(BindError::BadToken(_))));
        assert!(matches!(open().allow_remote(true).token("a b").bind(), Err(BindError::BadToken(_))));
        assert!(open().allow_remote(true).token("t").bind().is_ok());
        let error = DebugServer::builder().address("nonsense").bind().expect_err("no address");
        assert!(matches!(error, BindError::BadAddress { .. }), "{error}");
        let error = DebugServer::builder().address("127.0.0.1:0").token("").bind().expect_err("an empty token");
        assert!(matches!(error, BindError::BadToken(_)), "{error}");
    }

    #[test]
    fn a_taken_port_is_said_to_be_so_and_is_free_after_shutdown() {
        let first = server();
        let address = first.local_addr();
        let error = DebugServer::builder().address(address.to_string()).bind().expect_err("taken");
        assert!(matches!(error, BindError::InUse(taken) if taken == address), "{error}");
        assert!(error.to_string().contains("choose another port"), "{error}");
        first.shutdown();
        assert!(std::net::TcpStream::connect(address).is_err());
        drop(DebugServer::builder().address(address.to_string()).bind().expect("free again"));
        assert!(TcpListener::bind(address).is_ok());
    }

    #[test]
    fn a_client_that_leaves_and_a_shutdown_both_stop_the_sampling() {
        let cpu = FakeCpu::default();
        let running = cpu.running.clone();
        let registry = Registry::new();
        registry.register_capture(Arc::new(cpu)).expect("a new name");
        let server = DebugServer::builder().address("127.0.0.1:0").registry(registry).bind().expect("binds");
        let wait_for = |expected: usize| {
            let deadline = Instant::now() + Duration::from_secs(10);
            while running.load(Ordering::SeqCst) != expected {
                assert!(Instant::now() < deadline, "sessions never became {expected}");
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        let start = || {
            let mut stream = connect(&server);
            stream
                .write_all(request("GET", "/debug/pprof/profile?seconds=600", "localhost").as_bytes())
                .expect("sends");
            stream
        };
        let client = start();
        wait_for(1);
        // Another request is answered meanwhile.
        assert!(exchange(&server, &request("GET", "/debug/pprof/cmdline", "localhost")).0.contains(" 200 "));
        drop(client);
        wait_for(0);
        let client = start();
        wait_for(1);
        let began = Instant::now();
        server.shutdown();
        assert!(began.elapsed() < SHUTDOWN_PATIENCE);
        assert_eq!(running.load(Ordering::SeqCst), 0);
        drop(client);
    }

    #[test]
    fn one_connection_too_many_is_told_so() {
        assert_eq!(BUSY.split_once("\r\n\r\n").map(|(_, body)| body.len()), Some(40));
        let server = DebugServer::builder().address("127.0.0.1:0").max_connections(1).bind().expect("binds");
        let mut first = connect(&server);
        first.write_all(b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sends");
        assert_ne!(first.read(&mut [0; 16]).expect("an answer"), 0);
        let (head, _) = exchange(&server, &request("GET", "/", "localhost"));
        assert!(head.starts_with("http/1.1 503 "), "{head}");
        drop(first);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !exchange(&server, &request("GET", "/debug/pprof/", "localhost")).0.starts_with("http/1.1 200 ") {
            assert!(Instant::now() < deadline, "the place never became free");
        }
    }

    #[test]
    fn a_huge_head_is_refused() {
        let server = server();
        let padding = "x".repeat(MAX_HEAD + 1000);
        let mut stream = connect(&server);
        // The server closes without reading the rest, which may reach this side as a reset, on writing or on reading.
        let _ = stream.write_all(request("GET", "/", &format!("localhost\r\nX-Padding: {padding}")).as_bytes());
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 431 ") || read.is_err(), "{}", String::from_utf8_lossy(&answer));
        assert!(exchange(&server, &request("GET", "/debug/pprof/", "localhost")).0.starts_with("http/1.1 200 "));
    }
}
