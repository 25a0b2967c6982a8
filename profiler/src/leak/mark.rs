//! Marking: from the roots to all that live tasks can reach, and from there to the tasks that they can wake.
//!
//! There is one worklist of blocks (in [`Blocks`]) and one of tasks. A word that leads to a block puts the block on the first. One that
//! shows a capability to wake (see [`Marker::primitive`]), or that leads to the stack of a task, puts tasks on the second. When
//! both are empty nothing more can be reached: each step is taken once, so a chain of tasks that wait for each other costs
//! no more than as many tasks side by side.
//!
//! Runs in the stopped world: nothing here allocates, locks, or uses thread-local variables.

use std::{io, ops::Range};

use greenprof_runtime::{
    sync::Primitive,
    world::stop::{StackSlot, Stopped, Task},
};

use super::{
    blocks::{Blocks, Reached},
    memory::{Stack, Table},
    population::{CANDIDATE, ENDED, LIVE, PLAIN, Population, RUNS, TASK, is_handed_on},
};

/// How words of a range are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Whoever has these words may be in the middle of an operation of the runtime: pointers to a primitive count, as do
    /// those to the record of a wait.
    pub(super) plain: bool,
    /// Pointers to stacks of tasks count. Those that the scheduler keeps of the tasks it runs do not.
    pub(super) stacks: bool,
    /// Pointers to stacks without a task count: somebody may be putting a closure there.
    pub(super) new_stacks: bool,
}

/// Memory of the program's.
pub(super) const PRECISE: Rule = Rule { plain: false, stacks: true, new_stacks: false };
/// The stack of a task that was woken, and has not run since.
const INSIDE: Rule = Rule { plain: true, stacks: true, new_stacks: false };

/// Why something is live: where the word was, or what led to it otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Not reached, or a root.
    None,
    /// A word at this address.
    Word(usize),
    /// It waits on the primitive of this index, which is live.
    Primitive(usize),
    /// The task in this slot is live: it is joined, waits for the same lock and is live itself, or is in the queue where
    /// somebody is waking all.
    Task(usize),
}

/// A cause in a table: kind and value.
type Packed = (usize, usize);

impl Cause {
    fn pack(self) -> Packed {
        match self {
            Self::None => (0, 0),
            Self::Word(at) => (1, at),
            Self::Primitive(index) => (2, index),
            Self::Task(slot) => (3, slot),
        }
    }

    pub(super) fn unpack((kind, value): Packed) -> Self {
        match kind {
            1 => Self::Word(value),
            2 => Self::Primitive(value),
            3 => Self::Task(value),
            _ => Self::None,
        }
    }
}

/// Why each thing is live.
pub(super) struct Trail {
    /// By slot.
    pub(super) tasks: Table<Packed>,
    /// By index.
    pub(super) primitives: Table<Packed>,
    /// For each block, at the place of its mark: where the word was that led to it.
    pub(super) blocks: Table<u64>,
    /// Where roots lie, and after each what it is: see [`Root::pack`].
    pub(super) roots: Stack<Packed>,
}

/// What a root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// Variables of a module.
    Variables,
    /// The stack of the thread with this id.
    Stack(i32),
    /// The registers of a thread.
    Registers(i32),
    /// The thread-local variables of a thread.
    Locals(i32),
    /// Memory that is neither the heap's nor the runtime's.
    Other,
}

impl Root {
    fn pack(self) -> Packed {
        match self {
            Self::Variables => (0, 0),
            Self::Stack(thread) => (1, thread as usize),
            Self::Registers(thread) => (2, thread as usize),
            Self::Locals(thread) => (3, thread as usize),
            Self::Other => (4, 0),
        }
    }

    fn unpack((kind, thread): Packed) -> Self {
        match kind {
            0 => Self::Variables,
            1 => Self::Stack(thread as i32),
            2 => Self::Registers(thread as i32),
            3 => Self::Locals(thread as i32),
            _ => Self::Other,
        }
    }
}

/// Ranges of roots that are remembered: a few for each thread, and one for each module.
const MAX_ROOTS: usize = 1 << 18;

