//! Marking: from the roots to all that live tasks can reach, and from there to the tasks that they can wake.
//!
//! There is one worklist of blocks (in [`Blocks`]) and one of tasks. A word that leads to a block puts the block on the first. One that
//! shows a capability to wake (see [`Marker::primitive`]), or that leads to the stack of a task, puts tasks on the second. When
//! both are empty nothing more can be reached: each step is taken once, so a chain of tasks that wait for each other costs
//! no more than as many tasks side by side. Neither list can be full: a span is in one once at most, a task in the other twice
//! at most, ever.
//!
//! Several [`Marker`]s work at once on what they [share](Shared). Each thing is reached by one atomic operation, and whoever does it puts
//! it on its list; so which of them comes first makes no difference to what is reached in the end.
//!
//! All of it is relaxed, but for who is still at work: what a word leads to does not change in the stopped world, and markers begin and end
//! with all threads.
//!
//! Runs in the stopped world: nothing here allocates, locks, or uses thread-local variables.

use std::{
    io,
    ops::Range,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use greenprof_runtime::{
    sync::Primitive,
    world::stop::{Helpers, StackSlot, Stopped, fetch},
};

use super::{
    blocks::{Blocks, WaitingSpan},
    memory::{Queue, Stack, Table, pause},
    population::{CANDIDATE, ENDED, HANDED_ON, LIVE, LOCALS, PLAIN, Population, RUNS, TASK, is_handed_on},
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

impl Cause {
    /// As a word of a table: the kind is above all bits of an address.
    fn pack(self) -> u64 {
        let (kind, value) = match self {
            Self::None => (0, 0),
            Self::Word(at) => (1, at),
            Self::Primitive(index) => (2, index),
            Self::Task(slot) => (3, slot),
        };
        kind << 62 | value as u64
    }

    pub(super) fn of(cause: &AtomicU64) -> Self {
        let cause = cause.load(Relaxed);
        let value = (cause & !(3 << 62)) as usize;
        match cause >> 62 {
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
    pub(super) tasks: Table<AtomicU64>,
    /// By index.
    pub(super) primitives: Table<AtomicU64>,
    /// For each block, at the place of its mark: where the word was that led to it.
    pub(super) blocks: Table<AtomicU64>,
}

/// Where roots lie, and after each what it is: see [`Root::pack`].
pub(super) type Roots = Stack<Packed>;

/// A range, or what is in it.
type Packed = (usize, usize);

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
        })
    }
}

/// Room for the roots.
pub(super) fn room_for_roots() -> io::Result<Roots> {
    Stack::new(2 * MAX_ROOTS)
}

/// The root that an address lies in.
pub(super) fn root_of(roots: &Roots, address: usize) -> Option<Root> {
    let (pairs, _) = roots.values().as_chunks::<2>();
    let found = pairs.iter().find(|[range, _]| (range.0..range.1).contains(&address));
    found.map(|[_, root]| Root::unpack(*root))
}

/// Where a closure lies that has not begun, counted from the end of the stack: its largest size, and what comes with it.
const CLOSURE: usize = 4096 + 512;

/// How many tasks are taken at a time, and fetched together. Their stacks are as far apart as stacks are, so they share few
/// sets of a cache: more of them would drive each other out.
const TASKS: usize = 8;
/// Lines of a stack that are fetched ahead: a small task has no more.
const STACK_LINES: usize = 8;
const LINE: usize = 64;
/// How many blocks ahead of the one that is looked at another is fetched.
const BLOCKS_AHEAD: usize = 8;

/// Words that one marker looks at before others are made: a millisecond or two. Where processors are busy, a new thread may wait for
/// longer than that for one.
const ALONE: u64 = 500_000;

/// The list of woken tasks: each is put there twice at most, and taken as often.
pub(super) fn room_for_tasks(population: &Population) -> io::Result<Queue> {
    Queue::new(population.slots.len() * 2)
}

/// What the markers of a scan share.
pub(super) struct Shared<'s> {
    blocks: &'s Blocks,
    population: &'s Population,
    /// Slots of tasks that are live and whose stacks were not looked at.
    woken: &'s Queue,
    /// Whether a word counts whatever its tag.
    ignores_tags: bool,
    /// Filled if it is there.
    trail: Option<&'s Trail>,
    /// Their indices.
    primitives: Range<usize>,
    cores: Range<usize>,
    /// From the first slab to the end of the last: there may be other things in between.
    slabs: Range<usize>,
    /// Markers that may be about to reach something.
    active: AtomicUsize,
    words: AtomicU64,
    count: AtomicU64,
    bytes: AtomicU64,
}

