//! The examples with servers of their own: the port's pages are in them, with the guard that each has chosen.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

/// An example that runs; it ends with this.
struct Example {
    child: Child,
    address: String,
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the examples are, built. Cargo does that by itself only for a run of all tests.
fn examples() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let binaries = PathBuf::from(env!("CARGO_BIN_EXE_greenprof-demos")).parent().expect("a directory").to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        // Of the workspace: for the package alone its dependencies would be built once more, with fewer features.
        cargo.args(["build", "--quiet", "--workspace", "--examples", "--target-dir"]);
        cargo.arg(binaries.parent().expect("a target directory"));
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo").success(), "the examples do not build");
        binaries.join("examples")
    };
    BUILT.get_or_init(build).clone()
}

impl Example {
    fn start(name: &str) -> Self {
        let binary = examples().join(name);
        let mut command = Command::new(binary);
        command.arg("127.0.0.1:0").env("GREENPROF_TOKEN", "s3cret").stdout(Stdio::piped());
        let mut child = command.spawn().expect("the example is built");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its address");
        let address = line.trim().trim_start_matches("http://").split('/').next().expect("an address").to_owned();
        Self { child, address }
    }

    /// Head and body of an answer.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", self.address)
            .expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let body = answer.split_off(end);
        (String::from_utf8(answer).expect("text").to_ascii_lowercase(), body)
    }
}

#[test]
fn an_axum_server_has_the_pages_beside_its_own() {
    let example = Example::start("embed-axum");
    assert_eq!(example.ask("GET", "/", "").1, b"the program's own page\n");
    let (head, body) = example.ask("GET", "/debug/pprof/goroutine", "");
    assert!(head.starts_with("http/1.1 200 ") && head.contains("filename=\"goroutine\""), "{head}");
    assert!(body.starts_with(b"\x1f\x8b"));
    assert!(example.ask("GET", "/debug/pprof/nosuch", "").0.contains("x-go-pprof: 1"));
    assert!(example.ask("GET", "/metrics", "").1.ends_with(b"# EOF\n"));
    assert!(example.ask("GET", "/debug/pprof/threadcreate?seconds=1", "").0.contains("threadcreate-delta"));
    let head = example.ask("HEAD", "/debug/pprof/cmdline", "");
    assert!(head.0.starts_with("http/1.1 200 ") && head.1.is_empty(), "{head:?}");
    assert!(example.ask("POST", "/debug/pprof/heap", "").0.starts_with("http/1.1 405 "));
}

#[test]
fn a_hyper_server_asks_for_the_token() {
    let example = Example::start("embed-hyper");
    assert!(example.ask("GET", "/debug/pprof/", "").0.starts_with("http/1.1 401 "));
    let (head, body) = example.ask("GET", "/debug/pprof/", "Authorization: Bearer s3cret\r\n");
    assert!(head.starts_with("http/1.1 200 ") && !head.contains("set-cookie"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("goroutine?debug=1"));
}
