//! A minute of everything at once, at random: spawns, panics, selects, timeouts, locks, blocking sections. At the end no
//! task is lost, no stack is leaked, and memory has not grown.
//!
//! `GREENPROF_SOAK_SECONDS` makes it longer.

use std::{
    env, fs, panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Runtime, select, sleep, spawn,
    sync::{Chan, Mutex, WaitGroup, channel},
    task, world, yield_now,
};

/// A small generator, so that a failing seed can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What has been done, to show that something has.
#[derive(Default)]
struct Counts {
    rounds: AtomicU64,
    panics: AtomicU64,
    timeouts: AtomicU64,
    messages: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// KiB of memory that the process has resident.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    line.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// A group of tasks that talk to each other, of which every one ends.
fn round(random: &mut Random, counts: &Arc<Counts>) {
    let members = 2 + random.below(20);
    let chan = Chan::with_capacity(random.below(4) as usize);
    let (sender, receiver) = channel::bounded::<u64>(random.below(3) as usize);
    let lock = Arc::new(Mutex::new(0_u64));
    let group = WaitGroup::new();
    let quit = Chan::<()>::new();
    let mut tasks = Vec::new();
    for member in 0..members {
        let mut random = Random(random.0 ^ (member + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (chan, sender, receiver) = (chan.clone(), sender.clone(), receiver.clone());
        let (lock, group, quit, counts) = (lock.clone(), group.clone(), quit.clone(), counts.clone());
        group.add(1);
        tasks.push(spawn(move || {
            struct Done(WaitGroup);
            impl Drop for Done {
                fn drop(&mut self) {
                    self.0.done();
                }
            }
            let _done = Done(group);
            for step in 0..random.below(30) {
                match random.below(9) {
                    0 => yield_now(),
                    1 => sleep(Duration::from_micros(random.below(300))),
                    2 => *lock.lock() += 1,
                    3 => {
                        let _held = lock.lock();
                        yield_now();
                    }
                    4 if random.below(4) == 0 => {
                        count(&counts.panics);
                        panic::panic_any("on purpose");
                    }
                    5 => {
                        let inner = spawn(move || step);
                        assert_eq!(inner.join().unwrap(), step);
                    }
                    6 if random.below(20) == 0 => {
                        task::blocking(|| std::thread::sleep(Duration::from_micros(200)));
                    }
                    _ => select! {
                        recv(chan) -> value => if value.is_some() { count(&counts.messages) },
                        send(chan, step) -> _ => {},
                        recv(receiver) -> value => if value.is_some() { count(&counts.messages) },
                        send(sender, step) -> _ => {},
                        recv(quit) -> _ => return,
                        timeout(Duration::from_micros(random.below(400))) => count(&counts.timeouts),
                    },
                }
            }
        }));
    }
    if random.below(3) == 0 {
        quit.close();
    }
    group.wait();
    tasks.into_iter().for_each(|task| {
        let _ = task.join();
    });
    count(&counts.rounds);
}

#[test]
fn nothing_is_lost_in_the_long_run() {
    let seconds = env::var("GREENPROF_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref::<&str>() != Some(&"on purpose") {
            eprintln!("{info}");
        }
    }));
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let counts = Arc::new(Counts::default());
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let drivers: Vec<_> = (0..4_u64)
        .map(|driver| {
            let counts = counts.clone();
            let body = move || {
                let mut random = Random(0x5eed + driver);
                while Instant::now() < end {
                    round(&mut random, &counts);
                }
            };
            runtime.handle().spawn(body).unwrap()
        })
        .collect();
    // Memory settles in the first third, and is compared after that.
    std::thread::sleep(Duration::from_secs(seconds) / 3);
    let (settled, stuck_at) = (resident(), counts.rounds.load(Ordering::Relaxed));
    while Instant::now() < end {
        std::thread::sleep(Duration::from_secs(1));
        let now = counts.rounds.load(Ordering::Relaxed);
        assert!(now > stuck_at, "no round has ended since a third of the time");
    }
    drivers.into_iter().for_each(|driver| driver.join().unwrap());
    let finished = resident();
    let handle = runtime.handle();
    // A task counts as alive for a moment after its result was delivered.
    let ended = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        handle.alive_tasks() == 0
    });
    assert!(ended, "{} tasks are lost: {:?}", handle.alive_tasks(), world::tasks(4));
    drop(runtime);
    let Counts { rounds, panics, timeouts, messages } = &*counts;
    let [rounds, panics, timeouts, messages] =
        [rounds, panics, timeouts, messages].map(|counter| counter.load(Ordering::Relaxed));
    println!("{rounds} rounds, {messages} messages, {timeouts} timeouts, {panics} panics in {:?}", start.elapsed());
    println!("resident: {settled} KiB after a third, {finished} KiB at the end; {} threads", handle.threads());
    assert!(rounds > 0 && panics > 0 && timeouts > 0 && messages > 0);
    // What the allocator keeps varies by some pages; a leaked stack a round would be many megabytes.
    assert!(finished < settled + settled / 4 + 4096, "memory has grown from {settled} to {finished} KiB");
}
