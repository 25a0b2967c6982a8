//! Does the sampler reach the rate that was asked for, and does it charge the right amount, with either clock?
//!
//! Everything is compared with CPU time, not with the wall clock, so that other load on the machine does not matter.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use greenprof_profiler::{
    cpu::{self, Capture, Clock, Source, StartError},
    profile::encode,
    symbolize,
};
use greenprof_tests::{cpu_profiler, pprof};

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[inline(never)]
fn compute(amount: Duration) -> Duration {
    let start = thread_cpu();
    let mut x = 1_u64;
    loop {
        for i in 0..20_000 {
            x = std::hint::black_box(x.wrapping_mul(31).wrapping_add(i));
        }
        let used = thread_cpu() - start;
        if used >= amount {
            return used;
        }
    }
}

/// Uses CPU time in the kernel, in calls that take several periods each.
#[inline(never)]
fn read_zeros(amount: Duration) -> Duration {
    let mut zeros = std::fs::File::open("/dev/zero").expect("a device of every system");
    let mut buffer = vec![0_u8; 64 << 20];
    let start = thread_cpu();
    loop {
        zeros.read_exact(&mut buffer).expect("zeros");
        let used = thread_cpu() - start;
        if used >= amount {
            return std::hint::black_box(used);
        }
    }
}

/// Starts with perf events that see all; nothing, with a line, where they are not permitted.
fn start_perf(hz: u32) -> Option<cpu::Session> {
    match cpu::start_with(hz, Clock::PerfEvents) {
        Ok(session) => Some(session),
        Err(StartError::Unavailable(reason)) => {
            println!("skipped: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn value(capture: &Capture, function: &str) -> Duration {
    let bytes = encode::encode(&capture.profile, &mut symbolize::shared().lock()).expect("encodes");
    let samples = pprof::samples(&bytes);
    let nanos = samples.iter().filter(|sample| sample.calls(function)).map(|sample| sample.values[1]).sum::<i64>();
    Duration::from_nanos(nanos as u64)
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

#[test]
fn perf_events_reach_a_thousand_stacks_a_second() {
    let _cpu = cpu_profiler();
    let Some(session) = start_perf(1000) else { return };
    let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(|| compute(Duration::from_secs(2)))).collect();
    let used: Duration = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let capture = session.stop();
    println!("{}", capture.summary);
    if capture.summary.source == Source::PerfEvents {
        assert!(capture.summary.achieved_hz() >= 950.0);
    }
    let measured = ratio(value(&capture, "compute"), used);
    assert!((0.95..=1.05).contains(&measured), "{measured}");
    assert_eq!(capture.profile.period, 1_000_000);
    let comments = capture.profile.comments.join("\n");
    assert!(comments.contains("1000 Hz asked"), "{comments}");
    assert!(comments.contains("clock: perf events"), "{comments}");
}

#[test]
fn a_rate_above_the_tick_takes_perf_events_or_says_why_not() {
    let _cpu = cpu_profiler();
    let capture = cpu::start(cpu::MAX_HZ).unwrap().stop();
    match capture.summary.source {
        Source::Timers => assert!(capture.profile.comments.join("\n").contains("perf_event_open")),
        _ => assert_eq!(capture.summary.fallback, None),
    }
    assert_eq!(cpu::start(cpu::DEFAULT_HZ).unwrap().stop().summary.source, Source::Timers);
}

#[test]
fn long_system_calls_count_in_full_where_they_were_made() {
    let _cpu = cpu_profiler();
    for clock in [Clock::Timers, Clock::PerfEvents] {
        let session = match clock {
            Clock::PerfEvents => match start_perf(1000) {
                Some(session) => session,
                None => continue,
            },
            _ => cpu::start_with(1000, clock).unwrap(),
        };
        let thread = std::thread::spawn(|| {
            (0..10).fold((Duration::ZERO, Duration::ZERO), |(kernel, user), _| {
                let kernel = kernel + read_zeros(Duration::from_millis(60));
                (kernel, user + compute(Duration::from_millis(40)))
            })
        });
        let (kernel, user) = thread.join().unwrap();
        let capture = session.stop();
        println!("{}", capture.summary);
        if capture.summary.source == Source::PerfEventsInUserMode {
            continue; // there the kernel's time has no stack
        }
        let share = ratio(kernel, kernel + user);
        let (kernel, user) = (value(&capture, "read_zeros"), value(&capture, "compute"));
        let measured = ratio(kernel, kernel + user);
        println!("{clock:?}: {share:.3} of the time in the kernel, measured {measured:.3}");
        assert!((share - measured).abs() < 0.05, "{share} {measured}");
        assert!(kernel + user > Duration::from_millis(500));
    }
}

#[test]
fn sessions_one_after_the_other_do_not_disturb_each_other() {
    let _cpu = cpu_profiler();
    // Signals of one session that arrive in the next one must not count there, nor write into another thread's ring.
    let busy: Vec<_> = (0..3).map(|_| std::thread::spawn(|| compute(Duration::from_millis(1500)))).collect();
    let end = Instant::now() + Duration::from_secs(2);
    let mut clocks = [Clock::Auto, Clock::Timers].into_iter().cycle();
    let mut sessions = 0;
    while Instant::now() < end {
        let session = cpu::start_with(1000, clocks.next().expect("endless")).unwrap();
        std::thread::sleep(Duration::from_millis(3));
        let capture = session.stop();
        let summary = &capture.summary;
        assert!(capture.profile.samples.iter().all(|sample| sample.stack.len() <= 128), "a torn sample");
        // What one session can have sampled is at most what the process used, and a period for each thread.
        let most = summary.process_cpu + Duration::from_millis(5) * (summary.threads as u32 + 1);
        assert!(summary.sampled_cpu <= most, "{summary}");
        sessions += 1;
    }
    busy.into_iter().for_each(|thread| {
        thread.join().unwrap();
    });
    println!("{sessions} sessions");
}
