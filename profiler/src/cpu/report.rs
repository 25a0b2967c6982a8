//! From collected stacks to a profile, and what has to be said about its completeness.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    Source,
    collector::{Collected, Key},
};
use crate::{
    profile::{LabelValue, Profile, ValueType, lookup_address},
    self_test,
    symbolize::{self, Symbolizer},
};

/// How complete a CPU profile is. The same facts stand in the profile's comments.
///
/// ```
/// use greenprof_profiler::cpu;
///
/// let summary = cpu::start(100)?.stop().summary;
/// assert_eq!((summary.hz, summary.lost), (100, 0));
/// println!("{summary}"); // what stands in the profile's comments
/// # Ok::<(), cpu::StartError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Samples a second of CPU time that were asked for.
    pub hz: u32,
    /// What interrupted the threads.
    pub source: Source,
    /// Why it was not perf events, if the rate was one for them.
    pub fallback: Option<String>,
    /// Threads that had a timer although perf events were used: there was no file descriptor for them.
    pub on_timers: u64,
    /// Stacks that were captured.
    pub samples: u64,
    /// Periods that they stand for.
    pub weight: u64,
    /// Periods without a stack, because perf events may not look at the kernel here.
    pub in_kernel: u64,
    /// Periods whose stack was lost: a thread's ring was full, or there were too many distinct stacks.
    pub lost: u64,
    /// Captured stacks that do not reach their outermost function.
    pub truncated: u64,
    /// Captured stacks on a task.
    pub on_tasks: u64,
    /// CPU time of the process while the profile ran.
    pub process_cpu: Duration,
    /// CPU time that the samples stand for.
    pub sampled_cpu: Duration,
    /// Threads that were sampled.
    pub threads: u64,
    /// Threads that could not be.
    pub unsampled_threads: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl Summary {
    /// Distinct captures per second of the CPU time that was sampled. Below `hz`, one capture stands for several periods.
    pub fn achieved_hz(&self) -> f64 {
        if self.sampled_cpu.is_zero() { 0.0 } else { self.samples as f64 / self.sampled_cpu.as_secs_f64() }
    }

    /// The lines that stand in the profile's comments, each `name: value`.
    fn lines(&self) -> Vec<String> {
        let share = |part: u64| 100.0 * part as f64 / self.samples.max(1) as f64;
        let missed = self.process_cpu.saturating_sub(self.sampled_cpu);
        let mut clock = format!("clock: {}", self.source);
        if let Some(reason) = &self.fallback {
            clock.push_str(&format!(", because perf events are not permitted ({reason})"));
        }
        if self.on_timers > 0 {
            clock.push_str(&format!("; {} threads had a timer, for want of a file descriptor", self.on_timers));
        }
        let mut lines = vec![
            format!(
                "samples: {} stacks for {} periods; {} Hz asked, {:.0} Hz reached",
                self.samples,
                self.weight,
                self.hz,
                self.achieved_hz()
            ),
            clock,
            format!("lost: {} periods without a stack", self.lost),
            format!("truncated: {} of {} stacks ({:.1} %)", self.truncated, self.samples, share(self.truncated)),
            format!(
                "cpu: {:.2} s sampled, {:.2} s used by the process, {:.2} s not covered; {} threads sampled, {} not",
                self.sampled_cpu.as_secs_f64(),
                self.process_cpu.as_secs_f64(),
                missed.as_secs_f64(),
                self.threads,
                self.unsampled_threads
            ),
        ];
        if self.in_kernel > 0 {
            lines.push(format!("kernel: {} periods, which may not be sampled here", self.in_kernel));
        }
        lines
    }
}

/// Functions in which a thread's stack begins. Below them lies the system's code, which keeps no chain of frame pointers.
const ROOTS: [&str; 7] =
    ["_start", "__libc_start_main", "__libc_start_call_main", "main", "start_thread", "clone3", "thread_start"];

fn is_root(function: &str) -> bool {
    ROOTS
        .iter()
        .any(|root| function.strip_suffix(root).is_some_and(|before| before.is_empty() || before.ends_with(':')))
        || function.contains("::thread_start")
}

/// Expiries of all profiles so far whose stack was lost.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many samples all CPU profiles of this process have lost.
pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