impl<'s> Shared<'s> {
    pub(super) fn new(
        world: &Stopped<'_>,
        blocks: &'s Blocks,
        population: &'s Population,
        woken: &'s Queue,
        ignores_tags: bool,
        trail: Option<&'s Trail>,
    ) -> Self {
        let (low, high) =
            world.slabs().fold((usize::MAX, 0), |(low, high), slab| (low.min(slab.start), high.max(slab.end)));
        Self {
            blocks,
            population,
            woken,
            ignores_tags,
            trail,
            primitives: Primitive::FIRST..Primitive::bound(),
            cores: Primitive::region(),
            slabs: if low > high { 0..0 } else { low..high },
            active: AtomicUsize::new(0),
            words: AtomicU64::new(0),
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Looks at all that was reached, until nothing more is.
    pub(super) fn run(&self, world: &Stopped<'_>, helpers: &mut Helpers) {
        if !Marker::new(self, world, None).work_alone() {
            world.together(helpers, |world| Marker::new(self, world, None).work());
        }
    }

    fn is_done(&self) -> bool {
        self.woken.is_empty() && self.blocks.is_drained()
    }

    /// How many words were looked at, how many blocks, and the bytes of those.
    pub(super) fn figures(&self) -> [u64; 3] {
        [&self.words, &self.count, &self.bytes].map(|figure| figure.load(Relaxed))
    }
}

/// One thread's part in a scan.
pub(super) struct Marker<'m> {
    shared: &'m Shared<'m>,
    world: &'m Stopped<'m>,
    /// Filled if it is there.
    roots: Option<&'m mut Roots>,
    words: u64,
    count: u64,
    bytes: u64,
    /// Bytes of roots that could not be read.
    pub(super) unreadable: u64,
}

impl Drop for Marker<'_> {
    fn drop(&mut self) {
        let Self { shared, words, count, bytes, .. } = self;
        for (figure, own) in [(&shared.words, words), (&shared.count, count), (&shared.bytes, bytes)] {
            figure.fetch_add(*own, Relaxed);
        }
    }
}

impl<'m> Marker<'m> {
    pub(super) fn new(shared: &'m Shared<'m>, world: &'m Stopped<'m>, roots: Option<&'m mut Roots>) -> Self {
        Self { shared, world, roots, words: 0, count: 0, bytes: 0, unreadable: 0 }
    }

