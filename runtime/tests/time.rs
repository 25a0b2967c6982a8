//! Sleeping, timers, tickers and delayed closures, from the outside. Nothing here says how soon something must happen,
//! only that it does, and not too early.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Runtime, labels, sleep, spawn,
    sync::{Chan, TryRecvError, WaitGroup},
    task,
    time::{Ticker, Timer, after, after_func},
    yield_now,
};

const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(2);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("threads")
}

/// Runs `test` in a task and on a thread outside any runtime.
fn everywhere(test: fn()) {
    runtime(2).run(test);
    test();
}

/// Waits without any timer under test, so that one that never fires fails instead of hanging.
#[track_caller]
fn wait_for(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "it has not happened");
        yield_now();
    }
}

#[test]
fn timers_fire_once_and_not_early() {
    everywhere(|| {
        let start = Instant::now();
        let timer = Timer::new(MOMENT);
        let fired_at = timer.chan().recv().unwrap();
        assert!(fired_at >= start + MOMENT);
        sleep(MOMENT);
        assert_eq!(timer.chan().try_recv(), Err(TryRecvError::Empty));
        assert!(after(MOMENT).recv().unwrap() > fired_at);
        assert!(after(Duration::ZERO).recv().is_some());
    });
}

#[test]
fn stop_and_reset_tell_what_they_have_prevented() {
    everywhere(|| {
        let timer = Timer::new(HOUR);
        assert!(timer.stop(), "armed");
        assert!(!timer.stop(), "stopped before");
        assert!(!timer.reset(HOUR), "not armed");
        assert!(timer.reset(MOMENT), "armed");
        timer.chan().recv().unwrap();
        assert!(!timer.stop(), "fired and received: who drained the channel now would wait for ever");

        assert!(!timer.reset(Duration::ZERO));
        wait_for(|| timer.chan().len() == 1);
        assert!(timer.stop(), "fired, and not received: taken back");
        assert_eq!(timer.chan().try_recv(), Err(TryRecvError::Empty));

        timer.reset(Duration::ZERO);
        wait_for(|| timer.chan().len() == 1);
        let start = Instant::now();
        assert!(timer.reset(MOMENT));
        assert!(timer.chan().recv().unwrap() >= start + MOMENT, "the value is of the new setting");
    });
}

#[test]
fn no_stale_value_is_received_however_the_firing_races() {
    runtime(2).run(|| {
        let timer = Timer::new(HOUR);
        for round in 0..3_000_u64 {
            let deadline = Instant::now() + Duration::from_micros(round % 130);
            timer.reset(Duration::from_micros(round % 130));
            if round % 3 == 0 {
                while Instant::now() < deadline {
                    std::hint::spin_loop();
                }
            }
            timer.stop();
            assert_eq!(timer.chan().try_recv(), Err(TryRecvError::Empty));
            if round % 50 == 0 {
                let start = Instant::now();
                timer.reset(Duration::from_micros(20));
                timer.reset(Duration::from_micros(50));
                assert!(timer.chan().recv().unwrap() >= start + Duration::from_micros(50));
            }
        }
    });
}

#[test]
fn a_dropped_timer_still_fires() {
    everywhere(|| {
        let chan = Timer::new(MOMENT).chan().clone();
        assert!(chan.recv().is_some());
    });
}

#[test]
fn tickers_tick_on_and_drop_what_nobody_receives() {
    everywhere(|| {
        let start = Instant::now();
        let ticker = Ticker::new(MOMENT);
        let mut last = start;
        for n in 1..=5 {
            let tick = ticker.chan().recv().unwrap();
            assert!(tick > last && tick >= start + MOMENT * n);
            last = tick;
        }
        wait_for(|| ticker.chan().len() == 1);
        sleep(MOMENT * 10);
        assert_eq!(ticker.chan().len(), 1, "a slow receiver finds one tick");
        ticker.stop();
        assert_eq!(ticker.chan().try_recv(), Err(TryRecvError::Empty));
        sleep(MOMENT * 3);
        assert_eq!(ticker.chan().try_recv(), Err(TryRecvError::Empty));
        let again = Instant::now();
        ticker.reset(MOMENT * 2);
        assert!(ticker.chan().recv().unwrap() >= again + MOMENT * 2);
        let chan = ticker.chan().clone();
        drop(ticker);
        let _ = chan.try_recv();
        sleep(MOMENT * 5);
        assert_eq!(chan.try_recv(), Err(TryRecvError::Empty), "a dropped ticker has stopped");
    });
}

#[test]
#[should_panic(expected = "period must be longer than zero")]
fn a_period_of_zero_is_refused() {
    Ticker::new(Duration::ZERO);
}

#[test]
fn a_delayed_closure_runs_once_in_a_task_of_its_own() {
    runtime(2).run(|| {
        let ran = Chan::with_capacity(4);
        let told = ran.clone();
        let start = Instant::now();
        let timer = labels::with(&[("from", "here")], || {
            after_func(MOMENT, move || {
                sleep(Duration::from_millis(1)); // it may wait: it does not hold the timers up
                told.send((task::current_id(), labels::current().get("from").map(str::to_owned))).unwrap();
            })
        });
        let (id, label) = ran.recv().unwrap();
        assert!(start.elapsed() >= MOMENT);
        assert!(id.is_some() && id != task::current_id());
        assert_eq!(label.as_deref(), Some("here"));
        assert!(!timer.stop(), "it has run");
        assert!(!timer.reset(Duration::ZERO), "and has no closure any more");
        sleep(MOMENT);
        assert!(ran.is_empty());
    });
}

