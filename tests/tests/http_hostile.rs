//! The port under requests that no good client sends: mutated ones, slow ones, ones without a right to ask. It does not
//! panic, does not hang, keeps its memory, and answers the next good request.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use greenprof_profiler::{http::DebugServer, registry};
use greenprof_tests::client;

/// How long an answer may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Mutated requests of the short form.
const REQUESTS: usize = 1500;

/// What mutations start from, and what they put together.
const SEEDS: [&str; 12] = [
    "GET /debug/pprof/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "GET /debug/pprof/goroutine?debug=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "GET /debug/pprof/goroutine?debug=2&seconds=0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "HEAD /debug/pprof/threadcreate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "GET /debug/pprof/symbol?0x1234+0x5678 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 11\r\n\r\n0x1+0x2+0x3",
    "POST /debug/greenprof/rates HTTP/1.1\r\nHost: localhost\r\nX-Greenprof: 1\r\nConnection: close\r\nContent-Length: 18\r\n\r\n{\"cpu_hertz\": 100}",
    "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n0x1\r\n0\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "GET /debug/pprof/heap?gc=1&debug=%31 HTTP/1.0\r\n\r\n",
    "GET http://localhost/debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic OnM=\r\nConnection: close\r\n\r\n",
    "GET /debug//pprof/../pprof/%67oroutine HTTP/1.1\r\nHost: localhost\r\nCookie: a=b; c\r\nConnection: close\r\n\r\n",
];

const PIECES: [&str; 16] = [
    "\r\n",
    "\0",
    " ",
    "%",
    "%zz",
    "?",
    "&",
    "=",
    "debug=9223372036854775808",
    "seconds=-9223372036854775808",
    "/../",
    "\u{e9}",
    ":",
    "Content-Length: 99999999999999999999\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: evil.example\r\n",
];

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// A request with a few bytes changed, cut, doubled or put in.
fn mutated(random: &mut Random) -> Vec<u8> {
    let mut bytes = SEEDS[random.below(SEEDS.len())].as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes.truncate(at + 1),
            2 => {
                let end = at + random.below(bytes.len() - at);
                bytes.drain(at..end);
            }
            3 => {
                let copy = bytes[at..].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let piece = PIECES[random.below(PIECES.len())].bytes();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = SEEDS[random.below(SEEDS.len())].as_bytes();
                bytes.splice(at.., other[random.below(other.len())..].iter().copied());
            }
        }
        if bytes.is_empty() {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Whether a good answer comes.
fn answers(address: SocketAddr) -> bool {
    client::get(address, "/debug/pprof/cmdline").status == 200
}

/// Resident bytes of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
}

#[test]
fn mutated_requests_neither_stop_it_nor_make_it_panic_or_grow() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(panic);
    }));
    let server = DebugServer::builder().address("127.0.0.1:0").registry(registry()).bind().expect("binds");
    let address = server.local_addr();
    let requests = std::env::var("GREENPROF_FUZZ_REQUESTS").map_or(REQUESTS, |n| n.parse().expect("a number"));
    let round = |seed: u64, requests: usize| {
        let mut random = Random(seed);
        for n in 0..requests {
            let bytes = mutated(&mut random);
            let mut stream = TcpStream::connect(address).expect("the port is open");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            // It may close before it has all.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
                Err(error) => panic!("request {n} of {seed}: {error}\n{}", String::from_utf8_lossy(&bytes)),
            }
            let head = answer.get(..9).unwrap_or(&answer);
            assert!(
                answer.is_empty() || head == b"HTTP/1.1 " || head == b"HTTP/1.0 ",
                "request {n} of {seed}: {:?}\n{:?}",
                String::from_utf8_lossy(head),
                String::from_utf8_lossy(&bytes)
            );
        }
    };
    // The first ones load symbols and fill caches.
    round(1, requests / 5);
    let before = resident();
    std::thread::scope(|scope| {
        for seed in [0x9e37_79b9, 0x7f4a_7c15, 0xdead_beef, 0x1234_5678] {
            scope.spawn(move || round(seed, requests / 5));
        }
    });
    assert!(answers(address));
    let grown = resident().saturating_sub(before);
    assert!(grown < 96 << 20, "{} MiB more after the requests", grown >> 20);
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}

#[test]
fn silent_and_slow_clients_leave_room_for_others() {
    let builder = DebugServer::builder().address("127.0.0.1:0").registry(registry()).max_connections(64);
    let server = builder.bind().expect("binds");
    let address = server.local_addr();
    let silent: Vec<TcpStream> = (0..60)
        .map(|n| {
            let mut stream = TcpStream::connect(address).expect("the port is open");
            stream.write_all(&b"GET /debug/pprof/ HTT"[..n % 20]).expect("sent");
            stream
        })
        .collect();
    assert!(answers(address));
    drop(silent);
}

