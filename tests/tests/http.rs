//! The port as a program has it: what is listed is there, what is not there is not listed, and it answers when the
//! runtime cannot.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use greenprof_profiler::{http::DebugServer, registry, serve};
use greenprof_runtime::{Runtime, sync::Chan, task};
use greenprof_tests::{StopOnDrop, client, cpu_profiler, pprof};

/// The paths that the index page links to.
fn links(page: &str) -> Vec<String> {
    page.split("href=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.replace("&amp;", "&"))).collect()
}

#[test]
fn everything_that_the_index_lists_answers() {
    let _cpu = cpu_profiler();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    // So that no profile is empty.
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let gate = Chan::<()>::new();
    let waiting = gate.clone();
    let task = runtime.handle().spawn(move || waiting.recv()).unwrap();
    let index = client::get(address, "/debug/pprof/");
    assert_eq!(index.status, 200);
    assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
    let links = links(index.text());
    for expected in ["goroutine?debug=1", "goroutine?debug=2", "cmdline", "profile", "symbol"] {
        assert!(links.iter().any(|link| link.starts_with(expected)), "{expected} is not among {links:?}");
    }
    for link in links {
        // These take half a minute if they are not asked for less.
        let long = ["profile", "wall"].into_iter().find(|name| link == *name || link.starts_with(&format!("{name}?")));
        let short = long.map_or(link, |name| format!("{name}?seconds=1"));
        let path = if short.starts_with('/') { short.clone() } else { format!("/debug/pprof/{short}") };
        let answer = client::get(address, &path);
        // This program has the system's allocator; `heap_profile.rs` has ours.
        let has_it =
            !["heap", "allocs", "goroutineleak", "/debug/pprof/why"].iter().any(|name| short.starts_with(name));
        assert_eq!(answer.status, if has_it { 200 } else { 503 }, "{short}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{short}");
        assert!(!answer.body.is_empty(), "{short}");
    }
    gate.close();
    assert_eq!(task.join().unwrap(), None);
}

#[test]
fn what_does_not_exist_is_neither_listed_nor_faked() {
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let index = client::get(address, "/debug/pprof/");
    for name in ["nonsense", "goroutines", "Heap"] {
        assert!(!index.text().contains(&format!("href=\"{name}")), "{name} is listed");
        let answer = client::get(address, &format!("/debug/pprof/{name}?debug=1&seconds=1"));
        assert_eq!((answer.status, answer.text()), (404, "Unknown profile\n"), "{name}");
        assert_eq!(answer.header("x-go-pprof"), Some("1"), "{name}");
    }
}

#[test]
fn the_command_line_is_the_process_s() {
    let server = serve("127.0.0.1:0").unwrap();
    let answer = client::get(server.local_addr(), "/debug/pprof/cmdline");
    let arguments: Vec<_> = std::env::args().collect();
    assert_eq!(answer.text(), arguments.join("\0"));
}

#[test]
fn symbols_are_looked_up() {
    let server = serve("127.0.0.1:0").unwrap();
    let function = links as *const () as usize;
    let answer = client::get(server.local_addr(), &format!("/debug/pprof/symbol?{function:#x}+0x1"));
    assert_eq!(answer.text(), format!("num_symbols: 1\n{function:#x} http::links\n"));
}

#[test]
fn stuck_workers_do_not_keep_the_port_from_answering() {
    let _cpu = cpu_profiler();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let stopper = StopOnDrop(stop.clone());
    let tasks: Vec<_> = (0..4)
        .map(|i| {
            let stop = stop.clone();
            let endless = move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            runtime.handle().spawn_with(task::Builder::new().name(format!("endless-{i}")), endless).unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    let profile = client::get(address, "/debug/pprof/profile?seconds=1");
    assert_eq!(profile.header("content-disposition"), Some("attachment; filename=\"profile\""));
    let samples = pprof::samples(&profile.body);
    assert!(samples.iter().any(|sample| sample.calls("stuck_workers_do_not_keep")), "{samples:?}");
    let dump = client::get(address, "/debug/pprof/goroutine?debug=2");
    // Two on the workers; surplus workers have taken the others, or are about to.
    let running = dump.text().matches("[running]").count();
    assert!(running >= 2, "{}", dump.text());
    assert_eq!(running + dump.text().matches("[runnable]").count(), 4, "{}", dump.text());
    drop(stopper);
    tasks.into_iter().for_each(|task| task.join().unwrap());
}

#[test]
fn one_cpu_profile_at_a_time_and_another_after_the_client_has_left() {
    let _cpu = cpu_profiler();
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let first = std::thread::spawn(move || client::get(address, "/debug/pprof/profile?seconds=2"));
    std::thread::sleep(Duration::from_millis(500));
    let second = client::get(address, "/debug/pprof/profile?seconds=1");
    let busy = "Could not enable CPU profiling: cpu profiling already in use\n";
    assert_eq!((second.status, second.text()), (500, busy));
    assert_eq!(first.join().unwrap().status, 200);

    // A client that asks for a minute and leaves.
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(
        &mut stream,
        format!("GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes(),
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client::get(address, "/debug/pprof/profile?seconds=1").status, 500);
    drop(stream);
    let freed = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        client::get(address, "/debug/pprof/profile?seconds=1").status == 200
    });
    assert!(freed, "the profiler is still busy five seconds after its client has left");
}

#[test]
fn bad_addresses_and_taken_ports_are_one_sentence() {
    let server = serve("127.0.0.1:0").unwrap();
    let taken = serve(&server.local_addr().to_string()).unwrap_err().to_string();
    assert!(taken.contains(&server.local_addr().to_string()) && taken.contains("in use"), "{taken}");
    for address in ["nonsense", "127.0.0.1:99999", "0.0.0.0:0", "8.8.8.8:80"] {
        let error = serve(address).unwrap_err().to_string();
        assert!(error.contains(address) && !error.contains('\n'), "{error}");
    }
    let remote = DebugServer::builder().address("0.0.0.0:0").registry(registry()).allow_remote(true).bind();
    assert!(remote.unwrap_err().to_string().contains("token"));
}

#[test]
fn without_the_allocator_the_heap_profiles_say_what_to_add() {
    let server = serve("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let line =
        "`#[global_allocator] static HEAP: greenprof_runtime::heap::Heap = greenprof_runtime::heap::Heap::new();`";
    for path in ["heap", "allocs", "heap?debug=1", "allocs?seconds=1", "heap?gc=1", "goroutineleak?debug=1"] {
        let answer = client::get(address, &format!("/debug/pprof/{path}"));
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.text().contains(line) && answer.text().lines().count() == 1, "{}", answer.text());
        assert_eq!(answer.header("x-go-pprof"), Some("1"), "{path}");
    }
    let index = client::get(address, "/debug/pprof/");
    assert_eq!(index.text().matches(line).count(), 3, "{}", index.text());
    assert!(index.text().contains("<td>0</td><td><a href=\"heap?debug=1\">"), "{}", index.text());
}
