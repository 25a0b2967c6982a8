//! patterns/method_contract_violation: communication, channel.
//!
//! Bug: an object starts a task that ends when the object is told to stop. Its user forgets to.
//!
//! Leaks: `worker`: select. In Rust: no.

use greenprof_runtime::{
    select,
    sync::{
        Chan,
        channel::{self, Sender},
    },
};

use crate::leaks::{patterns::STUDY, prelude::*};

pub const PROGRAM: Program = Program {
    id: "patterns/method_contract_violation",
    origin: STUDY,
    what: "An object's task ends when the object is told to stop; its user drops it without.",
    fix: "Call `stop`, best from a destructor.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "dropping the object drops its senders: the select sees that nobody sends"),
    ],
};

const LEAKS: &[Site] = &[Site("worker", Select, 1)];

struct Pipeline {
    items: Chan<u32>,
    /// Closed when the user is done.
    done: Chan<()>,
}

impl Pipeline {
    fn start(scene: &Scene) -> Self {
        let pipeline = Self { items: Chan::new(), done: Chan::new() };
        let (items, done) = (pipeline.items.clone(), pipeline.done.clone());
        scene.spawn("worker", move || {
            loop {
                select! {
                    recv(items) -> _ => {}
                    recv(done) -> _ => return,
                }
            }
        });
        pipeline
    }

    fn push(&self, item: u32) {
        self.items.send(item).expect("nobody closes it");
    }

    /// What the user has to call in the end, and does not.
    #[expect(dead_code, reason = "this is the bug")]
    fn stop(&self) {
        self.done.close();
    }
}

fn run(scene: &Scene) {
    let pipeline = Pipeline::start(scene);
    (0..10).for_each(|item| pipeline.push(item));
    drop(pipeline);
    scene.settled();
}

fn rust(scene: &Scene) {
    let (items, theirs) = channel::rendezvous();
    let (done, is_done) = channel::rendezvous::<()>();
    scene.spawn("worker", move || {
        loop {
            select! {
                recv(theirs) -> item => if item.is_none() { return },
                recv(is_done) -> _ => return,
            }
        }
    });
    let pipeline: (Sender<u32>, Sender<()>) = (items, done);
    (0..10).for_each(|item| pipeline.0.send(item).expect("there is a receiver"));
    drop(pipeline);
    scene.settled();
}