#[test]
fn what_changes_something_needs_more_than_a_post() {
    let server = DebugServer::builder().address("127.0.0.1:0").registry(registry()).bind().expect("binds");
    let address = server.local_addr();
    let post = |headers: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "POST /debug/greenprof/rates HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: \
             {length}\r\n\r\n{body}"
        );
        client::raw(address, request.as_bytes(), PATIENCE).expect("an answer").expect("an answer")
    };
    let form = post("Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://evil.example\r\n", "{}");
    assert_eq!(form.status, 403);
    assert!(form.text().contains("X-Greenprof") && form.header("access-control-allow-origin").is_none());
    let right = post("X-Greenprof: 1\r\n", "{\"cpu_hertz\": 250}");
    assert_eq!((right.status, right.header("content-type")), (200, Some("application/json")), "{}", right.text());
    let rates: serde_json::Value =
        serde_json::from_slice(&client::get(address, "/debug/greenprof/rates").body).unwrap();
    assert_eq!(rates["cpu_hertz"], 250);
    assert_eq!(post("X-Greenprof: 1\r\n", "{\"cpu_hertz\": 100, \"nonsense\": 1}").status, 400);
    let rates: serde_json::Value =
        serde_json::from_slice(&client::get(address, "/debug/greenprof/rates").body).unwrap();
    assert_eq!(rates["cpu_hertz"], 250, "all or none");
    assert_eq!(post("X-Greenprof: 1\r\n", "{\"cpu_hertz\": 100}").status, 200);
    let put = client::request(address, "PUT", "/debug/greenprof/rates");
    assert_eq!((put.status, put.header("allow")), (405, Some("GET, HEAD, POST")));
    // The preflight that a browser would send before such a POST gets no consent.
    let preflight = client::request(address, "OPTIONS", "/debug/greenprof/rates");
    assert_eq!(preflight.status, 405);
    assert!(preflight.headers.iter().all(|(name, _)| !name.starts_with("access-control")));
}

#[test]
fn a_browser_that_has_shown_the_token_comes_back_with_a_cookie() {
    let builder = DebugServer::builder().address("127.0.0.1:0").registry(registry()).token("s3cret");
    let server = builder.bind().expect("binds");
    let address = server.local_addr();
    let ask = |method: &str, path: &str, headers: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
        client::raw(address, request.as_bytes(), PATIENCE).expect("an answer").expect("an answer")
    };
    let index = |headers: &str| ask("GET", "/debug/pprof/", headers);
    assert_eq!(index("").status, 401);
    // A tool gets no cookie, a browser does; and it is not the token.
    let tool = index("Authorization: Bearer s3cret\r\n");
    assert_eq!((tool.status, tool.header("set-cookie")), (200, None));
    let browser = index("Authorization: Basic OnMzY3JldA==\r\nAccept: text/html\r\n");
    let cookie = browser.header("set-cookie").expect("a cookie");
    assert!(
        !cookie.contains("s3cret") && cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().expect("a pair");
    assert_eq!(index(&format!("Cookie: {pair}\r\n")).status, 200);
    assert_eq!(index(&format!("Cookie: {pair}0\r\n")).status, 401);
    // The cookie alone changes nothing.
    let rates = "/debug/greenprof/rates";
    assert_eq!(ask("POST", rates, &format!("Cookie: {pair}\r\nContent-Length: 0\r\n")).status, 403);
    assert_eq!(ask("POST", rates, "Authorization: Bearer s3cret\r\nContent-Length: 0\r\n").status, 400);
    assert!(!format!("{server:?}").contains("s3cret"));
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing_behind() {
    let server = DebugServer::builder().address("127.0.0.1:0").registry(registry()).bind().expect("binds");
    let address = server.local_addr();
    let asked = Arc::new(AtomicUsize::new(0));
    for _ in 0..64 {
        let mut stream = TcpStream::connect(address).expect("the port is open");
        write!(stream, "GET /debug/pprof/threadcreate?seconds=3600 HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("sent");
        asked.fetch_add(1, Ordering::SeqCst);
        if asked.load(Ordering::SeqCst).is_multiple_of(2) {
            stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
            let _ = stream.read(&mut [0; 16]);
        }
    }
    // Each of them held one of sixteen places, so another difference can be taken only if they gave them back.
    let done = (0..100).any(|_| {
        let status = client::get(address, "/debug/pprof/threadcreate?seconds=1").status;
        assert!([200, 503].contains(&status), "{status}");
        std::thread::sleep(Duration::from_millis(if status == 200 { 0 } else { 50 }));
        status == 200
    });
    assert!(done);
}
