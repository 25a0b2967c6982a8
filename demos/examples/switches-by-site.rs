//! An instrument that needs nothing but `runtime::hooks`: how often tasks leave their worker by themselves, by the place where they
//! were spawned. `docs/hooks.md` goes through it.

use std::{collections::BTreeMap, panic::Location, sync::Mutex};

use greenprof_runtime::{
    Runtime, heap,
    hooks::{self, Instrument, Interest, Left, TaskView},
    spawn,
    sync::Chan,
    yield_now,
};

#[derive(Clone, Copy, Default)]
struct Count {
    waits: u64,
    yields: u64,
}

/// The lock guards the counts. It is taken in hooks and after the program has ended, so nobody waits for a task while holding it.
struct Switches(Mutex<BTreeMap<Option<&'static Location<'static>>, Count>>);

static SWITCHES: Switches = Switches(Mutex::new(BTreeMap::new()));

impl Instrument for Switches {
    fn task_left(&self, task: TaskView, left: Left) {
        // The entries are the instrument's memory, not the program's.
        heap::untracked(|| {
            let mut counts = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let count = counts.entry(task.spawn_site()).or_default();
            match left {
                Left::Waits => count.waits += 1,
                Left::Yields => count.yields += 1,
                Left::Ended => {}
            }
        });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let installed = hooks::install(&SWITCHES, Interest::SCHEDULE)?;
    Runtime::builder().workers(2).build()?.run(|| {
        let numbers = Chan::new();
        let receiver = numbers.clone();
        let sum = spawn(move || receiver.iter().sum::<u64>());
        let polite = spawn(|| (0..1000).for_each(|_| yield_now()));
        (0..1000).for_each(|number| numbers.send(number).expect("nobody closes it before"));
        numbers.close();
        assert_eq!(sum.join().expect("no panic"), 499_500);
        polite.join().expect("no panic");
    });
    drop(installed);

    println!("{:>8} {:>8}  spawned at", "waits", "yields");
    for (site, Count { waits, yields }) in SWITCHES.0.lock().expect("no hook panics").iter() {
        println!("{waits:>8} {yields:>8}  {}", site.map_or("outside of tasks".to_owned(), ToString::to_string));
    }
    Ok(())
}