impl Trail {
    pub(super) fn new(blocks: &Blocks, population: &Population) -> io::Result<Self> {
        Ok(Self {
            tasks: Table::new(population.slots.len())?,
            primitives: Table::new(population.cores.len())?,
            blocks: Table::new(blocks.most())?,
            roots: Stack::new(2 * MAX_ROOTS)?,
        })
    }

    /// The root that an address lies in.
    pub(super) fn root(&self, address: usize) -> Option<Root> {
        let (pairs, _) = self.roots.values().as_chunks::<2>();
        let found = pairs.iter().find(|[range, _]| (range.0..range.1).contains(&address));
        found.map(|[_, root]| Root::unpack(*root))
    }
}

/// Where a closure lies that has not begun, counted from the end of the stack: its largest size, and what comes with it.
const CLOSURE: usize = 4096 + 512;

pub(super) struct Marker<'w> {
    world: &'w Stopped<'w>,
    pub(super) blocks: &'w mut Blocks,
    pub(super) population: &'w mut Population,
    /// Slots of tasks that are live and whose stacks were not looked at.
    woken: &'w mut Stack<u32>,
    primitives: usize,
    cores: Range<usize>,
    slabs: Range<usize>,
    pub(super) words: u64,
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// Bytes of roots that could not be read.
    pub(super) unreadable: u64,
    /// A worklist was full.
    pub(super) overflow: bool,
    /// Filled if it is there.
    trail: Option<&'w mut Trail>,
}

/// The list of woken tasks: each is put there twice at most.
pub(super) fn room_for_tasks(population: &Population) -> io::Result<Stack<u32>> {
    Stack::new(population.slots.len() * 2)
}

impl<'w> Marker<'w> {
    pub(super) fn new(
        world: &'w Stopped<'w>,
        blocks: &'w mut Blocks,
        population: &'w mut Population,
        woken: &'w mut Stack<u32>,
        trail: Option<&'w mut Trail>,
    ) -> Self {
        let (low, high) =
            world.slabs().fold((usize::MAX, 0), |(low, high), slab| (low.min(slab.start), high.max(slab.end)));
        Self {
            world,
            blocks,
            population,
            woken,
            primitives: Primitive::bound(),
            cores: Primitive::region(),
            slabs: if low > high { 0..0 } else { low..high },
            words: 0,
            count: 0,
            bytes: 0,
            unreadable: 0,
            overflow: false,
            trail,
        }
    }

    fn note(&mut self, range: &Range<usize>, root: Root) {
        if let Some(trail) = &mut self.trail {
            // What finds no room is not named in an explanation.
            let _ = trail.roots.push((range.start, range.end)) && trail.roots.push(root.pack());
        }
    }

    /// Looks at memory that may have holes.
    pub(super) fn range(&mut self, range: Range<usize>, rule: Rule, root: Root) {
        self.note(&range, root);
        let world = self.world;
        self.words += (range.len() / size_of::<usize>()) as u64;
        self.unreadable += world.words(range, |at, word| self.word(at, word, rule)) as u64;
    }

    /// Looks at words.
    pub(super) fn values(&mut self, values: &[usize], rule: Rule, root: Root) {
        let start = values.as_ptr() as usize;
        self.note(&(start..start + size_of_val(values)), root);
        self.words += values.len() as u64;
        values.iter().for_each(|word| self.word(std::ptr::from_ref(word) as usize, *word, rule));
    }

    /// Makes the tasks live that are roots.
    pub(super) fn root_tasks(&mut self) {
        for at in 0..self.population.slots.len().min(greenprof_runtime::world::stop::stack_slots()) {
            if self.population.slots[at].flags & (TASK | CANDIDATE | ENDED) == TASK {
                self.wake(at, Cause::None);
            }
        }
    }

    /// Looks at all that was reached, until nothing more is.
    pub(super) fn run(&mut self) {
        loop {
            while let Some(at) = self.woken.pop() {
                self.task(at as usize);
            }
            if !self.drain_blocks() {
                return;
            }
        }
    }

