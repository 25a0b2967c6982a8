//! The page at `/debug/pprof/ui/`: its files, its figures, and the flame graphs of a program that is busy in a known function.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use greenprof_profiler::{http::DebugServer, registry, serve};
use greenprof_runtime::{Runtime, labels, sleep, spawn};
use greenprof_tests::{
    StopOnDrop,
    client::{self, Answer},
    cpu_profiler,
};
use serde_json::Value;

const ROOT: &str = "/debug/pprof/ui/";

const FILES: [(&str, &str); 9] = [
    ("", "text/html; charset=utf-8"),
    ("style.css", "text/css; charset=utf-8"),
    ("app.js", "text/javascript; charset=utf-8"),
    ("flame.js", "text/javascript; charset=utf-8"),
    ("lanes.js", "text/javascript; charset=utf-8"),
    ("leaks.js", "text/javascript; charset=utf-8"),
    ("timeline.js", "text/javascript; charset=utf-8"),
    ("trace.js", "text/javascript; charset=utf-8"),
    ("waits.js", "text/javascript; charset=utf-8"),
];

fn post(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Answer {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let bytes = [head.as_bytes(), body].concat();
    client::raw(address, &bytes, Duration::from_secs(120)).expect("an answer").expect("not empty")
}

fn flame(address: SocketAddr, query: &str, body: &[u8]) -> Answer {
    post(address, &format!("{ROOT}flame{query}"), "X-Greenprof: 1\r\n", body)
}

fn json(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[inline(never)]
fn busy_for_acme(stop: &AtomicBool) {
    spin(stop);
}

#[inline(never)]
fn busy_for_bluefin(stop: &AtomicBool) {
    spin(stop);
}

#[inline(never)]
fn spin(stop: &AtomicBool) {
    // Relaxed: nothing else is read because of it.
    while !stop.load(Ordering::Relaxed) {
        for i in 0..100_000_u64 {
            std::hint::black_box(i);
        }
        sleep(Duration::from_micros(50));
    }
}

/// A program with a busy task for each of two tenants, until it is dropped.
struct Busy {
    stop: Option<StopOnDrop>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            Runtime::builder().workers(2).build().expect("a runtime").run(move || {
                let (one, two) = (seen.clone(), seen);
                let acme = labels::with(&[("tenant", "acme")], || spawn(move || busy_for_acme(&one)));
                let bluefin = labels::with(&[("tenant", "bluefin")], || spawn(move || busy_for_bluefin(&two)));
                acme.join().expect("ends");
                bluefin.join().expect("ends");
            });
        });
        Self { stop: Some(StopOnDrop(stop)), thread: Some(thread) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn files_come_with_a_strict_policy() {
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    for (name, kind) in FILES {
        let path = format!("{ROOT}{name}");
        let answer = client::get(address, &path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'), "{policy}");
        let head = client::request(address, "HEAD", &path);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), Some(answer.body.len().to_string().as_str()), "{path}");
        assert_eq!(client::request(address, "POST", &path).status, 405, "{path}");
        // Nothing is asked of another host, and nothing is in the page that its policy forbids.
        let text = answer.text().replace("http://www.w3.org/", "");
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("//cdn"), "{path}");
        assert!(!text.contains("style=\"") && !text.contains(" onclick=") && !text.contains("<style"), "{path}");
    }
    let page = client::get(address, ROOT);
    for part in page.text().split("src=\"").chain(page.text().split("href=\"")).skip(1) {
        let link = part.split('"').next().expect("a part");
        if link.ends_with(".js") || link.ends_with(".css") {
            assert_eq!(client::get(address, &format!("{ROOT}{link}")).status, 200, "{link}");
        }
    }
    assert_eq!(client::get(address, &format!("{ROOT}nothing.js")).status, 404);
    let redirect = client::get(address, "/debug/pprof/ui");
    assert_eq!((redirect.status, redirect.header("location")), (307, Some(ROOT)));
    let index = client::get(address, "/debug/pprof/");
    assert!(index.text().contains(&format!("href=\"{ROOT}\"")), "{}", index.text());
    assert!(!index.text().contains("app.js"), "{}", index.text());
}

#[test]
fn a_token_keeps_the_page_for_who_has_it() {
    let builder = DebugServer::builder().address("127.0.0.1:0").registry(registry()).token("s3cret");
    let server = builder.bind().unwrap();
    let address = server.local_addr();
    let get = |path: &str, header: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{header}Connection: close\r\n\r\n");
        client::raw(address, request.as_bytes(), Duration::from_secs(60)).expect("an answer").expect("not empty")
    };
    for name in ["", "app.js", "live", "kinds"] {
        assert_eq!(get(&format!("{ROOT}{name}"), "").status, 401, "{name}");
    }
    assert_eq!(post(address, &format!("{ROOT}flame"), "X-Greenprof: 1\r\n", b"").status, 401);
    let page = get(ROOT, "Authorization: Bearer s3cret\r\nAccept: text/html\r\n");
    let cookie = page.header("set-cookie").expect("a cookie").split(';').next().expect("a pair").to_owned();
    let cookie = format!("Cookie: {cookie}\r\n");
    for name in ["", "app.js", "live", "kinds"] {
        assert_eq!(get(&format!("{ROOT}{name}"), &cookie).status, 200, "{name}");
    }
    // A page of another site cannot have the browser send the header.
    assert_eq!(post(address, &format!("{ROOT}flame"), &cookie, b"").status, 403);
    assert_eq!(post(address, &format!("{ROOT}flame"), &format!("{cookie}X-Greenprof: 1\r\n"), b"").status, 400);
}

