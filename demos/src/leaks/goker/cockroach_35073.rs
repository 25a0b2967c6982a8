//! goker/cockroach_35073: communication, channel.
//!
//! Bug: who should drain a channel of rows fails before it begins, and does not say that it wants no more rows. Those who
//! push wait.
//!
//! Leaks: `flow`: chan send, `pusher`: chan send. In Rust: no, if the one who drains owns the receiver.

use greenprof_runtime::sync::{Chan, WaitGroup, channel};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_35073",
    origin: "https://github.com/cockroachdb/cockroach/pull/35073",
    what: "The reader of a channel of rows fails at once; its writers fill the channel and wait.",
    fix: "Close the channel, or drain it, when the reader fails.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the outbox owns the receiver, and drops it when it fails"),
    ],
};

const LEAKS: &[Site] = &[Site("flow", ChanSend, 1), Site("pusher", ChanSend, 1)];

/// Rows that the channel has room for.
const ROOM: u32 = 16;

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("flow", move || {
        let rows = Chan::with_capacity(ROOM as usize);
        (0..ROOM).for_each(|row| rows.send(row).expect("nobody closes it"));
        let theirs = rows.clone();
        stage.spawn("pusher", move || theirs.send(ROOM));
        let (group, outbox_rows) = (WaitGroup::new(), rows.clone());
        group.add(1);
        let ended = group.clone();
        stage.spawn("outbox", move || {
            // Failed to connect: it neither reads the rows nor tells anybody.
            drop(outbox_rows);
            ended.done();
        });
        group.wait();
        rows.send(ROOM + 1)
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("flow", move || {
        let (rows, outbox_rows) = channel::bounded(ROOM as usize);
        (0..ROOM).for_each(|row| rows.send(row).expect("there is a receiver"));
        let theirs = rows.clone();
        stage.spawn("pusher", move || theirs.send(ROOM));
        let outbox = stage.spawn("outbox", move || drop(outbox_rows));
        outbox.join().expect("it does not panic");
        rows.send(ROOM + 1)
    });
    scene.settled();
}
