//! The second tier, a heuristic: which spawn sites have more tasks than before.

use std::{
    collections::HashMap,
    fmt,
    panic::Location,
    time::{Duration, Instant},
};

use greenprof_runtime::{heap, world};

use super::suspects::blocks;

type Site = Option<&'static Location<'static>>;

/// How many tasks of a site there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tasks {
    /// All that had not ended.
    pub alive: usize,
    /// Those of them that waited for others; sleeping tasks do not.
    pub blocked: usize,
}

/// The tasks of all runtimes by spawn site, at one time.
///
/// ```
/// use greenprof_profiler::leak::Snapshot;
/// use greenprof_runtime::{Runtime, sync::Chan, world};
///
/// let (runtime, gate) = (Runtime::builder().workers(1).build()?, Chan::<()>::new());
/// let before = Snapshot::take();
/// for _ in 0..3 {
///     let waits = gate.clone();
///     runtime.handle().spawn(move || waits.recv())?; // the site that grows
/// }
/// while world::states().waiting < 3 {
///     std::thread::yield_now();
/// }
/// let growth = Snapshot::take().diff(&before);
/// assert_eq!((growth.sites.len(), growth.sites[0].blocked()), (1, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    at: Instant,
    sites: HashMap<Site, Tasks>,
}

impl Snapshot {
    /// Counts. Nothing is stopped; some 100 ns a task.
    pub fn take() -> Self {
        heap::untracked(|| {
            let mut sites: HashMap<Site, Tasks> = HashMap::new();
            for task in world::tasks(0).iter() {
                let tasks = sites.entry(task.spawn_site).or_default();
                tasks.alive += 1;
                tasks.blocked += usize::from(blocks(task.state));
            }
            Self { at: Instant::now(), sites }
        })
    }

    /// What has changed since an earlier one.
    pub fn diff(&self, earlier: &Self) -> Growth {
        let mut sites: Vec<SiteGrowth> = self
            .sites
            .keys()
            .chain(earlier.sites.keys().filter(|site| !self.sites.contains_key(*site)))
            .map(|site| SiteGrowth {
                spawned_at: *site,
                before: earlier.sites.get(site).copied().unwrap_or_default(),
                now: self.sites.get(site).copied().unwrap_or_default(),
            })
            .filter(|site| site.before != site.now)
            .collect();
        let place = |site: &SiteGrowth| site.spawned_at.map(|at| (at.file(), at.line(), at.column()));
        sites.sort_by_key(|site| (std::cmp::Reverse((site.blocked(), site.alive())), place(site)));
        Growth { elapsed: self.at.saturating_duration_since(earlier.at), sites }
    }
}

/// What has changed between two moments.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Growth {
    /// The time between them.
    pub elapsed: Duration,
    /// Sites whose numbers differ, the largest growth of blocked tasks first.
    pub sites: Vec<SiteGrowth>,
}

/// The tasks of a spawn site at two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteGrowth {
    /// Where they were spawned.
    pub spawned_at: Option<&'static Location<'static>>,
    /// At the earlier moment.
    pub before: Tasks,
    /// At the later one.
    pub now: Tasks,
}

impl SiteGrowth {
    /// How many more tasks there are; negative if there are fewer.
    pub fn alive(&self) -> i64 {
        self.now.alive as i64 - self.before.alive as i64
    }

    /// How many more of them are blocked.
    pub fn blocked(&self) -> i64 {
        self.now.blocked as i64 - self.before.blocked as i64
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# heuristic: tasks by spawn site, and their change in {:?}", self.elapsed)?;
        writeln!(f, "# {:>8} {:>8} {:>8} {:>8}  spawned at", "blocked", "change", "alive", "change")?;
        for site in &self.sites {
            let now = site.now;
            write!(f, "  {:>8} {:>+8} {:>8} {:>+8}  ", now.blocked, site.blocked(), now.alive, site.alive())?;
            match site.spawned_at {
                Some(at) => writeln!(f, "{at}")?,
                None => writeln!(f, "?")?,
            }
        }
        Ok(())
    }
}
