//! goker/hugo_5379: resource, double locking, through a once.
//!
//! Bug: making a page's content renders it with the page's lock held, in a task that is given up after a millisecond. That
//! task and others then make the plain text, once, which needs the lock.
//!
//! Leaks: `builder`: sync.WaitGroup.Wait; of the three `renderer`s one at sync.Mutex.Lock, inside the once, and two waiting
//! for the once, which Go calls sync.Mutex.Lock, too. In Rust: yes, with guards as well.

use std::time::Duration;

use greenprof_runtime::{
    context::Context,
    select,
    sync::{self, Chan, Mutex, RawMutex, WaitGroup},
};

use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAM: Program = Program {
    id: "goker/hugo_5379",
    origin: "https://github.com/gohugoio/hugo/pull/5379",
    what: "A once needs a lock that is held by a task that waits for the once.",
    fix: "Render without the lock.",
    forms: &[
        Form::natural(raw, LEAKS).instances(20),
        Form::forced(raw, LEAKS),
        Form::rust(guarded, LEAKS, "the guard is alive during the call that comes back"),
    ],
};

const LEAKS: &[Site] = &[Site("builder", WaitGroupWait, 1), Site("renderer", MutexLock, 1), Site("renderer", Once, 2)];

/// How long rendering may take.
const PATIENCE: Duration = Duration::from_millis(1);

/// How a page's lock is held: with a guard, or without.
trait Lock: Default + Send + Sync + 'static {
    fn hold(&self, meanwhile: impl FnOnce());
}

impl Lock for RawMutex {
    fn hold(&self, meanwhile: impl FnOnce()) {
        self.lock();
        meanwhile();
        self.unlock();
    }
}

impl Lock for Mutex<()> {
    fn hold(&self, meanwhile: impl FnOnce()) {
        let _guard = self.lock();
        meanwhile();
    }
}

#[derive(Default)]
struct Page<L> {
    lock: L,
    content: sync::Once,
    plain: sync::Once,
}

impl<L: Lock> Page<L> {
    fn count_words(this: &Arc<Self>, scene: &Scene) {
        this.content.call_once(|| Self::make_content(this, scene));
        this.plain.call_once(|| this.lock.hold(|| {}));
    }

    /// Renders in a task of its own, which is given up after a while.
    fn make_content(this: &Arc<Self>, scene: &Scene) {
        let (context, _cancel) = Context::background().with_timeout(PATIENCE);
        let (rendered, has_lock): (_, Gate) = (Chan::with_capacity(1), scene.gate());
        let (page, stage, result, took) = (this.clone(), scene.clone(), rendered.clone(), has_lock.clone());
        scene.spawn("renderer", move || {
            page.lock.hold(|| {
                took.open();
                Self::count_words(&page, &stage);
            });
            result.send(())
        });
        has_lock.pass();
        select! {
            recv(rendered) -> _ => {}
            recv(context.done()) -> _ => {}
        }
    }
}

fn run<L: Lock>(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("builder", move || {
        let (page, group) = (Arc::new(Page::<L>::default()), WaitGroup::new());
        group.add(2);
        for _ in 0..2 {
            let (page, group, scene) = (page.clone(), group.clone(), stage.clone());
            stage.spawn("renderer", move || {
                Page::count_words(&page, &scene);
                group.done();
            });
        }
        group.wait();
    });
    scene.settled();
}

fn raw(scene: &Scene) {
    run::<RawMutex>(scene);
}

fn guarded(scene: &Scene) {
    run::<Mutex<()>>(scene);
}
