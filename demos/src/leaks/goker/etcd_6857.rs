//! goker/etcd_6857: communication, channel.
//!
//! Bug: who asks a node for its status sends it a channel for the answer, in a plain send. If the node was stopped before,
//! nobody receives.
//!
//! Leaks: `requester`: chan send. In Rust: no.

use greenprof_runtime::{
    select,
    sync::{
        Chan,
        channel::{self, Sender},
    },
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/etcd_6857",
    origin: "https://github.com/etcd-io/etcd/pull/6857",
    what: "A status request is sent to a node that has already stopped.",
    fix: "Select between the send and the node's end.",
    forms: &[
        Form::natural(run, LEAKS).instances(50),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the node's receiver is dropped when it stops: the send fails"),
    ],
};

const LEAKS: &[Site] = &[Site("requester", ChanSend, 1)];

#[derive(Clone, Default)]
struct Node {
    status: Chan<Chan<u32>>,
    stop: Chan<()>,
    done: Chan<()>,
}

impl Node {
    fn serve(&self) {
        loop {
            select! {
                recv(self.status) -> reply => reply.into_iter().for_each(|reply| _ = reply.send(7)),
                recv(self.stop) -> _ => {
                    self.done.close();
                    return;
                }
            }
        }
    }

    fn status(&self) -> Option<u32> {
        let reply = Chan::new();
        self.status.send(reply.clone()).ok()?;
        reply.recv()
    }

    fn stop(&self) {
        select! {
            send(self.stop, ()) -> _ => {}
            recv(self.done) -> _ => return,
        }
        self.done.recv();
    }
}

fn run(scene: &Scene) {
    let (node, stopped) = (Node::default(), scene.gate());
    let (served, stopper, has_stopped) = (node.clone(), node.clone(), stopped.clone());
    scene.spawn("node", move || served.serve());
    scene.spawn("requester", move || {
        stopped.pass();
        node.status()
    });
    scene.spawn("stopper", move || {
        stopper.stop();
        has_stopped.open();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (status, requests) = channel::rendezvous::<Sender<u32>>();
    let ((stop, told), stopped) = (channel::rendezvous::<()>(), scene.gate());
    let node = scene.spawn("node", move || {
        loop {
            select! {
                recv(requests) -> reply => match reply {
                    Some(reply) => _ = reply.send(7),
                    None => return,
                },
                recv(told) -> _ => return,
            }
        }
    });
    let has_stopped = stopped.clone();
    scene.spawn("requester", move || {
        stopped.pass();
        let (reply, answer) = channel::rendezvous();
        status.send(reply).ok()?;
        answer.recv().ok()
    });
    scene.spawn("stopper", move || {
        drop(stop);
        node.join().expect("it does not panic");
        has_stopped.open();
    });
    scene.settled();
}
