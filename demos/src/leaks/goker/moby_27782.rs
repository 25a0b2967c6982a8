//! goker/moby_27782: communication, channel and condition variable.
//!
//! Bug: a log reader that is told to end asks the file watcher to forget the file, and waits for an event that says so. The
//! watcher only knows of writes, and offers them to a reader that receives no more.
//!
//! As shipped with Go's tests the kernel cannot leak: its reader holds a lock that who tells it to end needs. Here the lock
//! is given up, as the report of the bug has it.
//!
//! Leaks: `reader`: sync.Cond.Wait, `source`: select. In Rust: yes: the reader owns the receiver, and is alive.

use greenprof_runtime::{
    select,
    sync::{Chan, Condvar, Mutex, channel},
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/moby_27782",
    origin: "https://github.com/moby/moby/pull/27782",
    what: "A reader waits for an event that its watcher cannot deliver, as it is busy offering another one.",
    fix: "Tell the watcher to end before waiting for it.",
    forms: &[
        Form::natural(run, LEAKS).instances(20),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the notification never comes, and the reader's receiver is alive in its frame"),
    ],
};

const LEAKS: &[Site] = &[Site("reader", CondvarWait, 1), Site("source", Select, 1)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Written,
    Removed,
}

#[derive(Default)]
struct Watcher {
    removed: (Mutex<bool>, Condvar),
    events: Chan<Event>,
    done: Chan<()>,
}

impl Watcher {
    /// What happens to the file: it is written to.
    fn watch(&self) {
        loop {
            let event = Event::Written;
            if event == Event::Removed {
                *self.removed.0.lock() = true;
                self.removed.1.notify_all();
            }
            select! {
                send(self.events, event) -> _ => {}
                recv(self.done) -> _ => return,
            }
        }
    }

    fn remove(&self) {
        drop(self.removed.1.wait_while(self.removed.0.lock(), |removed| !*removed));
    }
}

fn run(scene: &Scene) {
    let (registered, closed) = (Arc::new(Mutex::new(None::<Chan<()>>)), scene.gate());
    let (logger, notified, stage) = (registered.clone(), closed.clone(), scene.clone());
    scene.spawn("reader", move || {
        let (watcher, close) = (Arc::new(Watcher::default()), Chan::new());
        *logger.lock() = Some(close.clone());
        let (theirs, scene) = (watcher.clone(), stage.clone());
        stage.spawn("source", move || {
            scene.until("reader", CondvarWait, 1);
            theirs.watch();
        });
        notified.pass();
        loop {
            select! {
                recv(watcher.events) -> _ => {}
                recv(close) -> _ => {
                    watcher.remove();
                    break;
                }
            }
        }
        watcher.done.close();
    });
    scene.spawn("resetter", move || {
        loop {
            if let Some(close) = registered.lock().take() {
                close.close();
                break;
            }
            greenprof_runtime::yield_now();
        }
        closed.open();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let ((close, closed), (event, events)) = (channel::rendezvous::<()>(), channel::rendezvous());
    let ((done, is_done), stage) = (channel::rendezvous::<()>(), scene.clone());
    scene.spawn("source", move || {
        stage.until("reader", CondvarWait, 1);
        loop {
            select! {
                send(event, Event::Written) -> sent => if sent.is_err() { return },
                recv(is_done) -> _ => return,
            }
        }
    });
    scene.spawn("reader", move || {
        let (removed, changed) = (Mutex::new(false), Condvar::new());
        _ = closed.recv();
        drop(changed.wait_while(removed.lock(), |removed| !*removed));
        drop((events, done));
    });
    drop(close);
    scene.settled();
}