    /// Looks at blocks that were reached while there are any. Whether there were any.
    fn drain_blocks(&mut self) -> bool {
        let mut any = false;
        while let Some(span) = self.blocks.next_span() {
            any = true;
            for word in 0..span.words {
                let mut taken = self.blocks.take(&span, word);
                while taken != 0 {
                    let start = span.start + (word * 64 + taken.trailing_zeros() as usize) * span.size;
                    taken &= taken - 1;
                    self.count += 1;
                    self.bytes += span.size as u64;
                    self.memory(start..start + span.size, PRECISE);
                }
            }
        }
        any
    }

    /// Looks at memory without holes: of the heap, or of a task's stack.
    fn memory(&mut self, range: Range<usize>, rule: Rule) {
        self.words += (range.len() / size_of::<usize>()) as u64;
        let mut at = range.start.next_multiple_of(size_of::<usize>());
        while at + size_of::<usize>() <= range.end {
            // SAFETY: the caller's range is readable. If the stop is not complete, somebody may be writing: hence volatile,
            // and any value will do.
            let word = unsafe { (at as *const usize).read_volatile() };
            self.word(at, word, rule);
            at += size_of::<usize>();
        }
    }

    /// Follows one word, and notes where it was.
    #[inline(always)]
    pub(super) fn word(&mut self, at: usize, word: usize, rule: Rule) {
        if let Some(block) = self.blocks.reach(word) {
            self.block(at, block);
        }
        // The index of a core is in the upper bits of a handle, and is never 0.
        let index = Primitive::index_in(word as u64);
        if index.wrapping_sub(1) < self.primitives - 1 {
            self.handle(at, word);
        }
        if word.wrapping_sub(self.slabs.start) < self.slabs.len() {
            self.stack(at, word, rule);
        }
        if rule.plain && self.cores.contains(&word) {
            self.core(at, word);
        }
    }

    #[inline(always)]
    fn block(&mut self, at: usize, block: Reached) {
        if let Some(trail) = &mut self.trail
            && let Some(place) = trail.blocks.get_mut(block.mark)
        {
            *place = at as u64;
        }
    }

    #[inline(never)]
    fn handle(&mut self, at: usize, word: usize) {
        if let Some(primitive) = self.world.primitive_of(word as u64) {
            self.primitive(primitive, Cause::Word(at));
        }
    }

    #[cold]
    fn core(&mut self, at: usize, word: usize) {
        if let Some(primitive) = self.world.primitive_at(word) {
            self.primitive(primitive, Cause::Word(at));
        }
    }

    /// Something live can wake those who wait on a primitive: it has a valid handle, or the guard, or is inside of an operation
    /// on it. What the primitive keeps is live, too.
    fn primitive(&mut self, primitive: Primitive, cause: Cause) {
        let Some(core) = self.population.cores.get_mut(primitive.index()) else { return };
        if core.reached != 0 {
            return;
        }
        core.reached = 1;
        let mut next = core.waits;
        if let Some(trail) = &mut self.trail {
            trail.primitives[primitive.index()] = cause.pack();
        }
        while let Some(wait) = self.population.wait(next) {
            self.wake(wait.slot as usize, Cause::Primitive(primitive.index()));
            next = wait.next;
        }
        let buffer = primitive.buffer();
        if let Some(block) = self.blocks.reach(buffer) {
            self.block(primitive.memory().start, block);
        }
    }

    /// A word that points to where stacks are.
    #[inline(never)]
    fn stack(&mut self, at: usize, word: usize, rule: Rule) {
        let Some(StackSlot { number, end }) = self.world.slot_at(word) else { return };
        let Some(slot) = self.population.slots.get(number).copied() else { return };
        if slot.flags & TASK == 0 {
            if rule.new_stacks && slot.flags & LIVE == 0 {
                self.population.slots[number].flags |= LIVE;
                self.memory(end - CLOSURE..end, INSIDE);
            }
            return;
        }
        let known = if rule.plain { PLAIN } else { LIVE };
        if !rule.stacks || slot.flags & (known | RUNS) != 0 || !(slot.low..slot.high).contains(&word) {
            return;
        }
        let in_record = slot.record != 0
            && self
                .world
                .task_at(slot.high)
                .is_some_and(|task| task.queues().any(|queued| queued.record.contains(&word)));
        if !in_record {
            self.wake(number, Cause::Word(at));
        } else if rule.plain {
            self.wake_all(number, Cause::Word(at));
        }
    }

