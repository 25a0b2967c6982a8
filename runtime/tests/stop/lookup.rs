//! What a word leads to while the world is stopped.

use std::{
    ops::Range,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use greenprof_runtime::{
    Runtime,
    sync::{Chan, Primitive, PrimitiveKind},
    task,
    world::{self, TaskState},
    yield_now,
};

use crate::{Companion, PATIENT, alone, sleep_until};

#[test]
fn addresses_in_the_slot_of_a_task_lead_to_it() {
    let _alone = alone();
    // Foreign threads may be stopped anywhere, also while they come and go.
    let _companion = Companion::new(sleep_until);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let gate: Chan<()> = Chan::new();
        let inside = Arc::new(AtomicUsize::new(0));
        let waiting: Vec<_> = [16 << 10, 100 << 10, 3 << 20]
            .map(|size| {
                let (gate, inside) = (gate.clone(), inside.clone());
                let body = move || {
                    let local = 0_u8;
                    inside.store(ptr::from_ref(&local) as usize, Ordering::Release);
                    gate.recv()
                };
                task::Builder::new().stack_size(size).spawn(body).unwrap()
            })
            .into();
        let ids: Vec<_> = waiting.iter().map(|task| task.id()).collect();
        while world::tasks(1).iter().filter(|task| matches!(task.state, TaskState::Waiting(_))).count() < 3 {
            yield_now();
        }
        let local = inside.load(Ordering::Acquire);
        let heap = Box::new(0_u8);
        let stop = world::stop(PATIENT, |world| {
            let (mut right, mut stack) = ([0; 3], [(0, 0); 3]);
            for task in world.tasks() {
                let Some(at) = ids.iter().position(|id| *id == task.id()) else { continue };
                let Range { start, end } = task.stack();
                stack[at] = (start, end);
                let step = (end - start) / 100;
                let addresses = (0..100).map(|i| start + i * step).chain([start - 1, end - 1, end, end + 8]);
                right[at] =
                    addresses.filter(|address| world.task_at(*address).is_some_and(|t| t.id() == ids[at])).count();
            }
            let of_local = world.task_at(local).map(|task| task.id());
            let elsewhere =
                [0, ptr::from_ref(&*heap) as usize, addresses_in_the_slot_of_a_task_lead_to_it as *const () as usize]
                    .iter()
                    .filter(|address| world.task_at(**address).is_some())
                    .count();
            (right, stack, of_local, elsewhere)
        })
        .unwrap();
        assert!(stop.complete);
        let (right, stacks, of_local, elsewhere) = stop.value;
        assert_eq!((right, elsewhere), ([104; 3], 0));
        assert!(of_local.is_some_and(|id| ids.contains(&id)));
        gate.close();
        waiting.into_iter().for_each(|task| assert!(task.join().unwrap().is_none()));
        // Who joins is woken before the task has left its stack.
        while world::tasks(1).iter().any(|task| ids.contains(&task.id)) {
            yield_now();
        }
        let left = world::stop(PATIENT, |world| stacks.iter().filter(|s| world.task_at(s.0).is_some()).count());
        assert_eq!(left.unwrap().value, 0, "tasks that have ended have no stack");
    });
}

#[test]
fn words_and_addresses_lead_to_primitives() {
    let _alone = alone();
    let channel: Chan<u8> = Chan::new();
    let line = line!() - 1;
    let made_here = |primitive: &Primitive| {
        primitive.created_at().is_some_and(|place| place.file() == file!() && place.line() == line)
    };
    let words = ptr::from_ref(&channel) as usize..ptr::from_ref(&channel) as usize + size_of_val(&channel);
    let (of_words, by_walk, by_address) = world::stop(PATIENT, |world| {
        let mut of_words = None;
        world.words(words, |_, word| of_words = of_words.or(world.primitive_of(word as u64)));
        let by_walk = world.primitives().find(made_here);
        let by_address = by_walk.is_some_and(|p| p.memory().all(|address| world.primitive_at(address) == Some(p)));
        (of_words, by_walk, by_address)
    })
    .unwrap()
    .value;
    assert_eq!(of_words.and_then(Primitive::kind), Some(PrimitiveKind::Chan));
    assert_eq!(of_words, by_walk);
    assert!(by_address);
    drop(channel);
    assert!(!world::stop(PATIENT, |world| world.primitives().any(|p| made_here(&p))).unwrap().value);
}
