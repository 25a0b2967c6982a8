//! What the corpus knows of a program: what it is, in which forms it runs, and which tasks each form leaves blocked.

use std::time::Duration;

use greenprof_runtime::task::WaitReason;

use super::scene::Scene;

/// Tasks of one name that wait for the same: name, wait reason, how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site(pub &'static str, pub WaitReason, pub u32);

/// How a program is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// As the bug occurs, perhaps rarely.
    Natural,
    /// With gates that lead to the bad interleaving each time.
    Forced,
    /// As it would be written in Rust: channels whose halves disconnect, locks with guards; gates as in the forced form.
    Rust,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Natural, Self::Forced, Self::Rust];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Natural => "natural",
            Self::Forced => "forced",
            Self::Rust => "rust",
        }
    }
}

/// One way to run a program.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// How it is written.
    pub kind: Kind,
    /// Tells several forms of one kind apart; empty if there is one.
    pub variant: &'static str,
    /// The program. It returns; what it leaks stays behind.
    pub run: fn(&Scene),
    /// What is leaked: exactly this in forced and Rust forms, at most this by each instance in the natural form.
    pub leaks: &'static [Site],
    /// What is blocked when the program is looked at, but can be woken, and is woken before the program returns.
    pub held: &'static [Site],
    /// How often the natural form is run in one process.
    pub instances: u32,
    /// How long all must be quiet before the natural form is looked at.
    pub quiet: Duration,
    /// Of a Rust form: what makes the difference, or why there is none.
    pub note: &'static str,
}

/// Long enough for a task that was woken to run, and for timers of a millisecond.
const QUIET: Duration = Duration::from_millis(20);

impl Form {
    const fn new(kind: Kind, run: fn(&Scene), leaks: &'static [Site]) -> Self {
        Self { kind, variant: "", run, leaks, held: &[], instances: 1, quiet: QUIET, note: "" }
    }

    /// As the bug occurs. Each instance leaks at most these.
    pub const fn natural(run: fn(&Scene), leaks: &'static [Site]) -> Self {
        Self::new(Kind::Natural, run, leaks)
    }

    /// With the interleaving that leaks exactly these.
    pub const fn forced(run: fn(&Scene), leaks: &'static [Site]) -> Self {
        Self::new(Kind::Forced, run, leaks)
    }

    /// As written in Rust. Leaks exactly these, often none; the note says why.
    pub const fn rust(run: fn(&Scene), leaks: &'static [Site], note: &'static str) -> Self {
        let mut form = Self::new(Kind::Rust, run, leaks);
        form.note = note;
        form
    }

    /// Tells it from others of its kind.
    pub const fn variant(mut self, variant: &'static str) -> Self {
        self.variant = variant;
        self
    }

    /// Is blocked when looked at, and woken afterwards.
    pub const fn held(mut self, held: &'static [Site]) -> Self {
        self.held = held;
        self
    }

    /// Runs so many of them in a process.
    pub const fn instances(mut self, instances: u32) -> Self {
        self.instances = instances;
        self
    }

    /// Waits until all has been quiet for so long.
    pub const fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// Kind and variant, as they are shown and given on the command line.
    pub fn name(&self) -> String {
        match self.variant {
            "" => self.kind.name().to_owned(),
            variant => format!("{}/{variant}", self.kind.name()),
        }
    }
}

/// A program of the corpus.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its group and name.
    pub id: &'static str,
    /// Where the bug comes from.
    pub origin: &'static str,
    /// What happens, in two sentences or so.
    pub what: &'static str,
    /// How to repair it, or why nothing may be reported.
    pub fix: &'static str,
    /// The ways to run it.
    pub forms: &'static [Form],
}

impl Program {
    /// Whether it belongs to the set of which nothing may be reported.
    pub fn must_not_be_reported(&self) -> bool {
        self.forms.iter().all(|form| form.leaks.is_empty() && !form.held.is_empty())
    }
}
