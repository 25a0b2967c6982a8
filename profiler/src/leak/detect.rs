//! One detection: prepare, stop the world, mark, and read what is left.

use std::{io, num::NonZeroUsize, thread, time::Instant};

use greenprof_runtime::{
    heap::{self, View},
    sync::Primitive,
    task::TaskId,
    world::{
        self,
        stop::{Helpers, Stopped, TaskMark},
    },
};

use super::{
    Options,
    blocks::Blocks,
    caller::Caller,
    copy::{self, Failure},
    mark::{self, Marker, Roots, Shared, Trail},
    memory::Queue,
    population::{CANDIDATE, ENDED, LIVE, Population, RESTS, Slot},
    report::{Cost, Counts, DetectError, Incomplete, Mode, NotCopied},
    roots::{self, Modules},
    why::{self, Link},
};

/// How often it is tried when a thread was stopped where timers cannot be read, or a table was too small.
const ATTEMPTS: usize = 10;

/// A task for which no capability was found.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) id: TaskId,
    pub(super) mark: TaskMark,
    /// Where what it waits on begins in the table, and how many that are.
    first: usize,
    count: usize,
}

/// What a task waits on.
#[derive(Clone, Copy)]
pub(super) enum On {
    Primitive(Primitive),
    Task(TaskId),
}

/// Everything that a detection needs, made before the world is stopped.
pub(super) struct Tables {
    pub(super) blocks: Blocks,
    pub(super) population: Population,
    woken: Queue,
    /// Threads that mark with the detection's own.
    helpers: Helpers,
    pub(super) modules: Modules,
    pub(super) found: Vec<Found>,
    pub(super) on: Vec<On>,
    /// The index of a primitive, and a leaked task that has a word of it.
    pub(super) held: Vec<(u32, TaskId)>,
    ended: Vec<u32>,
    /// See [`Options::ignore_tags`].
    ignores_tags: bool,
    /// If it is to be told why a task is alive.
    trail: Option<(Trail, Roots)>,
    pub(super) links: Vec<Link>,
}

impl Tables {
    fn new(scale: usize, explains: bool, mode: Mode, ignores_tags: bool) -> io::Result<Self> {
        let (blocks, population) = (Blocks::new(scale)?, Population::new(scale)?);
        let trail = || Ok::<_, io::Error>((Trail::new(&blocks, &population)?, mark::room_for_roots()?));
        Ok(Self {
            woken: mark::room_for_tasks(&population)?,
            found: Vec::with_capacity(population.slots.len()),
            on: Vec::with_capacity(2 * population.slots.len()),
            held: Vec::with_capacity(4 * population.slots.len()),
            modules: Modules::list()?,
            ended: world::ended_runtimes(),
            ignores_tags,
            helpers: Helpers::new(helpers(mode))?,
            trail: explains.then(trail).transpose()?,
            links: if explains { why::room() } else { Vec::new() },
            blocks,
            population,
        })
    }
}

/// More do not help: they wait for memory.
const MOST_MARKERS: usize = 8;

/// How many threads help to mark. Those of a stopped program leave it their processors. Beside a copy it goes on, so that takes a quarter
/// of the processors, as Go's collector does.
fn helpers(mode: Mode) -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let markers = match mode {
        Mode::Stop => processors,
        Mode::Fork => processors / 4,
    };
    markers.clamp(1, MOST_MARKERS) - 1
}

impl Tables {
    pub(super) fn waits_on(&self, found: &Found) -> impl Iterator<Item = On> {
        self.on[found.first..found.first + found.count].iter().copied()
    }
}

/// What a detection has found, before it is put into words.
pub(super) struct Raw {
    pub(super) tables: Tables,
    pub(super) incomplete: Option<Incomplete>,
    pub(super) counts: Counts,
    pub(super) cost: Cost,
    pub(super) mode: Mode,
    pub(super) not_copied: Option<NotCopied>,
    pub(super) alive: bool,
}

