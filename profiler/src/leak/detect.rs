//! One detection: prepare, stop the world, mark, and read what is left.

use std::{io, thread, time::Instant};

use greenprof_runtime::{
    heap::{self, View},
    task::TaskId,
    world::{
        self,
        stop::{Stopped, TaskMark},
    },
};

use super::{
    Options,
    blocks::Blocks,
    caller::Caller,
    mark::{Marker, Trail, Worklists},
    population::{CANDIDATE, ENDED, LIVE, Population, RESTS},
    report::{Cost, Counts, DetectError, Incomplete},
    roots::{self, Modules},
    why::{self, Link},
};

/// How often it is tried when a thread was stopped where timers cannot be read, or a table was too small.
const ATTEMPTS: usize = 10;

/// A task for which no capability was found, by its slot and its number.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) slot: u32,
    pub(super) mark: TaskMark,
}

/// Everything that a detection needs, made before the world is stopped.
pub(super) struct Tables {
    pub(super) blocks: Blocks,
    pub(super) population: Population,
    lists: Worklists,
    modules: Modules,
    pub(super) found: Vec<Found>,
    ended: Vec<u32>,
    /// If it is to be told why a task is alive.
    trail: Option<Trail>,
    pub(super) links: Vec<Link>,
}

impl Tables {
    fn new(scale: usize, explains: bool) -> io::Result<Self> {
        let (blocks, population) = (Blocks::new(scale)?, Population::new(scale)?);
        Ok(Self {
            lists: Worklists::new(&blocks, &population)?,
            found: Vec::with_capacity(population.slots.len()),
            modules: Modules::list()?,
            ended: world::ended_runtimes(),
            trail: explains.then(|| Trail::new(&blocks, &population)).transpose()?,
            links: if explains { why::room() } else { Vec::new() },
            blocks,
            population,
        })
    }
}

/// What a detection has found, before it is put into words.
pub(super) struct Raw {
    pub(super) tables: Tables,
    pub(super) incomplete: Option<Incomplete>,
    pub(super) counts: Counts,
    pub(super) cost: Cost,
    pub(super) alive: bool,
}

/// Runs on a thread of its own: the detector's stack, with words of what it has seen before, is no root.
pub(super) fn on_own_thread(options: &Options, caller: Caller, explain: Option<TaskId>) -> Result<Raw, DetectError> {
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
    loop {
        let mut tables = Tables::new(scale, explain.is_some()).map_err(DetectError::Memory)?;
        let began = Instant::now();
        let stop = world::stop(options.patience, |world| look(world, &mut tables, caller, explain))?;
        let mut looked = stop.value;
        looked.cost.stopping = stop.pause.stopping;
        looked.cost.stopped = stop.pause.stopped;
        looked.cost.total = began.elapsed();
        if looked.incomplete.is_none() && tables.modules.have_changed().map_err(DetectError::Memory)? {
            looked.incomplete = Some(Incomplete::Busy);
        }
        let again = match looked.incomplete {
            Some(Incomplete::Table) => {
                scale *= 2;
                true
            }
            Some(Incomplete::Busy) => true,
            _ => false,
        };
        if !again || attempt == ATTEMPTS {
            let Looked { incomplete, counts, cost, alive } = looked;
            return Ok(Raw { tables, incomplete, counts, cost, alive });
        }
        attempt += 1;
    }
}

struct Looked {
    incomplete: Option<Incomplete>,
    counts: Counts,
    cost: Cost,
    /// Whether the task that is asked about is alive.
    alive: bool,
}

/// The look at the stopped world.
fn look(world: &Stopped<'_>, tables: &mut Tables, caller: Caller, explain: Option<TaskId>) -> Looked {
    let began = Instant::now();
    let mut looked = Looked { incomplete: None, counts: Counts::default(), cost: Cost::default(), alive: false };
    // SAFETY: every other thread is stopped, and this one does not use the allocator before the release. In an incomplete
    // stop somebody may be running; nothing that the view gives leads outside of the heap, and nothing is reported.
    let Some(view) = (unsafe { View::of_stopped_world() }) else {
        looked.incomplete = Some(Incomplete::Busy);
        return looked;
    };
    let Tables { blocks, population, lists, modules, found, ended, trail, links } = tables;
    if !blocks.enter(&view) || !population.enter(world, ended) {
        looked.incomplete = Some(Incomplete::Table);
        return looked;
    }
    looked.counts = Counts { tasks: population.tasks, blocked: population.blocked, suppressed: population.suppressed };
    let collected = Instant::now();
    looked.cost.collecting = collected - began;
    let mut marker = Marker::new(world, blocks, population, lists, trail.as_mut());
    looked.incomplete = roots::mark(world, &mut marker, modules, &caller);
    marker.root_tasks();
    marker.run();
    (looked.cost.words, looked.cost.blocks, looked.cost.bytes) = (marker.words, marker.count, marker.bytes);
    if marker.overflow {
        looked.incomplete = Some(Incomplete::Table);
    }
    for (at, slot) in population.slots.iter().enumerate().take(world::stop::stack_slots()) {
        if slot.flags & (CANDIDATE | LIVE | ENDED | RESTS) == CANDIDATE
            && let Some(task) = world.task_at(slot.high)
            && found.len() < found.capacity()
        {
            found.push(Found { slot: at as u32, mark: task.mark() });
        }
    }
    looked.cost.marking = collected.elapsed();
    if let (Some(task), Some(trail)) = (explain, trail) {
        looked.alive = why::trace(world, blocks, population, trail, task, links);
    }
    looked
}
