//! Random programs of which nothing is leaked, under a detector that looks all the time.
//!
//! A round has some tasks that are blocked, each in one of the ways in `SITUATIONS`, and for each of them a *key*: a closure with what
//! can wake it. Keys are in motion: carriers take one out of the common pool, hide it somewhere for a while (`hide`), and put it back.
//! So whatever a detector reports is wrong. In the end every key is used, and all tasks must end: that proves that each could be
//! woken at any time.

use std::{
    mem,
    sync::{
        Arc, Mutex as PlainMutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::leak::{self, Mode};
use greenprof_runtime::{
    BuildError, JoinHandle, Runtime, select, spawn,
    sync::{Chan, Condvar, Mutex, Once, RawMutex, RwLock, Semaphore, WaitGroup},
    task,
    time::{after_func, sleep},
    yield_now,
};
use serde::{Deserialize, Serialize};

use crate::console;

/// How long to go on, and how.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// New rounds begin until then.
    pub length: Duration,
    /// Threads that run tasks.
    pub workers: usize,
    /// Whether the stopped process is looked at, or a copy.
    pub mode: Mode,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Random programs.
    pub rounds: u64,
    /// Detections.
    pub detections: u64,
    /// Those that could not report anything, because the stop or the scan was not complete.
    pub incomplete: u64,
    /// Those that should have looked at a copy of the process, and could not.
    pub not_copied: u64,
    /// Tasks that were blocked, and have ended when they were woken.
    pub woken: u64,
    /// Tasks that a detector reported.
    pub false_positives: u64,
    /// Tasks that did not end when they should have been woken.
    pub stuck: u64,
    /// How often a reported task ran again.
    pub errors: u64,
    /// The first of what was reported.
    pub first: Option<String>,
    /// Where the random numbers began.
    pub seed: u64,
}

impl Outcome {
    /// Whether nothing was reported, all were woken, and there was something to see.
    pub fn is_sound(&self) -> bool {
        let wrong = self.false_positives + self.stuck + self.errors;
        wrong == 0 && self.woken > 0 && self.detections > self.incomplete
    }
}

/// Blocked tasks of a round, at least.
const SITUATED: usize = 48;
/// Carriers of a round.
const CARRIERS: usize = 8;
/// How long keys are in motion.
const ROUND: Duration = Duration::from_millis(700);
/// Looks at whether all have ended, a millisecond apart, before they are called stuck.
const LOOKS: usize = 30_000;

/// What can wake a task.
type Key = Box<dyn FnOnce() + Send>;

/// The numbers of Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Keys that nobody carries: in a static of a foreign lock.
static POOL: PlainMutex<Vec<Key>> = PlainMutex::new(Vec::new());

fn pool() -> std::sync::MutexGuard<'static, Vec<Key>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Never waits: it is called in timers' closures, too.
fn put_back(key: Key) {
    pool().push(key);
}

/// Goes on until the time is over, and prints how it gets on where that is wanted.
///
/// # Errors
/// There is no runtime.
pub fn run(settings: Settings) -> Result<Outcome, BuildError> {
    let step = console::Step::start("stress", None);
    let start = Instant::now();
    let mut random = Random(settings.seed);
    let mut outcome = Outcome { seed: settings.seed, ..Outcome::default() };
    while outcome.rounds == 0 || start.elapsed() < settings.length {
        let runtime = Runtime::builder().workers(settings.workers).build()?;
        round(&runtime, settings.mode, &mut random, &mut outcome);
        outcome.rounds += 1;
        step.progress(
            format!(
                "{} detections, {} tasks woken, {} wrong",
                outcome.detections, outcome.woken, outcome.false_positives
            ),
            start.elapsed(),
        );
        if outcome.stuck > 0 {
            break; // what is left over would be looked at for ever
        }
    }
    step.done(&format!("{} rounds", outcome.rounds));
    Ok(outcome)
}

fn round(runtime: &Runtime, mode: Mode, random: &mut Random, outcome: &mut Outcome) {
    let over = Arc::new(AtomicBool::new(false));
    let carried = Arc::new(AtomicUsize::new(0));
    let seed = random.next();
    let tasks = runtime.run(|| situate(seed));
    let carriers: Vec<JoinHandle<()>> = runtime.run(|| {
        (0..CARRIERS as u64)
            .map(|number| {
                let (over, carried) = (over.clone(), carried.clone());
                spawn(move || carry(Random(seed ^ number << 32), &over, &carried))
            })
            .collect()
    });
    let start = Instant::now();
    while start.elapsed() < ROUND {
        // On a plain thread and on a task in turn.
        if random.below(2) == 0 {
            look(runtime, mode, outcome);
        } else {
            runtime.run(|| look(runtime, mode, outcome));
        }
        thread::sleep(Duration::from_micros(random.below(3000) as u64));
    }
    // Relaxed: what the carriers have put back is guarded by the pool's lock.
    over.store(true, Ordering::Relaxed);
    runtime.run(|| carriers.into_iter().for_each(|carrier| drop(carrier.join())));
    for _ in 0..LOOKS {
        // Acquire: pairs with the Release in `Carried`.
        if carried.load(Ordering::Acquire) == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let keys = mem::take(&mut *pool());
    runtime.run(|| keys.into_iter().for_each(|key| key()));
    let ended = || tasks.iter().filter(|task| task.is_finished()).count();
    for _ in 0..LOOKS {
        if ended() == tasks.len() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    outcome.woken += ended() as u64;
    outcome.stuck += (tasks.len() - ended()) as u64;
}

fn look(runtime: &Runtime, mode: Mode, outcome: &mut Outcome) {
    let mut options = leak::Options::default();
    options.mode = mode;
    options.runtime = Some(runtime.handle().runtime_id());
    outcome.detections += 1;
    let Ok(report) = leak::detect_with(&options) else {
        outcome.incomplete += 1;
        return;
    };
    outcome.not_copied += u64::from(mode == Mode::Fork && report.not_copied.is_some());
    outcome.errors = outcome.errors.max(report.errors);
    if report.incomplete().is_some() {
        outcome.incomplete += 1;
        return;
    }
    outcome.false_positives += report.leaked().len() as u64;
    if let Some(leak) = report.leaked().first()
        && outcome.first.is_none()
    {
        outcome.first = Some(format!("{:?}, {:?}", leak.task.name, leak.task.state));
    }
}

/// Takes keys, hides them for a while, and brings them back.
fn carry(mut random: Random, over: &AtomicBool, carried: &Arc<AtomicUsize>) {
    while !over.load(Ordering::Relaxed) {
        let key = {
            let mut pool = pool();
            let count = pool.len();
            (count > 0).then(|| pool.swap_remove(random.below(count)))
        };
        match key {
            Some(key) => hide(key, &mut random, carried),
            None => sleep(Duration::from_micros(200)),
        }
    }
}

/// Counts what is under way without its carrier.
struct Carried(Arc<AtomicUsize>);

impl Carried {
    fn one(carried: &Arc<AtomicUsize>) -> Self {
        // Relaxed: counted before the carrier ends, who is joined.
        carried.fetch_add(1, Ordering::Relaxed);
        Self(carried.clone())
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of who waits for all.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Keeps a key where a detector has to find it, and brings it back in the end.
fn hide(key: Key, random: &mut Random, carried: &Arc<AtomicUsize>) {
    let pause = Duration::from_micros(random.below(2000) as u64);
    match random.below(10) {
        // On this stack only.
        0 => {
            sleep(pause);
            put_back(key);
        }
        // In a channel's buffer.
        1 => {
            let channel = Chan::with_capacity(1);
            let _ = channel.send(key);
            sleep(pause);
            channel.recv().into_iter().for_each(put_back);
        }
        // From hand to hand, between two tasks that wait for each other.
        2 => {
            let (there, back) = (Chan::<Key>::new(), Chan::<Key>::new());
            let other = {
                let (there, back) = (there.clone(), back.clone());
                spawn(move || {
                    if let Some(key) = there.recv() {
                        sleep(pause);
                        let _ = back.send(key);
                    }
                })
            };
            let _ = there.send(key);
            back.recv().into_iter().for_each(put_back);
            let _ = other.join();
        }
        // In an armed timer's closure.
        3 => {
            let carried = Carried::one(carried);
            drop(after_func(pause, move || {
                put_back(key);
                drop(carried);
            }));
        }
        // On a thread that is no worker.
        4 if random.below(8) == 0 => {
            let carried = Carried::one(carried);
            let _ = thread::Builder::new().spawn(move || {
                thread::sleep(pause);
                put_back(key);
                drop(carried);
            });
        }
        // In a task that is runnable over and over.
        5 => {
            let (carried, turns) = (Carried::one(carried), random.below(30));
            drop(spawn(move || {
                (0..turns).for_each(|_| yield_now());
                put_back(key);
                drop(carried);
            }));
        }
        // In the result of a task that nobody has joined yet.
        6 => {
            let task = spawn(move || key);
            sleep(pause);
            if let Ok(key) = task.join() {
                put_back(key);
            }
        }
        // Behind an object behind a lock.
        7 => {
            let nested: Arc<Mutex<Vec<Option<Key>>>> = Arc::new(Mutex::new(vec![None, Some(key)]));
            let other = nested.clone();
            let task = spawn(move || {
                sleep(pause);
                other.lock().pop().flatten()
            });
            drop(nested);
            if let Ok(Some(key)) = task.join() {
                put_back(key);
            }
        }
        // Lent to another thread's or task's stack, which only points here.
        8 => {
            let mut slot = Some(key);
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(pause / 4);
                    slot.take().into_iter().for_each(put_back);
                });
            });
        }
        // Moved about between heap and stack, by what the compiler moves with.
        _ => {
            let (mut a, mut b) = (Box::new(Some(key)), Box::new(None));
            for _ in 0..random.below(200) {
                mem::swap(&mut a, &mut b);
                mem::swap(&mut *a, &mut *b);
                yield_now();
            }
            a.take().or_else(|| b.take()).into_iter().for_each(put_back);
        }
    }
}

/// Makes a round's blocked tasks, and puts their keys into the pool. Returns the tasks, when all are spawned.
fn situate(seed: u64) -> Vec<JoinHandle<()>> {
    let mut random = Random(seed);
    let mut tasks = Vec::new();
    while tasks.len() < SITUATED {
        let situation = SITUATIONS[random.below(SITUATIONS.len())];
        put_back(situation(&mut tasks));
        if random.below(4) == 0 {
            yield_now();
        }
    }
    tasks
}

/// Whether a message was delivered or received says nothing here: that the task ends does.
fn ignore<T>(_: T) {}

/// Spawns tasks that will be blocked, and gives the key.
type Situation = fn(&mut Vec<JoinHandle<()>>) -> Key;

const SITUATIONS: &[Situation] = &[
    received,
    closed,
    sent,
    selected,
    locked,
    read_locked,
    write_locked,
    raw_locked,
    counted,
    notified,
    permitted,
    begun,
    joined,
    chained,
    lent,
];

fn received(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let channel = Chan::new();
    let own = channel.clone();
    tasks.push(spawn(move || ignore(own.recv())));
    Box::new(move || ignore(channel.send(1_u8)))
}

fn closed(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let channel = Chan::<u8>::new();
    for _ in 0..3 {
        let own = channel.clone();
        tasks.push(spawn(move || ignore(own.recv())));
    }
    Box::new(move || ignore(channel.close()))
}

fn sent(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let channel = Chan::new();
    let own = channel.clone();
    tasks.push(spawn(move || ignore(own.send([7_u64; 4]))));
    Box::new(move || ignore(channel.recv()))
}

fn selected(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let (one, other) = (Chan::<u8>::new(), Chan::<u8>::new());
    let own = one.clone();
    tasks.push(spawn(move || {
        select! {
            recv(own) -> _ => {}
            recv(other) -> _ => {}
        }
    }));
    Box::new(move || ignore(one.send(1)))
}

/// A task that keeps something on its stack until the key is used, and the key.
fn holder<T>(tasks: &mut Vec<JoinHandle<()>>, take: impl FnOnce() -> T + Send + 'static) -> Key {
    let gate = Chan::<u8>::new();
    let own = gate.clone();
    tasks.push(spawn(move || {
        let held = take();
        own.recv();
        drop(held);
    }));
    Box::new(move || ignore(gate.send(1)))
}

/// Something that can be moved to a task together with what it borrows.
fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn locked(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let lock = forever(Mutex::new(()));
    let key = holder(tasks, || lock.lock());
    for _ in 0..2 {
        tasks.push(spawn(|| drop(lock.lock())));
    }
    key
}

fn read_locked(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let lock = forever(RwLock::new(()));
    let key = holder(tasks, || lock.read());
    tasks.push(spawn(|| drop(lock.write())));
    tasks.push(spawn(|| drop(lock.read())));
    key
}

fn write_locked(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let lock = forever(RwLock::new(()));
    let key = holder(tasks, || lock.write());
    tasks.push(spawn(|| drop(lock.read())));
    tasks.push(spawn(|| drop(lock.write())));
    key
}

fn raw_locked(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let lock = Arc::new(RawMutex::new());
    lock.lock();
    let own = lock.clone();
    tasks.push(spawn(move || {
        own.lock();
        own.unlock();
    }));
    Box::new(move || lock.unlock())
}

fn counted(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let group = Arc::new(WaitGroup::new());
    group.add(1);
    let own = group.clone();
    tasks.push(spawn(move || own.wait()));
    Box::new(move || group.done())
}

fn notified(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    for _ in 0..2 {
        let own = shared.clone();
        tasks.push(spawn(move || drop(own.1.wait_while(own.0.lock(), |ready| !*ready))));
    }
    Box::new(move || {
        *shared.0.lock() = true;
        shared.1.notify_all();
    })
}

fn permitted(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.acquire();
    let own = semaphore.clone();
    tasks.push(spawn(move || drop(own.acquire())));
    drop(semaphore);
    Box::new(move || drop(permit))
}

fn begun(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let (once, gate) = (forever(Once::new()), Chan::<u8>::new());
    for _ in 0..2 {
        let own = gate.clone();
        tasks.push(spawn(move || once.call_once(|| ignore(own.recv()))));
    }
    Box::new(move || ignore(gate.close()))
}

fn joined(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let gate = Chan::<u8>::new();
    let own = gate.clone();
    let task = spawn(move || ignore(own.recv()));
    tasks.push(spawn(move || drop(task.join())));
    Box::new(move || ignore(gate.send(1)))
}

fn chained(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let first = Chan::<u8>::new();
    let mut channel = first.clone();
    for _ in 0..5 {
        let next = Chan::with_capacity(1);
        let (own, then) = (channel, next.clone());
        tasks.push(spawn(move || {
            own.recv();
            let _ = then.send(1);
        }));
        channel = next;
    }
    Box::new(move || ignore(first.send(1)))
}

/// What wakes is lent by a stack: another thread only points there.
fn lent(tasks: &mut Vec<JoinHandle<()>>) -> Key {
    let gate = Chan::<u8>::new();
    let own = gate.clone();
    tasks.push(spawn(move || {
        let channel = Chan::<u8>::new();
        let lent = &channel;
        task::scope(|scope| {
            scope.spawn(|| {
                own.recv();
                let _ = lent.send(1);
            });
            channel.recv();
        });
    }));
    Box::new(move || ignore(gate.send(1)))
}
