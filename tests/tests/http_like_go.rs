//! The port beside Go's: hundreds of requests over the raw socket, and what a Go 1.27 program answers to each
//! (`data/go-http.jsonl`, made by `data/go-http`). Where the port means to differ, the difference is in the list below and in
//! `docs/http.md`.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use greenprof_profiler::{custom, http::DebugServer, registry};
use greenprof_runtime::{Runtime, heap::Heap, sync::Chan};
use greenprof_tests::client::{self, Answer};
use serde::Deserialize;

#[global_allocator]
static HEAP: Heap = Heap::new();

const TABLE: &str = include_str!("../data/go-http.jsonl");
const DOCS: &str = include_str!("../../docs/http.md");

/// What Go answers.
#[derive(Deserialize, Debug, Clone, PartialEq)]
struct Row {
    request: String,
    status: u16,
    headers: BTreeMap<String, String>,
    kind: String,
    first_line: String,
}

impl Row {
    fn line(&self) -> &str {
        self.request.split("\r\n").next().unwrap_or("")
    }

    /// The last part of the path, without the query.
    fn name(&self) -> Option<&str> {
        let path = self.line().split(' ').nth(1)?;
        path.strip_prefix("/debug/pprof/").map(|rest| rest.split('?').next().unwrap_or(rest))
    }
}

/// A difference that is meant: which requests, what is answered instead, and the heading in the docs that says why.
struct Difference {
    heading: &'static str,
    concerns: fn(&Row) -> bool,
    answer: fn(&mut Row),
}

const DIFFERENCES: [Difference; 8] = [
    Difference {
        heading: "Fragments",
        concerns: |go| go.line().contains('#'),
        answer: |row| {
            let is_text = row.line().contains("debug=1");
            row.status = 200;
            row.headers.remove("X-Go-Pprof");
            if is_text {
                row.headers.remove("Content-Disposition");
                row.headers.insert("Content-Type".into(), "text/plain; charset=utf-8".into());
                (row.kind, row.first_line) = ("text".into(), "goroutine profile: total N".into());
            } else {
                row.headers.insert("Content-Disposition".into(), "attachment; filename=\"goroutine\"".into());
                row.headers.insert("Content-Type".into(), "application/octet-stream".into());
                (row.kind, row.first_line) = ("gzip".into(), String::new());
            }
        },
    },
    Difference {
        heading: "A negative `debug`",
        concerns: |go| go.line().starts_with("GET") && go.line().contains("?debug=-1") && go.status == 200,
        answer: |row| {
            let name = row.name().unwrap_or("").to_owned();
            row.headers.insert("Content-Type".into(), "application/octet-stream".into());
            row.headers.insert("Content-Disposition".into(), format!("attachment; filename=\"{name}\""));
            (row.kind, row.first_line) = ("gzip".into(), String::new());
        },
    },
    Difference {
        heading: "A negative `debug`",
        concerns: |go| go.line().contains("?seconds=1&debug=-1") && go.first_line.contains("incompatible"),
        answer: |row| {
            let name = row.name().unwrap_or("").to_owned();
            row.status = 200;
            row.headers.remove("X-Go-Pprof");
            row.headers.insert("Content-Type".into(), "application/octet-stream".into());
            row.headers.insert("Content-Disposition".into(), format!("attachment; filename=\"{name}-delta\""));
            (row.kind, row.first_line) = ("gzip".into(), String::new());
        },
    },
    Difference {
        heading: "The root",
        concerns: |go| go.line() == "GET / HTTP/1.1",
        answer: |row| {
            row.status = 307;
            row.headers.insert("Location".into(), "/debug/pprof/".into());
            row.headers.insert("Content-Type".into(), "text/html; charset=utf-8".into());
            row.first_line = "<a href=\"/debug/pprof/\">Temporary Redirect</a>.\n\n".into();
        },
    },
    Difference {
        heading: "`symbol` answers POST",
        concerns: |go| go.name() == Some("symbol") && go.status == 405,
        answer: |row| {
            if row.line().starts_with("POST") {
                row.status = 200;
                row.headers.remove("Allow");
                row.first_line = "num_symbols: 1\n".into();
            } else {
                row.headers.insert("Allow".into(), "GET, HEAD, POST".into());
            }
        },
    },
    Difference {
        heading: "Foreign hosts",
        concerns: |go| go.request.contains("Host: evil.example"),
        answer: |row| {
            row.status = 403;
            row.first_line =
                "this port answers only requests for localhost, a loopback address or the address it is bound \
                              to\n"
                    .into();
        },
    },
    Difference {
        heading: "Broken requests",
        concerns: |go| matches!(go.status, 400 | 505) && !go.headers.contains_key("X-Go-Pprof"),
        answer: |row| {
            match row.line() {
                // These are whole requests, with one sentence for what is wrong.
                "GET /debug/pprof/%zz HTTP/1.1" => row.first_line = "the path has a broken escape\n".into(),
                _ if row.first_line.contains("missing required Host") => {
                    row.first_line = "missing required Host header\n".into();
                }
                _ if row.request.matches("Host: HOST").count() == 2 => {
                    // The same name twice is no contradiction.
                    row.status = 404;
                    row.first_line = "Unknown profile\n".into();
                }
                _ => {
                    row.status = 400;
                    (row.kind, row.first_line) = ("empty".into(), String::new());
                    row.headers.clear();
                    return;
                }
            }
            row.headers.insert("X-Go-Pprof".into(), "1".into());
        },
    },
    Difference {
        heading: "`OPTIONS *`",
        concerns: |go| go.line().starts_with("OPTIONS *"),
        answer: |row| {
            row.status = 404;
            (row.kind, row.first_line) = ("whole".into(), "404 page not found\n".into());
            row.headers.insert("Content-Type".into(), "text/plain; charset=utf-8".into());
        },
    },
];