/// Runs on a thread of its own: the detector's stack, with words of what it has seen before, is no root.
pub(super) fn on_own_thread(options: &Options, caller: Caller, explain: Option<TaskId>) -> Result<Raw, DetectError> {
    let _search = greenprof_tracer::search();
    let options = *options;
    let spawned = heap::untracked(|| {
        thread::Builder::new()
            .name("greenprof-leak".into())
            .spawn(move || heap::untracked(|| detect(&options, caller, explain)))
    });
    let thread = spawned.map_err(DetectError::Memory)?;
    match thread.join() {
        Ok(result) => result,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

fn detect(options: &Options, caller: Caller, explain: Option<TaskId>) -> Result<Raw, DetectError> {
    let mut scale = 1;
    let mut attempt = 1;
    // Why no copy is looked at, if not.
    let mut copied = if options.mode == Mode::Fork { Ok(()) } else { Err(None) };
    loop {
        let mode = if copied.is_ok() { Mode::Fork } else { Mode::Stop };
        let tables = Tables::new(scale, explain.is_some(), mode, options.ignore_tags);
        let mut tables = tables.map_err(DetectError::Memory)?;
        let began = Instant::now();
        let (mut looked, mode) = match copied {
            Ok(()) => match copy::look_at_copy(options, &mut tables, caller, explain) {
                Ok(looked) => looked,
                Err(Failure::Copy(reason)) => {
                    copied = Err(Some(reason));
                    continue;
                }
                Err(Failure::Detect(error)) => return Err(error),
            },
            Err(_) => (look_here(options, &mut tables, caller, explain)?, Mode::Stop),
        };
        looked.cost.total = began.elapsed();
        let again = match looked.incomplete {
            Some(Incomplete::Table) => {
                scale *= 2;
                true
            }
            Some(Incomplete::Busy) => true,
            _ => false,
        };
        if !again || attempt == ATTEMPTS {
            let Looked { incomplete, counts, cost, alive, .. } = looked;
            let not_copied = copied.err().flatten();
            return Ok(Raw { tables, incomplete, counts, cost, mode, not_copied, alive });
        }
        attempt += 1;
    }
}

/// Looks while the world is stopped.
fn look_here(
    options: &Options,
    tables: &mut Tables,
    caller: Caller,
    explain: Option<TaskId>,
) -> Result<Looked, DetectError> {
    let stop = world::stop(options.patience, |world| look(world, tables, caller, explain))?;
    let mut looked = stop.value;
    (looked.cost.stopping, looked.cost.stopped) = (stop.pause.stopping, stop.pause.stopped);
    looked.check(tables)?;
    Ok(looked)
}

/// What a look has found, without the lists.
pub(super) struct Looked {
    pub(super) incomplete: Option<Incomplete>,
    counts: Counts,
    pub(super) cost: Cost,
    /// Bytes of roots that could not be read: what guards stacks, mostly.
    pub(super) unreadable: u64,
    /// Whether the task that is asked about is alive.
    alive: bool,
}

impl Looked {
    /// After the release: whether the modules were those that had been listed.
    pub(super) fn check(&mut self, tables: &Tables) -> Result<(), DetectError> {
        if self.incomplete.is_none() && tables.modules.have_changed().map_err(DetectError::Memory)? {
            self.incomplete = Some(Incomplete::Busy);
        }
        Ok(())
    }
}

/// Adds if there is room: nothing may be allocated.
fn push<T>(list: &mut Vec<T>, value: T) {
    if list.len() < list.capacity() {
        list.push(value);
    }
}

/// The look at the stopped world.
pub(super) fn look(world: &Stopped<'_>, tables: &mut Tables, caller: Caller, explain: Option<TaskId>) -> Looked {
    let began = Instant::now();
    let mut looked =
        Looked { incomplete: None, counts: Counts::default(), cost: Cost::default(), unreadable: 0, alive: false };
    let view = if world.complete() {
        // SAFETY: every other thread is stopped, and this one does not use the allocator before the release.
        unsafe { View::of_stopped_world() }
    } else {
        Some(View::of_running_world())
    };
    let Some(view) = view else {
        looked.incomplete = Some(Incomplete::Busy);
        return looked;
    };
    let Tables { blocks, population, woken, helpers, modules, found, on, held, ended, ignores_tags, trail, links } =
        tables;
    if !blocks.enter(&view) || !population.enter(world, helpers, ended) {
        looked.incomplete = Some(Incomplete::Table);
        return looked;
    }
    let [tasks, blocked, suppressed] = population.counts();
    looked.counts = Counts { tasks, blocked, suppressed };
    let collected = Instant::now();
    looked.cost.collecting = collected - began;
    let (trail, mut roots) = trail.as_mut().map(|(trail, roots)| (&*trail, roots)).unzip();
    let shared = Shared::new(world, blocks, population, woken, *ignores_tags, trail);
    let mut marker = Marker::new(&shared, world, roots.as_deref_mut());
    looked.incomplete = roots::mark(world, &mut marker, modules, &caller);
    marker.root_tasks();
    looked.unreadable = marker.unreadable;
    drop(marker);
    shared.run(world, helpers);
    [looked.cost.words, looked.cost.blocks, looked.cost.bytes] = shared.figures();
    let complete = looked.incomplete.is_none();
    let unreached = |slot: &Slot| {
        let unreached = slot.flags() & (CANDIDATE | LIVE | ENDED) == CANDIDATE;
        unreached.then(|| world.task_at(slot.high())).flatten()
    };
    for at in 0..population.slots.len().min(world::stop::stack_slots()) {
        let slot = &population.slots[at];
        let Some(task) = unreached(slot) else { continue };
        if complete {
            let id = task.id();
            shared.held_by(world, at, |primitive| {
                push(held, (primitive.index() as u32, id));
            });
        }
        if slot.flags() & RESTS != 0 {
            continue;
        }
        let first = on.len();
        if let Some(number) = task.joins() {
            push(on, On::Task(number));
        }
        task.queues().filter_map(|queued| queued.primitive).for_each(|primitive| push(on, On::Primitive(primitive)));
        push(found, Found { id: task.id(), mark: task.mark(), first, count: on.len() - first });
    }
    looked.cost.marking = collected.elapsed();
    if let (Some(task), Some(trail), Some(roots)) = (explain, trail, roots) {
        looked.alive = why::trace(world, blocks, population, (trail, &*roots), &caller, task, links);
    }
    looked
}