    fn note(&mut self, range: &Range<usize>, root: Root) {
        if let Some(roots) = &mut self.roots {
            // What finds no room is not named in an explanation.
            let _ = roots.push((range.start, range.end)) && roots.push(root.pack());
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
        let slots = &self.shared.population.slots;
        for at in 0..slots.len().min(greenprof_runtime::world::stop::stack_slots()) {
            if slots[at].flags() & (TASK | CANDIDATE | ENDED) == TASK {
                self.wake(at, Cause::None);
            }
        }
    }

    /// Looks at what was reached, by whomever, until nothing more can be: the lists are empty, and nobody is active who could
    /// put something there. Who finds them empty is active no more, having put there all that it will; so when nobody is,
    /// what is still in a list has been seen by nobody, and otherwise all is done. (All of these accesses are in one order.)
    fn work(&mut self) {
        let active = &self.shared.active;
        active.fetch_add(1, SeqCst);
        loop {
            while self.step() {}
            active.fetch_sub(1, SeqCst);
            let mut spins = 0;
            while self.shared.is_done() {
                if active.load(SeqCst) == 0 && self.shared.is_done() {
                    return;
                }
                pause(&mut spins);
            }
            active.fetch_add(1, SeqCst);
        }
    }

    /// As [`Marker::work`], while nobody else does, and while there is not too much. Whether all is done.
    fn work_alone(&mut self) -> bool {
        while self.words < ALONE {
            if !self.step() {
                return true;
            }
        }
        false
    }

    /// Looks at some tasks, or the blocks of a span. Whether there were any.
    fn step(&mut self) -> bool {
        let tickets = self.shared.woken.take(TASKS);
        if !tickets.is_empty() {
            self.tasks(tickets);
            return true;
        }
        let span = self.shared.blocks.next_span();
        if let Some(span) = &span {
            self.span(span);
        }
        span.is_some()
    }

    fn tasks(&mut self, tickets: Range<usize>) {
        let mut taken = [0; TASKS];
        let count = tickets.len();
        let slots = &self.shared.population.slots;
        for (place, ticket) in taken.iter_mut().zip(tickets) {
            *place = self.shared.woken.at(ticket) as usize;
            fetch(std::ptr::from_ref(&slots[*place]) as usize);
        }
        for at in &taken[..count] {
            let frames = slots[*at].frames();
            frames.step_by(LINE).take(STACK_LINES).for_each(fetch);
        }
        taken[..count].iter().for_each(|at| self.task(*at));
    }

    /// Looks at blocks of a span that were reached.
    fn span(&mut self, span: &WaitingSpan) {
        for word in 0..span.words {
            let mut taken = self.shared.blocks.take(span, word);
            if taken == 0 {
                continue;
            }
            let block = |bits: u64| span.start + (word * 64 + bits.trailing_zeros() as usize) * span.size;
            let mut ahead = taken;
            let mut fetch_next = || {
                if ahead != 0 {
                    fetch(block(ahead));
                    ahead &= ahead - 1;
                }
            };
            (0..BLOCKS_AHEAD).for_each(|_| fetch_next());
            while taken != 0 {
                fetch_next();
                let start = block(taken);
                taken &= taken - 1;
                self.count += 1;
                self.bytes += span.size as u64;
                self.memory(start..start + span.size, PRECISE);
            }
        }
    }

    /// Looks at memory without holes: of the heap, or of a task's stack.
    #[inline(always)]
    fn memory(&mut self, range: Range<usize>, rule: Rule) {
        self.words += (range.len() / size_of::<usize>()) as u64;
        let sight = self.shared.blocks.sight();
        let mut at = range.start.next_multiple_of(size_of::<usize>());
        while at + size_of::<usize>() <= range.end {
            // SAFETY: the caller's range is readable. If the stop is not complete, somebody may be writing: hence volatile,
            // and any value will do.
            let word = unsafe { (at as *const usize).read_volatile() };
            // Most words of most heaps are pointers into it, or no addresses at all.
            match sight.offset(word) {
                Some(offset) if sight.is_new(offset) => self.block(at, offset),
                Some(_) => {}
                None => self.beside(at, word, rule),
            }
            at += size_of::<usize>();
        }
    }

    /// Follows one word, and notes where it was.
    pub(super) fn word(&mut self, at: usize, word: usize, rule: Rule) {
        let sight = self.shared.blocks.sight();
        match sight.offset(word) {
            Some(offset) if sight.is_new(offset) => self.block(at, offset),
            Some(_) => {}
            None => self.beside(at, word, rule),
        }
    }

    /// A word that is no address in the heap. (An address is never a handle: see [`Primitive::FIRST`].)
    #[inline(always)]
    fn beside(&mut self, at: usize, word: usize, rule: Rule) {
        let Shared { primitives, slabs, cores, .. } = self.shared;
        let index = Primitive::index_in(word as u64);
        if index.wrapping_sub(primitives.start) < primitives.len() {
            self.handle(at, word);
            return;
        }
        // From the first slab to the last there may be other mappings, those of the cores among them: it can be either.
        if word.wrapping_sub(slabs.start) < slabs.len() {
            self.stack(at, word, rule);
        }
        if rule.plain && cores.contains(&word) {
            self.core(at, word);
        }
    }

    /// There is a block at an offset into the heap that had not been reached.
    #[inline(always)]
    fn block(&self, at: usize, offset: usize) {
        let block = self.shared.blocks.reach(offset);
        if let (Some(block), Some(trail)) = (block, self.shared.trail)
            && let Some(place) = trail.blocks.get(block.mark)
        {
            place.store(at as u64, Relaxed);
        }
    }

    #[inline(never)]
    fn handle(&mut self, at: usize, word: usize) {
        let found = match self.shared.ignores_tags {
            true => Primitive::with_index(Primitive::index_in(word as u64)),
            false => self.world.primitive_of(word as u64),
        };
        if let Some(primitive) = found {
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
        let Some(core) = self.shared.population.cores.get(primitive.index()).filter(|core| core.reach()) else {
            return;
        };
        if let Some(trail) = self.shared.trail {
            trail.primitives[primitive.index()].store(cause.pack(), Relaxed);
        }
        let mut next = core.waits();
        while let Some(wait) = self.shared.population.wait(next) {
            self.wake(wait.slot as usize, Cause::Primitive(primitive.index()));
            next = wait.next;
        }
        self.word(primitive.memory().start, primitive.buffer(), PRECISE);
    }

    /// A word that points to where stacks are.
    #[inline(never)]
    fn stack(&mut self, at: usize, word: usize, rule: Rule) {
        let Some(StackSlot { number, end }) = self.world.slot_at(word) else { return };
        let Some(slot) = self.shared.population.slots.get(number) else { return };
        let flags = slot.flags();
        if flags & TASK == 0 {
            if rule.new_stacks && slot.raise(LIVE) {
                self.memory(end - CLOSURE..end, INSIDE);
            }
            return;
        }
        let known = if rule.plain { PLAIN } else { LIVE };
        if !rule.stacks || flags & (known | RUNS) != 0 || !slot.frames().contains(&word) {
            return;
        }
        let in_record = slot.record() != 0
            && self
                .world
                .task_at(slot.high())
                .is_some_and(|task| task.queues().any(|queued| queued.record.contains(&word)));
        if !in_record {
            self.wake(number, Cause::Word(at));
        } else if rule.plain {
            self.wake_all(number, Cause::Word(at));
        }
    }

    /// A task is live: somebody can wake it, or uses what is on its stack.
    fn wake(&mut self, at: usize, cause: Cause) {
        let Some(slot) = self.shared.population.slots.get(at) else { return };
        if slot.flags() & LIVE != 0 || !slot.raise(LIVE) {
            return;
        }
        if let Some(trail) = self.shared.trail {
            trail.tasks[at].store(cause.pack(), Relaxed);
        }
        self.shared.woken.put(at as u32);
    }

    /// Somebody is waking a task, and perhaps all that are in a queue with it, of which it may know only this one.
    fn wake_all(&mut self, at: usize, cause: Cause) {
        self.wake(at, cause);
        if self.shared.population.slots[at].raise(PLAIN) {
            self.shared.woken.put(at as u32);
        }
    }

    /// Looks at the stack of a live task, and wakes those who wait for its end.
    fn task(&mut self, at: usize) {
        let Some(slot) = self.shared.population.slots.get(at) else { return };
        let (flags, frames) = (slot.flags(), slot.frames());
        let mut next = slot.joiners();
        while let Some(wait) = self.shared.population.wait(next) {
            self.wake(wait.slot as usize, Cause::Task(at));
            next = wait.next;
        }
        if flags & LOCALS != 0
            && let Some(task) = self.world.task_at(slot.high())
        {
            self.word(slot.high(), task.locals(), PRECISE);
        }
        let plain = flags & PLAIN != 0;
        match (flags & RUNS != 0, plain) {
            (true, _) => {}
            (false, false) => self.memory(frames, PRECISE),
            (false, true) => self.memory(frames, INSIDE),
        }
        if flags & CANDIDATE != 0 && (plain || flags & HANDED_ON != 0) {
            self.queues(at, plain);
        }
    }

    /// What a live task that waits says of those that wait with it.
    fn queues(&mut self, at: usize, plain: bool) {
        let population = self.shared.population;
        let Some(task) = self.world.task_at(population.slots[at].high()) else { return };
        for queued in task.queues() {
            if let Some(primitive) = queued.primitive.filter(|primitive| is_handed_on(primitive.kind())) {
                self.primitive(primitive, Cause::Task(at));
            }
            if plain {
                for neighbour in queued.neighbours {
                    if let Some(StackSlot { number, .. }) = self.world.slot_at(neighbour)
                        && population.slots.get(number).is_some_and(|slot| slot.flags() & CANDIDATE != 0)
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

impl Shared<'_> {
    /// After the marking: gives the primitives of which a task that is not live has a valid word, on its stack or in blocks that
    /// only such tasks reach. The same one may be given several times.
    pub(super) fn held_by(&self, world: &Stopped<'_>, at: usize, mut primitive: impl FnMut(Primitive)) {
        let Some(slot) = self.population.slots.get(at) else { return };
        let mut own = [(0, 0, 0); MOST_OF_ITS_OWN];
        let mut count = 0;
        let mut next = 0;
        let mut range = slot.frames();
        loop {
            for at in range.clone().step_by(size_of::<usize>()) {
                // SAFETY: the stack of a task, or a block, without holes.
                let word = unsafe { (at as *const usize).read_volatile() };
                if let Some(found) = world.primitive_of(word as u64) {
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
