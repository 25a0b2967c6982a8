//! Does CPU time land where it was spent: in the right function, under the right labels, on tasks that move?

use std::time::{Duration, Instant};

use greenprof_benches::accuracy::cpu::{Used, WORKS, migrate, resolved, weight, while_two_burn};
use greenprof_profiler::cpu;
use greenprof_runtime::{Runtime, labels, sleep, spawn, sync::Chan};
use greenprof_tests::cpu_profiler;
use nix::time::{ClockId, clock_gettime};

/// How long a test waits for CPU time.
const MOST: Duration = Duration::from_secs(60);

fn process_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock that every Linux has").into()
}

#[test]
fn an_80_20_split_is_measured_within_5_points() {
    let _cpu = cpu_profiler();
    let capture = Runtime::builder().workers(2).build().unwrap().run(|| {
        // Labels that must not appear: these tasks use no CPU while the profile runs.
        let gate = Chan::<()>::new();
        for _ in 0..100 {
            let gate = gate.clone();
            labels::with(&[("burner", "blocked")], || spawn(move || gate.recv()));
        }
        labels::with(&[("burner", "asleep")], || spawn(|| sleep(MOST)));
        sleep(Duration::from_millis(50));

        let (capture, [much, little]) = while_two_burn(Duration::from_millis(8), || {
            let session = cpu::start(cpu::DEFAULT_HZ).unwrap();
            // On a busy machine it takes longer until there are enough samples.
            let (start, before) = (Instant::now(), process_cpu());
            while process_cpu() < before + Duration::from_secs(4) && start.elapsed() < MOST {
                sleep(Duration::from_millis(100));
            }
            session.stop()
        });
        gate.close();
        let truth = 100.0 * much as f64 / (much + little) as f64;
        assert!((truth - 80.0).abs() < 1.0, "the load itself is {truth:.1} to {:.1}", 100.0 - truth);
        capture
    });
    println!("{}", capture.summary);
    let samples = resolved(&capture);
    let much = weight(&samples, |sample| sample.calls("burn_much"));
    let little = weight(&samples, |sample| sample.calls("burn_little"));
    let share = 100.0 * much as f64 / (much + little) as f64;
    println!("much {much}, little {little}: {share:.1} %");
    assert!(much + little > 200, "only {} samples: the machine gave the test no CPU", much + little);
    assert!((share - 80.0).abs() <= 5.0, "80 % were measured as {share:.1} %");

    for label in ["blocked", "asleep"] {
        assert_eq!(weight(&samples, |sample| sample.label("burner") == Some(label)), 0, "{label} tasks use no CPU");
    }
    for sample in &samples {
        let expected = match (sample.calls("burn_much"), sample.calls("burn_little")) {
            (true, false) => Some("much"),
            (false, true) => Some("little"),
            _ => continue,
        };
        assert_eq!(sample.label("burner"), expected, "{sample:?}");
    }
}

#[test]
fn labels_follow_tasks_that_move_between_threads() {
    let _cpu = cpu_profiler();
    let session = cpu::start(cpu::MAX_HZ).unwrap();
    let used = Used::new(WORKS.len());
    let moved = Runtime::builder().workers(2).build().unwrap().run(|| migrate(Duration::from_millis(300), &used));
    let capture = session.stop();
    println!("{moved} moves\n{}", capture.summary);
    assert!(moved > 0, "no task has moved: the test shows nothing");
    let mut agreeing = 0;
    for sample in resolved(&capture) {
        let Some((label, _)) = WORKS.iter().find(|(label, _)| sample.calls(&format!("work_{label}"))) else { continue };
        assert_eq!(sample.label("task"), Some(*label), "{sample:?}");
        agreeing += sample.values[0];
    }
    assert!(agreeing > 100, "only {agreeing} samples in the tasks");
}