/// Replaces every number by N.
fn without_numbers(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        out.push('N');
        let tail = &rest[at..];
        let (digits, radix) = tail.strip_prefix("0x").map_or((tail, 10), |hex| (hex, 16));
        rest = digits.trim_start_matches(|c: char| c.is_digit(radix));
    }
    out + rest
}

/// An answer in the form of the table.
fn row(request: &str, answer: &Answer, host: &str) -> Row {
    let headers = ["Content-Type", "Content-Disposition", "X-Go-Pprof", "X-Content-Type-Options", "Allow", "Location"];
    let headers = headers.iter().filter_map(|name| {
        let value = answer.header(&name.to_ascii_lowercase())?;
        Some(((*name).to_owned(), value.replace(host, "HOST")))
    });
    let text = String::from_utf8_lossy(&answer.body);
    let first = text.lines().next().unwrap_or("");
    let (kind, first_line) = if answer.body.is_empty() {
        ("empty", String::new())
    } else if answer.body.starts_with(b"\x1f\x8b") {
        ("gzip", String::new())
    } else if text.contains("<html") {
        ("html", String::new())
    } else if request.contains("/cmdline") {
        ("cmdline", String::new())
    } else if text.starts_with("goroutine ") && first.contains('[') {
        ("dump", String::new())
    } else if answer.status == 200 && text.matches('\n').count() > 1 {
        ("text", without_numbers(first))
    } else {
        ("whole", text.to_string())
    };
    Row {
        request: request.to_owned(),
        status: answer.status,
        headers: headers.collect(),
        kind: kind.to_owned(),
        first_line,
    }
}

/// Go's answer, with the differences that are meant.
fn expected(go: &Row, exists: impl Fn(&str) -> bool) -> Row {
    let mut row = go.clone();
    if let Some(difference) = DIFFERENCES.iter().find(|difference| (difference.concerns)(go)) {
        (difference.answer)(&mut row);
        assert_ne!(row, *go, "{:?} is no difference any more", difference.heading);
    }
    let reads = go.line().starts_with("GET ") || go.line().starts_with("HEAD ");
    // A profile that this version does not have answers as any that does not exist.
    if reads && ["block", "mutex"].contains(&go.name().unwrap_or("")) && !exists(go.name().unwrap_or("")) {
        row.status = 404;
        row.headers.remove("Content-Disposition");
        row.headers.insert("Content-Type".into(), "text/plain; charset=utf-8".into());
        row.headers.insert("X-Go-Pprof".into(), "1".into());
        (row.kind, row.first_line) = ("whole".into(), "Unknown profile\n".into());
    }
    // Everything that the port answers itself says so, also where Go's router does not.
    if row.kind != "empty" || row.line().starts_with("HEAD") {
        row.headers.insert("X-Content-Type-Options".into(), "nosniff".into());
    }
    row
}

#[test]
fn every_request_is_answered_as_go_does_or_as_the_docs_say() {
    let rows: Vec<Row> = TABLE.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    assert!(rows.len() >= 150);
    for difference in &DIFFERENCES {
        assert!(rows.iter().any(|go| (difference.concerns)(go)), "{:?} concerns nothing", difference.heading);
        assert!(DOCS.contains(difference.heading), "docs/http.md does not tell of {:?}", difference.heading);
    }

    let connections = custom::Profile::new("custom").expect("a new name");
    let _open = connections.add();
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let gate = Chan::<()>::new();
    let waiting = gate.clone();
    let task = runtime.handle().spawn(move || waiting.recv()).expect("a task");
    // So that the heap profile has records.
    greenprof_profiler::heap::start();
    greenprof_profiler::heap::set_rate(1);
    let kept: Vec<Vec<u8>> = (0..100).map(|n| vec![1; 100 + n]).collect();

    let registry = registry();
    let server = DebugServer::builder().address("127.0.0.1:0").registry(registry.clone()).bind().expect("binds");
    let address = server.local_addr();
    let host = address.to_string();
    let exists = |name: &str| registry.get(name).is_some();
    let check = |go: &Row| -> Result<(), String> {
        let request = go.request.replace("HOST", &host);
        let answer = client::raw(address, request.as_bytes(), Duration::from_secs(120));
        let Ok(Some(answer)) = answer else { return Err(format!("{:?}: {answer:?}", go.request)) };
        let (got, expected) = (row(&go.request, &answer, &host), expected(go, exists));
        if got == expected {
            Ok(())
        } else {
            Err(format!("got      {got:?}\nexpected {expected:?}\nGo       {go:?}\n"))
        }
    };
    // CPU profiles go one after the other, the rest beside them.
    let (exclusive, rest): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|go| go.name() == Some("profile") && go.status == 200);
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let mut threads: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mine = std::iter::from_fn(|| rest.get(next.fetch_add(1, Ordering::SeqCst)));
                    mine.filter_map(|go| check(go).err()).collect::<Vec<String>>()
                })
            })
            .collect();
        threads.push(scope.spawn(|| exclusive.iter().filter_map(|go| check(go).err()).collect()));
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), rows.len(), failures.join("\n"));
    gate.close();
    task.join().expect("no panic");
    drop(kept);
}