pub(super) fn build(collected: Collected, fallback: Option<String>) -> super::Capture {
    LOST.fetch_add(collected.lost + collected.overflowed, Ordering::Relaxed);
    let period = 1_000_000_000 / i64::from(collected.hz.max(1));
    let types = vec![ValueType::new("samples", "count"), ValueType::new("cpu", "nanoseconds")];
    let mut profile = Profile::new(types, ValueType::new("cpu", "nanoseconds"), period);
    profile.time_nanos = collected.time_nanos;
    profile.duration_nanos = i64::try_from(collected.duration.as_nanos()).ok();
    profile.leaf_is_exact = true;
    let mut summary = Summary {
        hz: collected.hz,
        source: collected.source,
        fallback,
        on_timers: collected.on_timers,
        in_kernel: collected.in_kernel,
        lost: collected.lost + collected.overflowed,
        process_cpu: collected.process_cpu,
        threads: collected.threads,
        unsampled_threads: collected.unsampled_threads,
        ..Summary::default()
    };
    let mut symbolizer = symbolize::shared().lock();
    symbolizer.refresh();
    for (key, sum) in collected.stacks {
        summary.samples += sum.samples;
        summary.weight += sum.weight;
        if key.on_task {
            summary.on_tasks += sum.samples;
        }
        let (stack, whole) = checked_stack(&key, &mut symbolizer);
        if !whole {
            summary.truncated += sum.samples;
        }
        let labels = key.labels.labels();
        let labels = labels.iter().map(|(k, v)| (k.to_owned(), LabelValue::Str(v.to_owned()))).collect();
        let weight = i64::try_from(sum.weight).unwrap_or(i64::MAX);
        profile.push(stack, vec![weight, weight.saturating_mul(period)], labels);
    }
    drop(symbolizer);
    profile.merge_equal();
    // The order of a hash table is nobody's business.
    profile.samples.sort_by(|a, b| b.values.cmp(&a.values).then_with(|| a.stack.cmp(&b.stack)));
    for (periods, reason) in [(summary.lost, "lost stacks"), (summary.in_kernel, "in the kernel")] {
        if periods > 0 {
            let periods = i64::try_from(periods).unwrap_or(i64::MAX);
            profile.push(Vec::new(), vec![periods, periods.saturating_mul(period)], vec![reason_label(reason)]);
        }
    }
    let periods = summary.weight + summary.lost + summary.in_kernel;
    summary.sampled_cpu = Duration::from_nanos((period as u64).saturating_mul(periods));
    let advice = self_test::missing_frame_pointers().map(str::to_owned);
    profile.comments = summary.lines().into_iter().chain(advice).map(|line| format!("greenprof {line}")).collect();
    super::Capture { profile, summary }
}

/// Periods without a stack are one sample without frames, so that the total is right, and say what they are.
fn reason_label(reason: &str) -> (String, LabelValue) {
    ("greenprof".to_owned(), LabelValue::Str(reason.to_owned()))
}

/// A stack without the addresses that are not code, and whether it is whole.
///
/// A thread's own stack ends in code of the system, which may use the frame pointer for something else: what the walk
/// then found is no caller. It is whole if the last real frame is one in which a thread begins.
fn checked_stack(key: &Key, symbolizer: &mut Symbolizer) -> (Vec<usize>, bool) {
    let mut stack = key.stack.clone();
    let address = |depth: usize, stack: &[usize]| lookup_address(stack[depth], depth == 0);
    let code = (0..stack.len()).take_while(|depth| symbolizer.mapping_index(address(*depth, &stack)).is_some()).count();
    let garbage = code < stack.len();
    // An interrupted address outside every mapping is shown as it is.
    stack.truncate(code.max(1));
    if !garbage && !key.broken && !key.cut {
        return (stack, true);
    }
    let outermost = address(stack.len() - 1, &stack);
    let whole = !key.on_task && !key.cut && symbolizer.resolve(outermost).iter().any(|frame| is_root(&frame.function));
    (stack, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_known_by_their_names() {
        for root in ["main", "start_thread", "app::main", "std::sys::thread::unix::Thread::new::thread_start"] {
            assert!(is_root(root), "{root}");
        }
        for other in ["domain", "memcpy", "app::run", "restart_thread"] {
            assert!(!is_root(other), "{other}");
        }
    }

    #[test]
    fn a_summary_says_what_is_missing() {
        let summary = Summary {
            hz: 100,
            samples: 200,
            weight: 210,
            lost: 3,
            truncated: 4,
            process_cpu: Duration::from_millis(2500),
            sampled_cpu: Duration::from_millis(2130),
            threads: 5,
            unsampled_threads: 1,
            ..Summary::default()
        };
        let text = summary.to_string();
        assert!(text.contains("truncated: 4 of 200 stacks (2.0 %)"), "{text}");
        assert!(text.contains("lost: 3 periods"), "{text}");
        assert!(text.contains("100 Hz asked, 94 Hz reached"), "{text}");
        assert!(text.contains("2.13 s sampled, 2.50 s used by the process, 0.37 s not covered"), "{text}");
    }
}