#[test]
fn a_delayed_closure_can_be_stopped_put_off_and_panic() {
    let runtime = runtime(1);
    let ran = Arc::new(AtomicUsize::new(0));
    let count = || {
        let ran = ran.clone();
        move || {
            ran.fetch_add(1, Ordering::SeqCst);
        }
    };
    // From a thread that belongs to no runtime.
    let stopped = runtime.handle().after_func(HOUR, count());
    assert!(stopped.stop());
    assert!(!stopped.stop());
    let moved = runtime.handle().after_func(HOUR, count());
    assert!(moved.reset(MOMENT));
    wait_for(|| ran.load(Ordering::SeqCst) == 1);
    assert!(!stopped.reset(MOMENT), "was not armed");
    wait_for(|| ran.load(Ordering::SeqCst) == 2);
    drop(runtime.handle().after_func(Duration::ZERO, || std::panic::resume_unwind(Box::new(()))));
    drop(runtime.handle().after_func(MOMENT, count()));
    wait_for(|| ran.load(Ordering::SeqCst) == 3);
    drop((stopped, moved));
    wait_for(|| Arc::strong_count(&ran) == 1);
}

#[test]
fn stopping_races_with_firing_and_one_of_them_wins() {
    runtime(2).run(|| {
        let ran = Arc::new(AtomicUsize::new(0));
        let mut prevented = 0;
        for round in 0..2_000_u64 {
            let ran = ran.clone();
            let timer = after_func(Duration::from_micros(round % 100), move || {
                ran.fetch_add(1, Ordering::SeqCst);
            });
            if round % 2 == 0 {
                yield_now();
            }
            prevented += usize::from(timer.stop());
        }
        wait_for(|| ran.load(Ordering::SeqCst) + prevented == 2_000);
        wait_for(|| Arc::strong_count(&ran) == 1);
    });
}

/// Says on which thread it was dropped.
struct Witness(Arc<std::sync::Mutex<Vec<String>>>);

impl Drop for Witness {
    fn drop(&mut self) {
        let name = thread::current().name().unwrap_or_default().to_owned();
        self.0.lock().unwrap().push(name);
    }
}

#[test]
fn timers_of_a_dropped_runtime_do_nothing_and_their_closures_go_with_it() {
    let drops = Arc::new(std::sync::Mutex::new(Vec::new()));
    let runtime = runtime(1);
    let handle = runtime.handle();
    let witness = Witness(drops.clone());
    let timer = handle.after_func(HOUR, move || drop(witness));
    let witness = Witness(drops.clone());
    drop(handle.after_func(HOUR, move || drop(witness)));
    let (chan_timer, ticker) = runtime.run(|| (Timer::new(MOMENT * 5), Ticker::new(MOMENT)));
    drop(runtime);
    assert_eq!(drops.lock().unwrap().len(), 1, "the handle of the other has it");
    ticker.stop();
    chan_timer.stop();
    ticker.reset(MOMENT);
    chan_timer.reset(MOMENT);
    timer.reset(Duration::ZERO);
    let witness = Witness(drops.clone());
    drop(handle.after_func(Duration::ZERO, move || drop(witness)));
    thread::sleep(MOMENT * 5);
    assert_eq!(chan_timer.chan().try_recv(), Err(TryRecvError::Empty));
    assert_eq!(ticker.chan().try_recv(), Err(TryRecvError::Empty));
    drop(timer);
    let drops = drops.lock().unwrap();
    assert_eq!(drops.len(), 3);
    assert!(drops.iter().all(|name| name != "greenprof-timer"), "{drops:?}");
}

#[test]
fn a_burst_of_sleepers_all_wake_and_none_early() {
    for workers in [1, 2] {
        runtime(workers).run(|| {
            let done = WaitGroup::new();
            done.add(20_000);
            for n in 0..20_000_u64 {
                let done = done.clone();
                drop(spawn(move || {
                    let duration = Duration::from_micros(n * 7919 % 30_000);
                    let start = Instant::now();
                    sleep(duration);
                    assert!(start.elapsed() >= duration);
                    done.done();
                }));
            }
            done.wait();
        });
    }
}

#[test]
fn sleepers_do_not_starve_those_who_start() {
    // More wake-ups than one worker can serve: new tasks have their turn nevertheless.
    runtime(1).run(|| {
        let stop = Arc::new(AtomicUsize::new(0));
        let sleepers: Vec<_> = (0..2_000)
            .map(|_| {
                let stop = stop.clone();
                spawn(move || {
                    while stop.load(Ordering::Relaxed) == 0 {
                        sleep(Duration::from_micros(1));
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            spawn(|| sleep(Duration::from_millis(1))).join().unwrap();
        }
        stop.store(1, Ordering::Relaxed);
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}

#[test]
fn timers_from_many_threads_and_tasks_at_once() {
    let runtime = runtime(2);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for n in 0..300 {
                    let timer = Timer::new(Duration::from_micros(n % 50));
                    if n % 2 == 0 || !timer.stop() {
                        let _ = timer.chan().try_recv();
                    }
                    after(Duration::from_micros(n)).recv().unwrap();
                }
            });
        }
        runtime.run(|| {
            let tasks: Vec<_> = (0..100)
                .map(|n| {
                    spawn(move || {
                        let ticker = Ticker::new(Duration::from_micros(100 + n));
                        assert_eq!(ticker.chan().iter().take(10).count(), 10);
                    })
                })
                .collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
    });
}
