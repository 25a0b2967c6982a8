//! The handle is on the stack of a task or thread that is not blocked on a primitive.

use std::{hint::black_box, io::Read, mem, thread, time::Duration};

use greenprof_runtime::{sync::Chan, task, yield_now};

use super::{RECEIVER, play, play_with_holder, receiver, sound, wake};
use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAMS: &[&Program] = &[
    sound!("sleeper", "A sleeping task holds the channel.", "It sends when it wakes.", sleeper, RECEIVER),
    sound!("deep", "It is held two hundred frames up a sleeping task's stack.", "It sends on return.", deep, RECEIVER),
    sound!("far", "It lies beyond a large array on a sleeping task's stack.", "It sends when it wakes.", far, RECEIVER),
    sound!("spinner", "A task that never waits holds it.", "It sends when it has done.", spinner, RECEIVER),
    sound!("yielder", "A task that yields all the time holds it.", "It sends when it has done.", yielder, RECEIVER),
    sound!("blocking", "A task in a blocking section holds it.", "It sends afterwards.", blocking, RECEIVER),
    sound!(
        "system_call",
        "A task that reads from a pipe holds it.",
        "It sends when it has read.",
        system_call,
        RECEIVER
    ),
    sound!(
        "thread",
        "A thread that runs no tasks and sleeps holds it.",
        "It sends when it wakes.",
        thread_sleeps,
        RECEIVER
    ),
    sound!(
        "thread_in_primitive",
        "A thread that waits on a primitive holds it.",
        "It sends when it has received.",
        thread_receives,
        RECEIVER
    ),
    sound!("swapped", "A task swaps the handle with another all the time.", "It sends in the end.", swapped, RECEIVER),
    sound!("handed_on", "The handle moves from task to task, untouched.", "The last one sends.", handed_on, RECEIVER),
    sound!(
        "stale_and_live",
        "The slot where the handle was is used by another; the handle itself moved on.",
        "Who has it now sends.",
        stale_and_live,
        RECEIVER
    ),
];

fn sleeper(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        scene.spawn("holder", move || {
            gate.pass();
            wake(&signal);
        });
    }
    play_with_holder(scene, start);
}

fn deep(scene: &Scene) {
    fn descend(depth: u32, gate: &Gate) -> u32 {
        if depth == 0 {
            gate.pass();
            return 0;
        }
        black_box(descend(depth - 1, gate)) + 1
    }
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        scene.spawn("holder", move || {
            let signal = black_box(signal);
            descend(200, &gate);
            wake(&signal);
        });
    }
    play_with_holder(scene, start);
}

fn far(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        scene.spawn("holder", move || {
            let signal = black_box(signal);
            let mut ballast = [0_u8; 48 * 1024];
            black_box(&mut ballast);
            gate.pass();
            black_box(&ballast);
            wake(&signal);
        });
    }
    play_with_holder(scene, start);
}

fn spinner(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        scene.spawn("spinner", move || {
            while !gate.is_open() {
                std::hint::spin_loop();
            }
            wake(&signal);
        });
    }
    play(scene, start);
}

fn yielder(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        scene.spawn("yielder", move || {
            while !gate.is_open() {
                yield_now();
            }
            wake(&signal);
        });
    }
    play(scene, start);
}

fn blocking(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        scene.spawn("blocker", move || {
            task::blocking(|| {
                while !gate.is_open() {
                    thread::sleep(Duration::from_millis(1));
                }
            });
            wake(&signal);
        });
    }
    play(scene, start);
}

fn system_call(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        let (mut reader, writer) = std::io::pipe().expect("there are descriptors");
        scene.spawn("reading", move || {
            _ = reader.read(&mut [0]);
            wake(&signal);
        });
        // The end of the pipe is closed when the gate opens.
        thread::spawn(move || {
            while !gate.is_open() {
                thread::sleep(Duration::from_millis(1));
            }
            drop(writer);
        });
    }
    play(scene, start);
}

fn thread_sleeps(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        thread::spawn(move || {
            while !gate.is_open() {
                thread::sleep(Duration::from_millis(1));
            }
            wake(&signal);
        });
    }
    play(scene, start);
}

fn thread_receives(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (signal, go_on) = (receiver(scene), Chan::<()>::new());
        let theirs = go_on.clone();
        thread::spawn(move || {
            theirs.recv();
            wake(&signal);
        });
        scene.spawn("holder", move || {
            gate.pass();
            wake(&go_on);
        });
    }
    play_with_holder(scene, start);
}

fn swapped(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        scene.spawn("swapper", move || {
            let (mut first, mut second) = (signal, Chan::nil());
            while !gate.is_open() {
                (0..1000).for_each(|_| mem::swap(black_box(&mut first), black_box(&mut second)));
                yield_now();
            }
            [first, second].iter().filter(|signal| !signal.is_nil()).for_each(wake);
        });
    }
    play(scene, start);
}

fn handed_on(scene: &Scene) {
    fn hand_on(scene: &Scene, signal: Chan<()>, times: u32, gate: Gate) {
        let inner = scene.clone();
        let name = if times == 0 { "holder" } else { "hand" };
        scene.spawn(name, move || {
            if times == 0 {
                gate.pass();
                wake(&signal);
            } else {
                hand_on(&inner, signal, times - 1, gate);
            }
        });
    }
    fn start(scene: &Scene, gate: Gate) {
        hand_on(scene, receiver(scene), 50, gate);
    }
    play_with_holder(scene, start);
}

fn stale_and_live(scene: &Scene) {
    #[inline(never)]
    fn pass_through(signal: Chan<()>, places: &mut [Option<Chan<()>>; 4]) {
        places[3] = Some(signal);
    }
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        scene.spawn("holder", move || {
            let mut places = [None, None, None, None];
            pass_through(signal, &mut places);
            places.swap(0, 3);
            places[3] = Some(Chan::nil());
            let taken = places[0].take();
            gate.pass();
            taken.iter().for_each(wake);
        });
    }
    play_with_holder(scene, start);
}
