//! Situations in which no task is leaked: somewhere there is something that can wake each. All of them end by waking all.

use std::{
    arch::asm,
    cell::RefCell,
    collections::HashMap,
    hint::{black_box, spin_loop},
    mem,
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use greenprof_runtime::{
    JoinHandle, Runtime,
    context::Context,
    select, sleep, spawn,
    sync::{Chan, Condvar, Mutex, Once, OnceCell, RawMutex, RwLock, Semaphore, Shared, WaitGroup, channel},
    task, task_local, time, yield_now,
};

use crate::{
    Case,
    lab::{Lab, NAP, go, wait_for},
};

macro_rules! cases {
    ($($name:ident,)*) => {
        pub const CASES: &[Case] = &[$(Case { name: stringify!($name), leaked: &[], run: $name },)*];
    };
}

cases! {
    on_a_sleeping_tasks_stack,
    in_a_static,
    in_a_thread_local_of_a_thread,
    nested_in_boxes_and_maps,
    in_a_shared_value,
    borrowed_from_a_shared_value,
    shared_value_that_is_handed_on,
    behind_a_leaked_box,
    in_flight_in_a_channel,
    in_a_blocked_message,
    in_a_vector_register,
    in_a_preserved_register,
    in_a_parked_tasks_register,
    in_a_computing_task,
    in_a_blocking_section,
    on_a_foreign_threads_stack,
    held_by_a_thread_that_waits_on_a_primitive,
    timer_that_is_armed,
    ticker_that_is_armed,
    closure_of_after_func,
    timer_func_in_a_static,
    result_that_nobody_has_joined,
    in_a_task_local,
    chain_of_contexts,
    context_with_a_deadline,
    lent_by_thread_scope,
    lent_by_task_scope,
    one_wait_group_for_both_sides,
    one_condvar_for_both_sides,
    guards_in_vectors,
    lock_with_many_waiters,
    read_guards,
    write_guard,
    raw_lock_unlocked_by_another,
    once_with_a_sleeping_body,
    cell_with_a_sleeping_body,
    permit_of_a_sleeper,
    timed_waiter_ahead,
    joined_sleeper,
    joined_over_runtimes,
    closure_that_has_not_begun,
    large_closure,
    select_with_one_live_arm,
    chain_through_live_tasks,
    halves_that_disconnect,
    pool_of_handles,
    stale_enum_payload,
    moved_while_waiting,
    destructor_that_waits,
    message_behind_a_destructor_that_waits,
    looked_at_by_a_thread,
    main_rests_in_a_join,
    shared_by_many_handles,
    busy,
}

/// Wakes a receiver, and sees that it ends.
fn wake(sender: &Chan<u32>, task: JoinHandle<Option<u32>>) {
    sender.send(7).expect("open");
    assert_eq!(task.join().expect("no panic"), Some(7));
}

/// A channel, and a task that waits for it.
#[inline(never)]
fn receiver() -> (Chan<u32>, JoinHandle<Option<u32>>) {
    let chan = Chan::new();
    let other = chan.clone();
    (chan, go("receiver", move || other.recv()))
}

/// A channel whose other handle only the receiver has.
#[inline(never)]
fn in_a_sleeper(use_it: impl FnOnce(Chan<u32>) + Send + 'static) -> JoinHandle<Option<u32>> {
    let (chan, task) = receiver();
    go("sleeper", move || {
        let chan = black_box(chan);
        sleep(NAP);
        use_it(chan);
    });
    task
}

fn on_a_sleeping_tasks_stack(lab: &Lab) {
    let task = in_a_sleeper(|chan| chan.send(7).expect("open"));
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

static SHARED: StdMutex<Option<Chan<u32>>> = StdMutex::new(None);

fn in_a_static(lab: &Lab) {
    let (chan, task) = receiver();
    *SHARED.lock().unwrap() = Some(chan);
    lab.detect();
    let chan = SHARED.lock().unwrap().take().unwrap();
    wake(&chan, task);
}

thread_local! {
    static OWN: RefCell<Option<Chan<u32>>> = const { RefCell::new(None) };
}

fn in_a_thread_local_of_a_thread(lab: &Lab) {
    let (chan, task) = receiver();
    let (go_on, wait) = mpsc::channel::<()>();
    let (ready, is_ready) = mpsc::channel();
    let thread = thread::spawn(move || {
        OWN.set(Some(chan));
        ready.send(()).unwrap();
        wait.recv().unwrap();
        OWN.take().unwrap().send(7).expect("open");
    });
    is_ready.recv().unwrap();
    lab.detect();
    go_on.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(task.join().unwrap(), Some(7));
}

trait Wakes: Send {
    fn wake(self: Box<Self>);
}

struct Deep {
    map: HashMap<String, Vec<Option<Box<Chan<u32>>>>>,
}

impl Wakes for Deep {
    fn wake(mut self: Box<Self>) {
        let mut list = self.map.remove("x").unwrap();
        list.remove(3).unwrap().send(7).expect("open");
    }
}

fn nested_in_boxes_and_maps(lab: &Lab) {
    let (chan, task) = receiver();
    let deep = Deep { map: HashMap::from([("x".to_owned(), vec![None, None, None, Some(Box::new(chan))])]) };
    let deep: Arc<StdMutex<Option<Box<dyn Wakes>>>> = Arc::new(StdMutex::new(Some(Box::new(deep))));
    let other = deep.clone();
    go("sleeper", move || {
        sleep(NAP);
        let wakes = other.lock().unwrap().take().unwrap();
        wakes.wake();
    });
    drop(deep);
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn in_a_shared_value(lab: &Lab) {
    let (chan, task) = receiver();
    let inner = Shared::new(HashMap::from([("x", vec![None, Some(Box::new(chan))])]));
    let outer = Shared::new(Some(inner));
    let other = outer.clone();
    go("sleeper", move || {
        sleep(NAP);
        let map = other.as_ref().as_ref().expect("it is there");
        map["x"][1].as_ref().expect("it is there").send(7).expect("open");
    });
    drop(outer);
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

/// The only owner lies on the stack of the task that waits; a thread has a reference to what it owns.
fn borrowed_from_a_shared_value(lab: &Lab) {
    let task = go("receiver", || {
        let chan = Shared::new(Chan::new());
        thread::scope(|scope| {
            let lent: &Chan<u32> = &chan;
            scope.spawn(move || {
                thread::sleep(NAP);
                lent.send(7).expect("open");
            });
            chan.recv()
        })
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

/// From task to task, used by each: every move makes the word before it a stale one.
fn shared_value_that_is_handed_on(lab: &Lab) {
    let (chan, task) = receiver();
    let mut owner = Shared::new(chan);
    for _ in 0..20 {
        let hand_on = move || {
            assert!(owner.is_empty());
            owner
        };
        owner = spawn(hand_on).join().unwrap();
    }
    go("sleeper", move || {
        sleep(NAP);
        owner.send(7).expect("open");
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn behind_a_leaked_box(lab: &Lab) {
    let (chan, task) = receiver();
    let leaked: &'static Chan<u32> = Box::leak(Box::new(chan));
    go("sleeper", move || {
        sleep(NAP);
        leaked.send(7).expect("open");
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn in_flight_in_a_channel(lab: &Lab) {
    let (chan, task) = receiver();
    let mail = Chan::with_capacity(8);
    for _ in 0..3 {
        mail.send(Chan::new()).expect("open");
    }
    mail.send(chan).expect("open");
    let unbounded = channel::unbounded();
    unbounded.0.send(mail).expect("open");
    lab.detect();
    let mail = unbounded.1.recv().expect("sent");
    let chan = mail.iter().nth(3).expect("sent");
    wake(&chan, task);
}

fn in_a_blocked_message(lab: &Lab) {
    let (chan, task) = receiver();
    let mail = Chan::new();
    let other = mail.clone();
    let sender = go("sender", move || other.send(Box::new(chan)).expect("open"));
    lab.detect();
    let chan = mail.recv().expect("sent");
    sender.join().unwrap();
    wake(&chan, task);
}

static RELEASED: AtomicBool = AtomicBool::new(false);

/// The two words of a channel.
fn words(chan: Chan<u32>) -> [u64; 2] {
    const { assert!(size_of::<Chan<u32>>() == 16) };
    // SAFETY: a channel is two words.
    unsafe { mem::transmute(chan) }
}

fn from_words(words: [u64; 2]) -> Chan<u32> {
    // SAFETY: see `words`.
    unsafe { mem::transmute(words) }
}

/// Spins with the channel in a vector register and nowhere else.
#[inline(never)]
fn spin_in_vector(slot: &mut [u64; 2]) {
    // SAFETY: loads the words, wipes the slot, spins until the flag is set, and stores them back.
    unsafe {
        asm!(
            "movdqu xmm9, [{slot}]",
            "pxor xmm0, xmm0",
            "movdqu [{slot}], xmm0",
            "2:",
            "pause",
            "cmp byte ptr [{flag}], 0",
            "je 2b",
            "movdqu [{slot}], xmm9",
            slot = in(reg) slot.as_mut_ptr(),
            flag = in(reg) RELEASED.as_ptr(),
            out("xmm0") _,
            out("xmm9") _,
            options(nostack),
        );
    }
}

#[inline(never)]
fn spin_in_preserved(slot: &mut [u64; 2]) {
    // SAFETY: as above, in registers that functions preserve.
    unsafe {
        asm!(
            "mov r12, [{slot}]",
            "mov r13, [{slot} + 8]",
            "mov qword ptr [{slot}], 0",
            "mov qword ptr [{slot} + 8], 0",
            "2:",
            "pause",
            "cmp byte ptr [{flag}], 0",
            "je 2b",
            "mov [{slot}], r12",
            "mov [{slot} + 8], r13",
            slot = in(reg) slot.as_mut_ptr(),
            flag = in(reg) RELEASED.as_ptr(),
            out("r12") _,
            out("r13") _,
            options(nostack),
        );
    }
}

extern "C" fn nap() {
    sleep(NAP);
}

/// Sleeps with the channel in preserved registers, which the context switch saves.
#[inline(never)]
fn sleep_in_preserved(slot: &mut [u64; 2]) {
    // SAFETY: as above. A function is called, which preserves these registers.
    unsafe {
        asm!(
            "mov r12, [{slot}]",
            "mov r13, [{slot} + 8]",
            "mov qword ptr [{slot}], 0",
            "mov qword ptr [{slot} + 8], 0",
            "mov r14, {slot}",
            "call {nap}",
            "mov [r14], r12",
            "mov [r14 + 8], r13",
            slot = in(reg) slot.as_mut_ptr(),
            nap = sym nap,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            clobber_abi("C"),
        );
    }
}

/// Moves the channel to a thread that keeps it in registers, and looks meanwhile.
fn in_registers(lab: &Lab, spin: fn(&mut [u64; 2])) {
    let (chan, task) = receiver();
    let mut slot = words(chan);
    let began = Arc::new(AtomicBool::new(false));
    let flag = began.clone();
    let thread = thread::spawn(move || {
        flag.store(true, Ordering::SeqCst);
        spin(&mut slot);
        from_words(slot).send(7).expect("open");
    });
    wait_for("the thread", || began.load(Ordering::SeqCst));
    sleep(Duration::from_millis(5));
    lab.detect();
    RELEASED.store(true, Ordering::SeqCst);
    thread.join().unwrap();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn in_a_vector_register(lab: &Lab) {
    in_registers(lab, spin_in_vector);
}

fn in_a_preserved_register(lab: &Lab) {
    in_registers(lab, spin_in_preserved);
}

fn in_a_parked_tasks_register(lab: &Lab) {
    let (chan, task) = receiver();
    let mut slot = words(chan);
    go("sleeper", move || {
        sleep_in_preserved(&mut slot);
        from_words(slot).send(7).expect("open");
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn in_a_computing_task(lab: &Lab) {
    let (chan, task) = receiver();
    let handle = Runtime::builder().workers(1).build().unwrap();
    let spawned = handle.handle().spawn(move || {
        while !RELEASED.load(Ordering::SeqCst) {
            spin_loop();
        }
        chan.send(7).expect("open");
    });
    lab.detect();
    RELEASED.store(true, Ordering::SeqCst);
    spawned.expect("a task").join().unwrap();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn in_a_blocking_section(lab: &Lab) {
    let (chan, task) = receiver();
    go("blocker", move || {
        task::blocking(|| thread::sleep(NAP));
        chan.send(7).expect("open");
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn on_a_foreign_threads_stack(lab: &Lab) {
    let (chan, task) = receiver();
    let (go_on, wait) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        wait.recv().unwrap();
        chan.send(7).expect("open");
    });
    lab.detect();
    go_on.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn held_by_a_thread_that_waits_on_a_primitive(lab: &Lab) {
    let (chan, task) = receiver();
    let (start, started) = channel::rendezvous::<()>();
    let thread = thread::spawn(move || {
        started.recv().unwrap();
        chan.send(7).expect("open");
    });
    lab.detect();
    start.send(()).expect("open");
    thread.join().unwrap();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn timer_that_is_armed(lab: &Lab) {
    let task = go("waits", || time::after(NAP).recv().is_some());
    let timer = time::Timer::new(NAP);
    let chan = timer.chan().clone();
    drop(timer);
    let other = go("waits", move || chan.recv().is_some());
    lab.detect();
    assert!(task.join().unwrap() && other.join().unwrap());
}

fn ticker_that_is_armed(lab: &Lab) {
    let task = go("waits", || {
        let ticker = time::Ticker::new(NAP);
        ticker.chan().recv().is_some() && ticker.chan().recv().is_some()
    });
    lab.detect();
    sleep(NAP);
    lab.detect();
    assert!(task.join().unwrap());
}

fn closure_of_after_func(lab: &Lab) {
    let (chan, task) = receiver();
    drop(time::after_func(NAP, move || chan.send(7).expect("open")));
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

static FUNC: StdMutex<Option<time::FuncTimer>> = StdMutex::new(None);

fn timer_func_in_a_static(lab: &Lab) {
    let (chan, task) = receiver();
    let timer = time::after_func(Duration::from_secs(3600), move || chan.send(7).expect("open"));
    timer.stop();
    *FUNC.lock().unwrap() = Some(timer);
    lab.detect();
    FUNC.lock().unwrap().take().unwrap().reset(Duration::ZERO);
    sleep(Duration::from_millis(1));
    // A stopped timer's closure goes with the timer: kept until it has run.
    assert_eq!(task.join().unwrap(), Some(7));
}

fn result_that_nobody_has_joined(lab: &Lab) {
    let (chan, task) = receiver();
    let done = go("done", move || Some(chan));
    let panicked = receiver();
    let payload = go("panicked", move || std::panic::resume_unwind(Box::new(panicked.0)));
    wait_for("the ends", || done.is_finished() && payload.is_finished());
    lab.detect();
    wake(&done.join().unwrap().unwrap(), task);
    let payload: Box<dyn std::any::Any + Send> = payload.join().unwrap_err();
    wake(payload.downcast_ref::<Chan<u32>>().unwrap(), panicked.1);
}

task_local! {
    static LOCAL: RefCell<Option<Chan<u32>>> = const { RefCell::new(None) };
}

fn in_a_task_local(lab: &Lab) {
    let (chan, task) = receiver();
    go("sleeper", move || {
        LOCAL.with(|local| *local.borrow_mut() = Some(chan));
        sleep(NAP);
        LOCAL.with(|local| local.borrow_mut().take()).unwrap().send(7).expect("open");
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn chain_of_contexts(lab: &Lab) {
    let (root, cancel) = Context::background().with_cancel();
    let (middle, _) = root.with_cancel();
    let (leaf, _) = middle.with_timeout(Duration::from_secs(3600));
    let task = go("waits", move || leaf.done().recv());
    drop((root, middle));
    let canceller = go("sleeper", move || {
        sleep(NAP);
        cancel.cancel();
    });
    lab.detect();
    canceller.join().unwrap();
    assert_eq!(task.join().unwrap(), None);
}

fn context_with_a_deadline(lab: &Lab) {
    let (context, cancel) = Context::background().with_timeout(NAP);
    drop(cancel);
    let (child, _) = context.with_cancel();
    let task = go("waits", move || child.done().recv());
    drop(context);
    lab.detect();
    assert_eq!(task.join().unwrap(), None);
}

fn lent_by_thread_scope(lab: &Lab) {
    let task = go("lends", || {
        let chan = Chan::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(NAP);
                chan.send(7).expect("open");
            });
            chan.recv()
        })
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn lent_by_task_scope(lab: &Lab) {
    let task = go("lends", || {
        let chan = Chan::new();
        task::scope(|scope| {
            scope.spawn(|| {
                sleep(NAP);
                chan.send(7).expect("open");
            });
            chan.recv()
        })
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn one_wait_group_for_both_sides(lab: &Lab) {
    let group = Arc::new(WaitGroup::new());
    group.add(1);
    let other = group.clone();
    let task = go("waits", move || group.wait());
    go("sleeper", move || {
        sleep(NAP);
        other.done();
    });
    lab.detect();
    task.join().unwrap();
}

fn one_condvar_for_both_sides(lab: &Lab) {
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let other = pair.clone();
    let task = go("waits", move || {
        let ready = pair.0.lock();
        drop(pair.1.wait_while(ready, |ready| !*ready));
    });
    go("sleeper", move || {
        sleep(NAP);
        *other.0.lock() = true;
        other.1.notify_all();
    });
    lab.detect();
    task.join().unwrap();
}

static LOCKS: [Mutex<u32>; 4] = [const { Mutex::new(0) }; 4];

fn guards_in_vectors(lab: &Lab) {
    let holder = go("sleeper", || {
        let guards: Vec<_> = LOCKS.iter().map(Mutex::lock).collect();
        let boxed = Box::new(Some(guards));
        sleep(NAP);
        drop(boxed);
    });
    sleep(Duration::from_millis(5));
    let waiters: Vec<_> = (0..8).map(|n| go("waits", move || *LOCKS[n % 4].lock())).collect();
    lab.detect();
    holder.join().unwrap();
    waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().unwrap(), 0));
}

/// The lock changes hands all the time: between two owners there is no guard.
fn lock_with_many_waiters(lab: &Lab) {
    let lock = Arc::new(Mutex::new(0_u32));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let lock = lock.clone();
            go("locks", move || {
                for _ in 0..200 {
                    let mut guard = lock.lock();
                    *guard += 1;
                    yield_now();
                }
            })
        })
        .collect();
    for _ in 0..30 {
        lab.detect_now();
        sleep(Duration::from_millis(1));
    }
    tasks.into_iter().for_each(|task| task.join().unwrap());
    assert_eq!(*lock.lock(), 4000);
}

fn read_guards(lab: &Lab) {
    let lock = Arc::new(RwLock::new(1));
    let other = lock.clone();
    let holder = go("sleeper", move || {
        let guards = Box::new([other.read(), other.read()]);
        sleep(NAP);
        drop(guards);
    });
    sleep(Duration::from_millis(5));
    let again = lock.clone();
    let writer = go("writes", move || *lock.write() = 2);
    sleep(Duration::from_millis(5));
    let reader = go("reads", move || *again.read());
    lab.detect();
    holder.join().unwrap();
    writer.join().unwrap();
    assert_eq!(reader.join().unwrap(), 2);
}

fn write_guard(lab: &Lab) {
    let lock = Arc::new(RwLock::new(1));
    let other = lock.clone();
    let holder = go("sleeper", move || {
        let mut guard = other.write();
        sleep(NAP);
        *guard = 2;
    });
    sleep(Duration::from_millis(5));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let lock = lock.clone();
            go("reads", move || *lock.read())
        })
        .collect();
    lab.detect();
    holder.join().unwrap();
    readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), 2));
}

fn raw_lock_unlocked_by_another(lab: &Lab) {
    let lock = Arc::new(RawMutex::new());
    lock.lock();
    let other = lock.clone();
    let task = go("locks", move || lock.lock());
    go("sleeper", move || {
        sleep(NAP);
        other.unlock();
    });
    lab.detect();
    task.join().unwrap();
}

static ONCE: Once = Once::new();

fn once_with_a_sleeping_body(lab: &Lab) {
    let body = go("body", || ONCE.call_once(|| sleep(NAP)));
    sleep(Duration::from_millis(5));
    let waiter = go("waits", || ONCE.call_once(|| unreachable!("once")));
    lab.detect();
    body.join().unwrap();
    waiter.join().unwrap();
}

fn cell_with_a_sleeping_body(lab: &Lab) {
    let cell = Arc::new(OnceCell::new());
    let (one, two) = (cell.clone(), cell);
    let body = go("body", move || {
        *one.get_or_init(|| {
            sleep(NAP);
            5
        })
    });
    sleep(Duration::from_millis(5));
    let waiter = go("waits", move || *two.get_or_init(|| 6));
    lab.detect();
    assert_eq!((body.join().unwrap(), waiter.join().unwrap()), (5, 5));
}

fn permit_of_a_sleeper(lab: &Lab) {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.acquire();
    go("sleeper", move || {
        sleep(NAP);
        drop(permit);
    });
    let waiter = go("waits", move || drop(semaphore.acquire()));
    lab.detect();
    waiter.join().unwrap();
}

fn timed_waiter_ahead(lab: &Lab) {
    let semaphore = Semaphore::new(0);
    let (first, second) = (semaphore.clone(), semaphore.clone());
    let timed = go("timed", move || first.acquire_timeout(NAP).is_none());
    sleep(Duration::from_millis(5));
    let behind = go("behind", move || drop(second.acquire()));
    let pair = Arc::new((Mutex::new(()), Condvar::new()));
    let other = pair.clone();
    let waits = go("waits", move || pair.1.wait_timeout(pair.0.lock(), NAP).1.timed_out());
    sleep(Duration::from_millis(5));
    let chan = Chan::<u32>::new();
    let receives = go("receives", move || chan.recv_timeout(NAP).is_err());
    lab.detect();
    assert!(timed.join().unwrap() && receives.join().unwrap() && waits.join().unwrap());
    drop(other);
    semaphore.add_permits(1);
    behind.join().unwrap();
}

fn joined_sleeper(lab: &Lab) {
    let sleeper = go("sleeper", || sleep(NAP));
    let first = go("joins", move || sleeper.join().unwrap());
    let second = go("joins", move || first.join().unwrap());
    lab.detect();
    second.join().unwrap();
}

/// Whoever ends the other runtime wakes those who join its tasks.
fn joined_over_runtimes(lab: &Lab) {
    let other = Runtime::builder().workers(1).build().unwrap();
    let stuck = other.handle().spawn(|| Chan::<u32>::nil().recv()).expect("a task");
    let joiner = go("joins", move || stuck.join().is_err());
    sleep(Duration::from_millis(20));
    // Only the task of the other runtime is leaked.
    lab.detect_expecting(&["? (chan receive (nil chan))"]);
    thread::spawn(move || drop(other)).join().unwrap();
    assert!(joiner.join().unwrap());
}

fn closure_that_has_not_begun(lab: &Lab) {
    let (chan, task) = receiver();
    sleep(Duration::from_millis(20));
    let one = Runtime::builder().workers(1).build().unwrap();
    // Its worker is busy, so what it spawns does not begin.
    let busy = one
        .handle()
        .spawn(move || {
            let waiting = go("fresh", move || chan.send(7).expect("open"));
            while !RELEASED.load(Ordering::SeqCst) {
                spin_loop();
            }
            waiting.join().unwrap();
        })
        .expect("a task");
    sleep(Duration::from_millis(5));
    lab.detect();
    RELEASED.store(true, Ordering::SeqCst);
    busy.join().unwrap();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn large_closure(lab: &Lab) {
    let (chan, task) = receiver();
    let filler = [1_u64; 1024];
    go("sleeper", move || {
        sleep(NAP);
        assert_eq!(black_box(&filler).iter().sum::<u64>(), 1024);
        chan.send(7).expect("open");
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn select_with_one_live_arm(lab: &Lab) {
    let (dead, live) = (Chan::<u32>::new(), Chan::<u32>::new());
    let other = live.clone();
    let task = go("selects", move || {
        select! {
            recv(dead) -> value => value,
            send(dead, 1) -> _ => None,
            recv(live) -> value => value,
        }
    });
    go("sleeper", move || {
        sleep(NAP);
        other.send(7).expect("open");
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn chain_through_live_tasks(lab: &Lab) {
    let first = Chan::<u32>::new();
    let mut last = first.clone();
    for _ in 0..1000 {
        let next = Chan::new();
        let (from, to) = (last, next.clone());
        go("link", move || to.send(from.recv().unwrap()).expect("open"));
        last = next;
    }
    let task = go("last", move || last.recv());
    go("sleeper", move || {
        sleep(NAP * 2);
        first.send(7).expect("open");
    });
    lab.detect();
    assert_eq!(task.join().unwrap(), Some(7));
}

fn halves_that_disconnect(lab: &Lab) {
    let (sender, receiver) = channel::bounded::<u32>(1);
    let task = go("receives", move || receiver.recv().is_err());
    let (sends, never) = channel::rendezvous::<u32>();
    let other = go("sends", move || sends.send(1).is_err());
    let keeps = Box::new((sender, never));
    go("sleeper", move || {
        sleep(NAP);
        drop(keeps);
    });
    lab.detect();
    assert!(task.join().unwrap() && other.join().unwrap());
}

/// Handles go from task to task through a vector, without being used in between.
fn pool_of_handles(lab: &Lab) {
    let pool = Arc::new(StdMutex::new(Vec::new()));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (chan, task) = receiver();
            let pool = pool.clone();
            go("puts", move || pool.lock().unwrap().push(chan)).join().unwrap();
            task
        })
        .collect();
    let other = pool.clone();
    go("sleeper", move || {
        let taken: Vec<Chan<u32>> = mem::take(&mut *other.lock().unwrap());
        sleep(NAP);
        taken.into_iter().for_each(|chan| chan.send(7).expect("open"));
    });
    drop(pool);
    lab.detect();
    tasks.into_iter().for_each(|task| assert_eq!(task.join().unwrap(), Some(7)));
}

enum Step {
    Holds(Chan<u32>),
    Counts([u64; 2]),
}

fn stale_enum_payload(lab: &Lab) {
    let (chan, task) = receiver();
    let mut step = Step::Holds(chan);
    let Step::Holds(chan) = mem::replace(&mut step, Step::Counts([1, 2])) else { unreachable!() };
    let sleeper = go("sleeper", move || {
        sleep(NAP);
        if let Step::Counts(counts) = black_box(&step) {
            assert_eq!(counts[0], 1);
        }
        chan.send(7).expect("open");
    });
    lab.detect();
    sleeper.join().unwrap();
    assert_eq!(task.join().unwrap(), Some(7));
}

/// Looks while handles and guards are being moved all the time.
fn moved_while_waiting(lab: &Lab) {
    let (chan, task) = receiver();
    let stop = Arc::new(AtomicBool::new(false));
    let moves = Arc::new(AtomicUsize::new(0));
    let (flag, count) = (stop.clone(), moves.clone());
    let mover = go("moves", move || {
        let mut places: [Option<Chan<u32>>; 4] = [Some(chan), None, None, None];
        let mut heap: Vec<Option<Chan<u32>>> = vec![None; 3];
        while !flag.load(Ordering::Relaxed) {
            places.rotate_left(1);
            let at = places.iter().position(Option::is_some).unwrap();
            if at == 2 {
                assert!(places[at].as_ref().unwrap().is_empty());
            }
            heap[1] = places[at].take();
            heap.swap(0, 1);
            let boxed = Box::new(heap[0].take());
            places[at] = *boxed;
            count.fetch_add(1, Ordering::Relaxed);
        }
        places.into_iter().flatten().next().unwrap().send(7).expect("open");
    });
    for _ in 0..300 {
        lab.detect_now();
    }
    stop.store(true, Ordering::Relaxed);
    mover.join().unwrap();
    assert_eq!(task.join().unwrap(), Some(7));
    assert!(moves.load(Ordering::Relaxed) > 0);
}

struct WaitsThenWakes(Chan<u32>, Chan<u32>);

impl Drop for WaitsThenWakes {
    fn drop(&mut self) {
        self.0.recv();
        self.1.send(7).expect("open");
    }
}

/// A task waits in a destructor, because it panics: on its thread.
fn destructor_that_waits(lab: &Lab) {
    let (chan, task) = receiver();
    let gate = Chan::new();
    let waits = WaitsThenWakes(gate.clone(), chan);
    let unwinds = go("unwinds", move || {
        let _waits = waits;
        std::panic::resume_unwind(Box::new(()));
    });
    lab.detect();
    gate.send(1).expect("open");
    assert!(unwinds.join().is_err());
    assert_eq!(task.join().unwrap(), Some(7));
}

/// The last handle of a channel is dropped, and the first message waits in its destructor, the next behind it.
fn message_behind_a_destructor_that_waits(lab: &Lab) {
    let (first, second) = (receiver(), receiver());
    let gates = [Chan::new(), Chan::new()];
    let mail = Chan::with_capacity(2);
    mail.send(WaitsThenWakes(gates[0].clone(), first.0)).expect("open");
    mail.send(WaitsThenWakes(gates[1].clone(), second.0)).expect("open");
    let drops = go("drops", move || drop(mail));
    lab.detect();
    gates.iter().for_each(|gate| gate.send(1).expect("open"));
    drops.join().unwrap();
    assert_eq!((first.1.join().unwrap(), second.1.join().unwrap()), (Some(7), Some(7)));
}

fn looked_at_by_a_thread(lab: &Lab) {
    let (chan, task) = receiver();
    let (word, other) = receiver();
    let kept = Box::new(word);
    thread::scope(|scope| {
        scope.spawn(|| {
            lab.detect();
            kept.send(7).expect("open");
        });
    });
    wake(&chan, task);
    assert_eq!(other.join().unwrap(), Some(7));
}

fn main_rests_in_a_join(lab: &Lab) {
    let (chan, task) = receiver();
    let mut keeps = vec![chan];
    thread::scope(|scope| {
        let looker = scope.spawn(|| lab.detect());
        go("sleeper", || sleep(NAP * 2)).join().unwrap();
        looker.join().unwrap();
    });
    wake(&keeps.pop().unwrap(), task);
}

/// More handles than fit into a core.
fn shared_by_many_handles(lab: &Lab) {
    let chan = Chan::new();
    let tasks: Vec<_> = (0..500)
        .map(|_| {
            let chan = chan.clone();
            go("receives", move || chan.recv())
        })
        .collect();
    let handles: Vec<_> = (0..100).map(|_| chan.clone()).collect();
    let last = handles.into_iter().nth(77);
    go("sleeper", move || {
        sleep(NAP);
        (0..500).for_each(|_| last.as_ref().unwrap().send(7).expect("open"));
    });
    drop(chan);
    lab.detect();
    tasks.into_iter().for_each(|task| assert_eq!(task.join().unwrap(), Some(7)));
}

/// Everything at once, looked at all the time; in the end all of it ends.
fn busy(lab: &Lab) {
    static DONE: AtomicU64 = AtomicU64::new(0);
    let stop = Arc::new(AtomicBool::new(false));
    let lock = Arc::new(Mutex::new(0_u64));
    let shared = Arc::new(RwLock::new(0_u64));
    let semaphore = Semaphore::new(2);
    let tasks: Vec<_> = (0..24)
        .map(|n: u64| {
            let (stop, lock, shared, semaphore) = (stop.clone(), lock.clone(), shared.clone(), semaphore.clone());
            go("works", move || {
                let mut round = n;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    match round % 8 {
                        0 => *lock.lock() += 1,
                        1 => drop(black_box(*shared.read())),
                        2 => *shared.write() += 1,
                        3 => drop(semaphore.acquire()),
                        4 => {
                            let chan = Chan::new();
                            let other = chan.clone();
                            let child = go("child", move || other.send(1).expect("open"));
                            assert_eq!(chan.recv(), Some(1));
                            child.join().unwrap();
                        }
                        5 => {
                            let group = WaitGroup::new();
                            group.add(2);
                            for _ in 0..2 {
                                let group = group.clone();
                                go("counts", move || group.done());
                            }
                            group.wait();
                        }
                        6 => {
                            let pair = Arc::new((Mutex::new(false), Condvar::new()));
                            let other = pair.clone();
                            go("notifies", move || {
                                *other.0.lock() = true;
                                other.1.notify_all();
                            });
                            drop(pair.1.wait_while(pair.0.lock(), |ready| !*ready));
                        }
                        _ => {
                            let (sender, receiver) = channel::bounded::<u64>(1);
                            go("sends", move || (0..3).try_for_each(|n| sender.send(n)));
                            assert_eq!(receiver.iter().sum::<u64>(), 3);
                            let cell = Arc::new(OnceCell::new());
                            let other = cell.clone();
                            let child = go("makes", move || *other.get_or_init(|| 1));
                            assert_eq!(*cell.get_or_init(|| 1), child.join().unwrap());
                        }
                    }
                    DONE.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..400 {
        lab.detect_now();
    }
    stop.store(true, Ordering::Relaxed);
    tasks.into_iter().for_each(|task| task.join().unwrap());
    assert!(DONE.load(Ordering::Relaxed) > 1000);
}
