//! goker/grpc_1275: communication, channel.
//!
//! Bug: closing a stream should wake its reader, and does nothing. Who closes it gives up after a while, the reader does not.
//!
//! Leaks: `reader`: chan receive. In Rust: no, if the closer owns the writing half.

use std::time::Duration;

use greenprof_runtime::{
    select,
    sync::{Chan, channel},
    time::Timer,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/grpc_1275",
    origin: "https://github.com/grpc/grpc-go/pull/1275",
    what: "A stream's reader waits for data; closing the stream does not tell it.",
    fix: "Close the stream's channel.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the closer owns the sender, and drops it"),
    ],
};

const LEAKS: &[Site] = &[Site("reader", ChanReceive, 1)];

/// How long the closer waits for the reader's end.
const PATIENCE: Duration = Duration::from_nanos(300);

struct Stream {
    data: Chan<Vec<u8>>,
}

impl Stream {
    fn read(&self) -> Option<Vec<u8>> {
        self.data.recv()
    }

    /// Should send or close, and does neither.
    fn close(&self) {}
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("closer", move || {
        let (stream, done) = (Arc::new(Stream { data: Chan::new() }), Chan::<()>::new());
        let (theirs, finished) = (stream.clone(), done.clone());
        stage.spawn("reader", move || {
            theirs.read();
            finished.close();
        });
        stream.close();
        let timer = Timer::new(PATIENCE);
        select! {
            recv(done) -> _ => {}
            recv(timer.chan()) -> _ => {}
        }
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("closer", move || {
        let ((writer, data), (finished, done)) = (channel::rendezvous::<Vec<u8>>(), channel::rendezvous::<()>());
        stage.spawn("reader", move || {
            _ = data.recv();
            drop(finished);
        });
        select! {
            recv(done) -> _ => {}
            timeout(PATIENCE) => {}
        }
        drop(writer);
    });
    scene.settled();
}
