//! Why is a task alive? The chain from a root to what can wake it.

use std::{fmt, panic::Location, sync::atomic::Ordering::Relaxed};

use greenprof_runtime::{
    sync::{Primitive, PrimitiveKind},
    task::TaskId,
    world::stop::Stopped,
};

use super::{
    blocks::Blocks,
    caller::Caller,
    mark::{Cause, Root, Roots, Trail, root_of},
    population::{LIVE, Population, TASK},
};

/// Longer chains are cut: their end, which is the task's, is kept.
const MOST_STEPS: usize = 1024;

/// A link of the chain, each held by the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// A word among the variables of a module, at this address.
    Variables(usize),
    /// A word on the stack of a thread: its id, the address.
    ThreadStack(i32, usize),
    /// A word in a register of a thread.
    Register(i32),
    /// A word among the thread-local variables of a thread: its id, the address.
    ThreadLocals(i32, usize),
    /// What an armed timer keeps.
    Timer,
    /// Memory that is neither the heap's nor the runtime's.
    OtherMemory(usize),
    /// A task that is live: its number.
    Task(TaskId),
    /// A word on the stack of a live task: its number, the address, and a place in the function in whose frame it is; 0 if that is not known.
    Frame(TaskId, usize, usize),
    /// A block of the heap: its address, its size, and at which byte of it the word lies that leads on.
    Block(usize, usize, usize),
    /// A handle or guard of a primitive, or a pointer to it from inside of an operation.
    Primitive(u32, PrimitiveKind, Option<&'static Location<'static>>),
}

/// Why a task is alive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WhyAlive {
    /// From a root to the task. Empty if the task is a root itself, because it is running, runnable or sleeping.
    pub chain: Vec<Link>,
}

impl fmt::Display for WhyAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for link in &self.chain {
            writeln!(f, "{link:x?}")?;
        }
        Ok(())
    }
}

/// Room for a chain, made before the stop.
pub(super) fn room() -> Vec<Link> {
    Vec::with_capacity(MOST_STEPS)
}

/// Whether there was room: nothing may be allocated.
fn push(links: &mut Vec<Link>, link: Link) -> bool {
    let room = links.len() < links.capacity();
    if room {
        links.push(link);
    }
    room
}

/// Writes the chain of a task, from the task to the root. Whether the task is there and live.
pub(super) fn trace(
    world: &Stopped<'_>,
    blocks: &Blocks,
    population: &Population,
    (trail, roots): (&Trail, &Roots),
    caller: &Caller,
    task: TaskId,
    links: &mut Vec<Link>,
) -> bool {
    let Some(mut slot) = population.slot_of(world, task.get()) else { return false };
    if population.slots[slot].flags() & (TASK | LIVE) != TASK | LIVE {
        return false;
    }
    let number = |slot: usize| {
        let high = population.slots.get(slot).map_or(0, |slot| slot.high());
        world.task_at(high).map_or(task, |task| task.id())
    };
    let mut cause = Cause::of(&trail.tasks[slot]);
    loop {
        let room = match cause {
            Cause::None => return true,
            Cause::Task(other) => {
                slot = other;
                cause = Cause::of(&trail.tasks[slot]);
                push(links, Link::Task(number(slot)))
            }
            Cause::Primitive(index) => {
                cause = Cause::of(&trail.primitives[index]);
                let link = Primitive::with_index(index).and_then(|primitive| {
                    Some(Link::Primitive(index as u32, primitive.kind()?, primitive.created_at()))
                });
                link.is_none_or(|link| push(links, link))
            }
            Cause::Word(0) => {
                push(links, Link::Timer);
                return true;
            }
            Cause::Word(at) => {
                if let Some(block) = blocks.block_at(at) {
                    cause = Cause::Word(trail.blocks.get(block.mark).map_or(0, |at| at.load(Relaxed) as usize));
                    push(links, Link::Block(block.start, block.size, at - block.start))
                } else if let Some(primitive) = world.primitive_at(at) {
                    // What a channel keeps.
                    cause = Cause::Primitive(primitive.index());
                    true
                } else if let (Some(at_slot), Some(here)) = (world.slot_at(at), world.task_at(at)) {
                    let function = match here.thread() {
                        Some(thread) if thread.id() == caller.thread => thread.function_at_from(&caller.at, at),
                        Some(thread) => thread.function_at(at),
                        None => here.function_at(at),
                    };
                    slot = at_slot.number;
                    cause = Cause::of(&trail.tasks[slot]);
                    push(links, Link::Frame(number(slot), at, function))
                } else {
                    let link = match root_of(roots, at) {
                        Some(Root::Variables) => Link::Variables(at),
                        Some(Root::Stack(thread)) => Link::ThreadStack(thread, at),
                        Some(Root::Registers(thread)) => Link::Register(thread),
                        Some(Root::Locals(thread)) => Link::ThreadLocals(thread, at),
                        Some(Root::Other) | None => Link::OtherMemory(at),
                    };
                    push(links, link);
                    return true;
                }
            }
        };
        if !room {
            return true;
        }
    }
}
