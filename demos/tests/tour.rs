//! The main job from the outside: a tour that finds what it knows to be there, its files, and an end by Ctrl-C.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

fn demos(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenprof-demos"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
}

#[test]
fn a_tour_passes_its_checks_and_leaves_its_files() {
    let out = tempfile::tempdir().unwrap();
    let directory = out.path().to_str().unwrap();
    // On a machine that is busy with other things, four seconds give too few samples.
    let arguments = ["tour", "--addr", "127.0.0.1:0", "--workers", "2", "--seconds", "8", "--json", "--out", directory];
    let output = demos(&arguments).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    let checks = report["checks"].as_array().unwrap();
    assert!(output.status.success(), "{checks:#?}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["passed"], true);
    assert_eq!(report["workers"], 2);
    assert!(checks.len() >= 14 && checks.iter().all(|check| check["passed"] == true));
    let files = report["files"].as_array().unwrap();
    for wanted in [
        "index.html",
        "cmdline.txt",
        "goroutine.pb.gz",
        "goroutine.debug1.txt",
        "goroutine.debug2.txt",
        "cpu.pb.gz",
        "heap.pb.gz",
        "heap.debug1.txt",
        "allocs.pb.gz",
        "block.pb.gz",
        "block.debug1.txt",
        "mutex.pb.gz",
        "mutex.debug1.txt",
        "goroutineleak.pb.gz",
        "goroutineleak.json",
        "goroutineleak.dot",
    ] {
        let path = out.path().join(wanted);
        let length = path.metadata().unwrap_or_else(|error| panic!("{wanted}: {error}")).len();
        let file = files.iter().find(|file| file["path"] == path.to_str().unwrap()).expect(wanted);
        assert_eq!(file["bytes"], length);
    }
    assert_eq!(report["leaks"]["leaked"][0]["name"], "late-answer", "{}", report["leaks"]);
    let hot = &report["cpu"]["functions"][0];
    assert_eq!(hot["function"], "greenprof_demos::orders::price::price_order");
    assert!(
        hot["file"].as_str().unwrap().ends_with("demos/src/orders/price.rs") && hot["line"].as_u64() > Some(0),
        "{hot}"
    );
    assert_eq!(report["cpu"]["tenants"][0]["label"], "acme");
}

#[test]
fn the_service_is_ended_in_order_and_says_what_it_did() {
    let mut child = demos(&["orders", "--addr", "127.0.0.1:0", "--workers", "2"]).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    let address = said.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "GET /debug/pprof/goroutine?debug=1 HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("goroutine profile: total "), "{answer}");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(" 0 priced wrong;") && text.contains("acme"), "{text}");
}

#[test]
fn a_service_with_an_end_ends_by_itself() {
    let start = Instant::now();
    let output = demos(&["orders", "--addr", "127.0.0.1:0", "--workers", "1", "--seconds", "1"]).output().unwrap();
    assert!(output.status.success());
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("orders in 1."));
}

#[test]
fn a_tour_can_be_broken_off() {
    let out = tempfile::tempdir().unwrap();
    let arguments = ["tour", "--addr", "127.0.0.1:0", "--seconds", "600", "--out", out.path().to_str().unwrap()];
    let mut child = demos(&arguments).spawn().unwrap();
    // The line that says that the long capture has begun.
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = stderr.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("(600 s)")));
    thread::sleep(Duration::from_millis(100));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