#[test]
fn what_there_is_and_the_figures_are_told() {
    let _cpu = cpu_profiler();
    let _busy = Busy::start();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let kinds = json(&client::get(address, &format!("{ROOT}kinds")));
    let names = |of: &str| -> Vec<String> {
        let list = kinds[of].as_array().expect("a list");
        list.iter().map(|it| it["name"].as_str().expect("a name").to_owned()).collect()
    };
    for (of, name) in [("profiles", "goroutine"), ("profiles", "heap"), ("captures", "profile"), ("rates", "cpu_hertz")]
    {
        assert!(names(of).iter().any(|known| known == name), "{name} is not among {kinds}");
    }
    for name in names("profiles").iter().chain(&names("captures")) {
        let status = client::request(address, "POST", &format!("/debug/pprof/{name}")).status;
        assert_eq!(status, 405, "{name} is told, and does not exist");
    }
    // The tasks of this process may be still to come, so looked for until they are there.
    let mut before = json(&client::get(address, &format!("{ROOT}live")));
    while before["tasks"]["created"].as_u64() < Some(3) {
        std::thread::sleep(Duration::from_millis(10));
        before = json(&client::get(address, &format!("{ROOT}live")));
    }
    let states = ["running", "runnable", "waiting"].map(|state| before["tasks"][state].as_u64().expect("a number"));
    assert!(states.iter().sum::<u64>() >= 1, "{before}");
    // The system's allocator is this program's, so there is no heap to tell of.
    assert!(before["heap"].is_null(), "{before}");
    let buckets = before["scheduler"]["latencies"].as_array().expect("buckets");
    let bounds: Vec<u64> = buckets.iter().map_while(|bucket| bucket[0].as_u64()).collect();
    assert!(bounds.len() + 1 == buckets.len() && bounds.is_sorted(), "{before}");
    let after = json(&client::get(address, &format!("{ROOT}live")));
    for path in ["/time_nanoseconds", "/scheduler/runs", "/process/cpu_seconds"] {
        let value = |of: &Value| of.pointer(path).and_then(Value::as_f64).expect(path);
        assert!(value(&after) >= value(&before), "{path} went back");
    }
}