    /// A task is live: somebody can wake it, or uses what is on its stack.
    fn wake(&mut self, at: usize, cause: Cause) {
        let Some(slot) = self.population.slots.get_mut(at) else { return };
        if slot.flags & LIVE != 0 {
            return;
        }
        slot.flags |= LIVE;
        self.overflow |= !self.woken.push(at as u32);
        let mut next = slot.joiners;
        if let Some(trail) = &mut self.trail {
            trail.tasks[at] = cause.pack();
        }
        while let Some(wait) = self.population.wait(next) {
            self.wake(wait.slot as usize, Cause::Task(at));
            next = wait.next;
        }
    }

    /// Somebody is waking a task, and perhaps all that are in a queue with it, of which it may know only this one.
    fn wake_all(&mut self, at: usize, cause: Cause) {
        self.wake(at, cause);
        let slot = &mut self.population.slots[at];
        if slot.flags & PLAIN != 0 {
            return;
        }
        slot.flags |= PLAIN;
        self.overflow |= !self.woken.push(at as u32);
    }

    /// Looks at the stack of a live task.
    fn task(&mut self, at: usize) {
        let Some(slot) = self.population.slots.get(at).copied() else { return };
        let Some(task) = self.world.task_at(slot.high) else { return };
        let rule = if slot.flags & PLAIN != 0 { INSIDE } else { PRECISE };
        self.word(slot.high, task.locals(), PRECISE);
        if slot.flags & RUNS == 0 {
            self.memory(slot.low..slot.high, rule);
        }
        if slot.flags & CANDIDATE != 0 {
            self.queues(at, &task, rule);
        }
    }

    /// What a live task that waits says of those that wait with it.
    fn queues(&mut self, at: usize, task: &Task<'_>, rule: Rule) {
        for queued in task.queues() {
            if let Some(primitive) = queued.primitive.filter(|primitive| is_handed_on(primitive.kind())) {
                self.primitive(primitive, Cause::Task(at));
            }
            if rule.plain {
                for neighbour in queued.neighbours {
                    if let Some(StackSlot { number, .. }) = self.world.slot_at(neighbour)
                        && self.population.slots.get(number).is_some_and(|slot| slot.flags & CANDIDATE != 0)
                    {
                        self.wake_all(number, Cause::Task(at));
                    }
                }
            }
        }
    }
}

/// How many blocks that only a leaked task reaches are looked at, to find what it holds.
const MOST_OF_ITS_OWN: usize = 256;

impl Marker<'_> {
    /// Gives the primitives of which a task that is not live has a valid word, on its stack or in blocks that only such tasks
    /// reach. The same one may be given several times.
    pub(super) fn held_by(&mut self, at: usize, mut primitive: impl FnMut(Primitive)) {
        let Some(slot) = self.population.slots.get(at).copied() else { return };
        let mut own = [(0, 0, 0); MOST_OF_ITS_OWN];
        let mut count = 0;
        let mut next = 0;
        let mut range = slot.low..slot.high;
        loop {
            for at in range.clone().step_by(size_of::<usize>()) {
                // SAFETY: the stack of a task, or a block, without holes.
                let word = unsafe { (at as *const usize).read_volatile() };
                if let Some(found) = self.world.primitive_of(word as u64) {
                    primitive(found);
                }
                if count < MOST_OF_ITS_OWN
                    && let Some(block) = self.blocks.claim(word)
                {
                    own[count] = (block.start, block.size, block.mark);
                    count += 1;
                }
            }
            if next == count {
                break;
            }
            range = own[next].0..own[next].0 + own[next].1;
            next += 1;
        }
        // Others may reach them, too.
        own[..count].iter().for_each(|block| self.blocks.forget(block.2));
    }
}
