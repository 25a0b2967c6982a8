//! What a trace may cost the program when it is long, or when nobody takes it: bounded memory, and no standstill.

use std::{
    env, fs,
    io::{self, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::serve;
use greenprof_runtime::{Runtime, spawn, sync::Chan};
use greenprof_tests::{StopOnDrop, client};
use parking_lot::Mutex;

/// What the tracer may add: rings, a generation, what waits for tables and for the writer, and what the allocator keeps.
const MOST: u64 = 256 << 20;

/// Pairs of tasks that do nothing but wake each other, until they are told to stop; counts what they have done.
fn busy(stop: &Arc<AtomicBool>, done: &Arc<AtomicU64>) {
    Runtime::builder().workers(2).build().expect("a runtime").run(|| {
        let pairs: Vec<_> = (0..2)
            .map(|_| {
                let (stop, done) = (stop.clone(), done.clone());
                spawn(move || {
                    let (there, back) = (Chan::new(), Chan::new());
                    let (receive, answer) = (there.clone(), back.clone());
                    let echo = spawn(move || receive.iter().for_each(|n: u64| answer.send(n).expect("open")));
                    while !stop.load(Ordering::Relaxed) {
                        there.send(1).expect("open");
                        back.recv().expect("open");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    there.close();
                    echo.join().expect("no panic");
                })
            })
            .collect();
        pairs.into_iter().for_each(|pair| pair.join().expect("no panic"));
    });
}

fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").expect("Linux");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

#[derive(Default)]
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Blocks until it is let go.
struct Stuck(Arc<AtomicBool>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while !self.0.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One program at a time: a trace is of all that the process does.
fn beside_a_busy_program<T>(work: impl FnOnce(&AtomicU64) -> T) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let _stop = StopOnDrop(stop.clone());
    let program = {
        let (stop, done) = (stop.clone(), done.clone());
        thread::spawn(move || busy(&stop, &done))
    };
    wait_for_progress(&done);
    let result = work(&done);
    stop.store(true, Ordering::Relaxed);
    program.join().expect("no panic");
    result
}

/// Returns when the program has got on; hangs if it does not.
fn wait_for_progress(done: &AtomicU64) {
    let before = done.load(Ordering::Relaxed);
    while done.load(Ordering::Relaxed) < before + 1000 {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_long_trace_takes_bounded_memory() {
    let seconds = env::var("GREENPROF_TRACE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let (count, stats, most) = beside_a_busy_program(|_| {
        let before = resident();
        let trace = greenprof_tracer::start(Count::default()).expect("a trace");
        let (end, mut most) = (Instant::now() + Duration::from_secs(seconds), 0);
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
            most = most.max(resident().saturating_sub(before));
        }
        let (count, stats) = trace.stop().expect("a whole trace");
        (count, stats, most)
    });
    println!(
        "{} events a second, {} of {} lost, {} MiB written, {} MiB more memory at the most",
        stats.events / seconds,
        stats.lost,
        stats.events + stats.lost,
        count.0 >> 20,
        most >> 20
    );
    assert!(most < MOST, "{} MiB", most >> 20);
    assert!(stats.events > 100_000 && count.0 > stats.events, "{stats:?}");
}

#[test]
fn a_writer_that_blocks_stops_neither_the_program_nor_other_traces() {
    let go = Arc::new(AtomicBool::new(false));
    beside_a_busy_program(|done| {
        let stuck = greenprof_tracer::start(Stuck(go.clone())).expect("a trace");
        wait_for_progress(done);
        let other = greenprof_tracer::start(Vec::new()).expect("another trace");
        wait_for_progress(done);
        let (bytes, stats) = other.stop().expect("a whole trace");
        assert!(stats.events > 1000 && bytes.len() as u64 > stats.events, "{stats:?}");
        go.store(true, Ordering::Relaxed);
        stuck.stop().expect("a whole trace, late");
    });
}

#[test]
fn a_client_that_stops_reading_does_not_stop_the_program() {
    let server = serve("127.0.0.1:0").expect("a port");
    let address = server.local_addr();
    beside_a_busy_program(|done| {
        let mut clients: Vec<_> = (0..2).map(|_| TcpStream::connect(address).expect("the port is open")).collect();
        for client in &mut clients {
            write!(client, "GET /debug/pprof/trace?seconds=0.3 HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("sent");
        }
        // They never read. Another one is served meanwhile, and after.
        for _ in 0..3 {
            wait_for_progress(done);
            let answer = client::get(address, "/debug/pprof/trace?seconds=0.2");
            assert_eq!(answer.status, 200);
            assert!(answer.body.starts_with(b"go 1.26 trace") && answer.body.len() > 1000);
        }
        wait_for_progress(done);
    });
}