#[test]
fn a_flame_graph_has_the_functions_and_a_filter_narrows_it() {
    let _cpu = cpu_profiler();
    let _busy = Busy::start();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let capture = client::get(address, "/debug/pprof/profile?seconds=2").body;
    let all = json(&flame(address, "", &capture));
    assert_eq!(all["value"]["kind"], "cpu");
    let svg = |of: &Value| of["svg"].as_str().expect("a picture").to_owned();
    for function in ["busy_for_acme", "busy_for_bluefin", "ui::spin"] {
        assert!(svg(&all).contains(function), "{function} is not in {}", svg(&all));
    }
    let top = all["top"].as_array().expect("a table");
    let spin = top.iter().find(|row| row["name"] == "ui::spin").expect("in the table");
    assert!(spin["cumulative"].as_u64() <= all["total"].as_u64() && spin["cumulative"].as_u64() > Some(0), "{spin}");
    let tenants: Vec<&str> = all["labels"]["tenant"]["values"]
        .as_array()
        .expect("tenants")
        .iter()
        .filter_map(|it| it["value"].as_str())
        .collect();
    assert!(tenants.contains(&"acme") && tenants.contains(&"bluefin"), "{tenants:?}");

    let acme = json(&flame(address, "?label=tenant%3Dacme", &capture));
    assert!(svg(&acme).contains("busy_for_acme") && !svg(&acme).contains("busy_for_bluefin"), "{}", svg(&acme));
    assert!(acme["total"].as_u64() < all["total"].as_u64(), "{}", acme["total"]);
    let samples = json(&flame(address, "?value=samples&label=tenant", &capture));
    assert_eq!(samples["value"]["unit"], "count");
    let nobody = json(&flame(address, "?label=tenant%3Dnobody", &capture));
    assert!(nobody["svg"].is_null() && nobody["total"] == 0, "{nobody}");

    // With itself, nothing has changed.
    let twice = [capture.as_slice(), &capture].concat();
    let same = json(&flame(address, &format!("?before={}", capture.len()), &twice));
    assert_eq!(same["total"], same["total_before"]);
    let changes = |sign: &str| svg(&same).contains(&format!("%; {sign}"));
    assert!(changes("0.00%)") && !changes("+") && !changes("-"), "{}", svg(&same));

    for kind in ["goroutine", "threadcreate", "wall?seconds=1"] {
        let capture = client::get(address, &format!("/debug/pprof/{kind}")).body;
        let drawn = json(&flame(address, "", &capture));
        assert!(svg(&drawn).contains("<svg"), "{kind}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    let _cpu = cpu_profiler();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let threads = client::get(address, "/debug/pprof/threadcreate").body;
    let other = client::get(address, "/debug/pprof/profile?seconds=1").body;
    let two = [threads.as_slice(), &other].concat();
    let packed = |plain: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).expect("in memory");
        encoder.finish().expect("in memory")
    };
    let cases: [(String, Vec<u8>, &str); 12] = [
        ("".into(), b"".to_vec(), "cannot be unpacked"),
        ("".into(), b"not gzip".to_vec(), "cannot be unpacked"),
        ("".into(), threads[..threads.len() / 2].to_vec(), "cannot be unpacked"),
        ("".into(), packed(b"\xff\xff\xff\xff"), "cannot be decoded"),
        ("".into(), packed(b""), "the profile has no values"),
        ("".into(), packed(&vec![0; 64 << 20]), "larger than"),
        ("?value=%3Cscript%3E".into(), threads.clone(), "there is no value \"<script>\" in the profile"),
        ("?label=%3D".into(), threads.clone(), "write KEY=VALUE"),
        ("?before=-1".into(), threads.clone(), "invalid value for \"before\""),
        (format!("?before={}", threads.len() + 1), threads.clone(), "invalid value for \"before\""),
        ("?before=99999999999999999999".into(), threads.clone(), "invalid value for \"before\""),
        (format!("?before={}", threads.len()), two, "take two of one kind"),
    ];
    for (query, body, part) in cases {
        let answer = flame(address, &query, &body);
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(part), "{query}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{query}");
    }
    assert_eq!(client::get(address, &format!("{ROOT}flame")).status, 400);
    assert_eq!(post(address, &format!("{ROOT}flame"), "", &threads).status, 403);
    assert_eq!(client::get(address, ROOT).status, 200, "the port still answers");
}

#[test]
fn a_trace_is_drawn_as_rows_and_arrows() {
    let _cpu = cpu_profiler();
    let _busy = Busy::start();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let trace = client::get(address, "/debug/pprof/trace?seconds=0.5").body;
    let draw = |query: &str| post(address, &format!("{ROOT}timeline{query}"), "X-Greenprof: 1\r\n", &trace);
    let all = json(&draw(""));
    let rows = |kind: &str| all[kind].as_array().expect("rows").len();
    assert!(rows("processors") >= 1 && rows("workers") >= 1 && rows("tasks") >= 2 && rows("arrows") >= 1, "{all}");
    let busy = |task: &&Value| task["summary"]["waits"].to_string().contains("sleep");
    let task = all["tasks"].as_array().expect("rows").iter().find(busy).expect("a task that sleeps now and then");
    let stack = task["longest_wait"]["stack"].to_string();
    assert!(stack.contains("ui::spin"), "{stack}");
    // Half of the time has no more of anything, and says which half it is.
    let half = all["duration_nanoseconds"].as_u64().expect("a number") / 2;
    let later = json(&draw(&format!("?from={half}")));
    assert_eq!((later["from"].as_u64(), later["to"].as_u64()), (Some(half), all["to"].as_u64()));
    assert_eq!(later["events"], all["events"]);

    assert_eq!(post(address, &format!("{ROOT}timeline"), "", &trace).status, 403);
    assert_eq!(client::get(address, &format!("{ROOT}timeline")).status, 400);
    let damaged = post(address, &format!("{ROOT}timeline"), "X-Greenprof: 1\r\n", &trace[..trace.len() / 2]);
    assert!(damaged.status == 400 && !damaged.text().trim().is_empty(), "{}", damaged.text());
}

#[test]
fn what_leaks_needs_the_allocator_and_says_so() {
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let kinds = json(&client::get(address, &format!("{ROOT}kinds")));
    let profiles = kinds["profiles"].as_array().expect("a list");
    let leaks = profiles.iter().find(|it| it["name"] == "goroutineleak").expect("a profile");
    assert!(leaks["unavailable"].as_str().is_some_and(|it| it.contains("#[global_allocator]")), "{leaks}");
    // What the page would ask for.
    for path in ["goroutineleak?format=json&limit=100", "why?format=json&task=1"] {
        let answer = client::get(address, &format!("/debug/pprof/{path}"));
        assert!(answer.status >= 500 && answer.text().contains("#[global_allocator]"), "{path}: {}", answer.text());
    }
}
