//! Many clients on the port of a service under load. The short form is of 3 s and 40 clients; by hand:
//!
//!     GREENPROF_LOAD_SECONDS=30 GREENPROF_LOAD_CLIENTS=200 cargo test --release -p greenprof-demos --test load -- --nocapture
//!
//! It prints what was answered, what the orders lost for each second of CPU that the workers had, and what the port's own
//! threads used.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_demos::orders::Service;
use greenprof_runtime::{heap::Heap, world};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// What is asked in turn. Exclusive are those of which only so many can be taken at a time, by design.
const PATHS: [(&str, bool); 18] = [
    ("/debug/pprof/", false),
    ("/debug/pprof/goroutine", false),
    ("/debug/pprof/goroutine?debug=1", false),
    ("/debug/pprof/profile?seconds=1", true),
    ("/debug/pprof/goroutine?debug=2", false),
    ("/debug/pprof/heap", false),
    ("/debug/pprof/heap?debug=1", false),
    ("/debug/pprof/heap?seconds=1", true),
    ("/debug/pprof/allocs", false),
    ("/debug/pprof/block", false),
    ("/debug/pprof/wall?seconds=1", true),
    ("/debug/pprof/mutex?debug=1", false),
    ("/debug/pprof/allocs?debug=1", false),
    ("/debug/pprof/threadcreate?debug=1", false),
    ("/debug/pprof/cmdline", false),
    ("/debug/pprof/symbol?0x1", false),
    ("/metrics", false),
    ("/debug/greenprof/rates", false),
];

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// The status of an answer that is complete; 0 if there is none.
fn ask(address: SocketAddr, path: &str) -> u16 {
    let exchange = || -> std::io::Result<u16> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
        let complete = length == Some(answer.len() - head - 4);
        Ok(text.split(' ').nth(1).and_then(|status| status.parse().ok()).filter(|_| complete).unwrap_or(0))
    };
    exchange().unwrap_or(0)
}

/// CPU seconds of the workers so far.
fn worker_cpu() -> f64 {
    let of = |thread: i32| {
        let clock = nix::time::ClockId::from_raw((!thread) << 3 | 4 | 2);
        nix::time::clock_gettime(clock).map_or(0.0, |time| Duration::from(time).as_secs_f64())
    };
    world::workers().iter().map(|worker| of(worker.thread_id())).sum()
}

/// Orders for each CPU second of the workers, over so long.
fn rate(service: &Service, length: Duration) -> f64 {
    let (orders, cpu) = (service.counts().total(), worker_cpu());
    std::thread::sleep(length);
    (service.counts().total() - orders) as f64 / (worker_cpu() - cpu)
}

/// CPU seconds of the port's threads, as `/metrics` tells.
fn port_cpu(address: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let line = text.lines().find_map(|line| line.strip_prefix("greenprof_debug_port_cpu_seconds_total "));
    line.and_then(|value| value.parse().ok()).expect("the figure")
}

#[test]
fn many_clients_are_served_while_orders_run() {
    let length = Duration::from_secs(number("GREENPROF_LOAD_SECONDS", 3));
    let clients = number("GREENPROF_LOAD_CLIENTS", 40);
    let service = Service::start(Some(2)).expect("starts");
    let server = greenprof_profiler::serve("127.0.0.1:0").expect("a free port");
    let address = server.local_addr();
    // Symbols are loaded once.
    assert_eq!(ask(address, "/debug/pprof/goroutine?debug=1"), 200);
    let alone = rate(&service, length / 3);

    let stop = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let answers: Mutex<BTreeMap<(bool, u16), u64>> = Mutex::new(BTreeMap::new());
    let before = port_cpu(address);
    let began = Instant::now();
    let loaded = std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let (path, exclusive) = PATHS[next.fetch_add(1, Ordering::Relaxed) % PATHS.len()];
                    let status = ask(address, path);
                    *answers.lock().expect("no panic").entry((exclusive, status)).or_default() += 1;
                    // A client that is refused does not ask again at once.
                    if status != 200 {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            });
        }
        let loaded = rate(&service, length);
        stop.store(true, Ordering::Relaxed);
        loaded
    });
    let took = began.elapsed().as_secs_f64();
    let used = port_cpu(address) - before;
    let after = rate(&service, length / 3);
    let answers = answers.into_inner().expect("no panic");
    println!("answers by (exclusive, status): {answers:?}");
    println!("the port's threads used {used:.2} s of CPU in {took:.1} s");
    println!("orders per CPU second of the workers: {alone:.0} before, {loaded:.0} meanwhile, {after:.0} after");
    let of = |exclusive: bool, wanted: &[u16]| -> u64 {
        let fits =
            |(key, _): &(&(bool, u16), &u64)| key.0 == exclusive && (wanted.is_empty() || wanted.contains(&key.1));
        answers.iter().filter(fits).map(|(_, count)| count).sum()
    };
    let (all, good) = (of(false, &[]), of(false, &[200]));
    assert!(all > 0 && good * 10 >= all * 9, "{answers:?}");
    assert_eq!(of(false, &[200, 503]), all, "{answers:?}");
    // Go's sentence for one that is being taken, or that there are enough differences.
    assert_eq!(of(true, &[200, 500, 503]), of(true, &[]), "{answers:?}");
    assert!(of(true, &[200]) > 0, "{answers:?}");
    service.stop().expect("the service did right");
}
