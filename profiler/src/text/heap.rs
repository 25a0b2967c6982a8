//! The `?debug=1` text of the heap profiles: `heap profile: N: BYTES [N: BYTES] @ heap/PERIOD`, a record for each
//! stack, size and set of labels, and the allocator's figures.
//!
//! As in Go, the numbers of the records are those of the samples themselves, and the period is twice the mean: readers
//! of this form (pprof among them) scale them up. Records come largest first by what is in use, where Go's come last.

use std::fmt::Write;

use greenprof_runtime::heap::Stats;

use super::{
    count::{write_frames, write_labels},
    tabs,
};
use crate::{
    heap::{Record, Snapshot},
    symbolize::{Symbolizer, names::shown_allocation},
};

/// Writes the whole text.
pub fn write_heap_profile(snapshot: &Snapshot, stats: &Stats, symbolizer: &mut Symbolizer) -> String {
    symbolizer.refresh();
    let in_use = |record: &Record| (record.in_use.samples, record.in_use.samples * record.size as u64);
    let allocated = |record: &Record| (record.allocated.samples, record.allocated.samples * record.size as u64);
    let mut records: Vec<&Record> = snapshot.records.iter().collect();
    records.sort_by_key(|record| std::cmp::Reverse((in_use(record).1, allocated(record).1)));
    let sum = |of: &dyn Fn(&Record) -> (u64, u64)| {
        records.iter().map(|record| of(record)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let (now, mut ever) = (sum(&in_use), sum(&allocated));
    if now == ever {
        // Readers of this form would otherwise conclude that it does not tell what was allocated.
        ever.1 += 1;
    }
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        text,
        "heap profile: {}: {} [{}: {}] @ heap/{}",
        now.0,
        now.1,
        ever.0,
        ever.1,
        snapshot.rate.saturating_mul(2)
    );
    for record in records {
        let (now, ever) = (in_use(record), allocated(record));
        let _ = write!(text, "{}: {} [{}: {}] @", now.0, now.1, ever.0, ever.1);
        for address in &record.stack {
            let _ = write!(text, " {address:#x}");
        }
        let labels: Vec<(String, String)> =
            record.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        write_labels(&mut text, &labels);
        text.push('\n');
        write_frames(&mut text, &record.stack, symbolizer, shown_allocation);
        text.push('\n');
    }
    text.push_str("\n# runtime.MemStats\n");
    for (name, value) in figures(stats) {
        let _ = writeln!(text, "# {name} = {value}");
    }
    tabs::align(&text)
}

/// The allocator's figures under Go's names, without those that only a collector has; the last two are ours.
fn figures(stats: &Stats) -> Vec<(&'static str, u64)> {
    let idle = stats.idle_pages + stats.released_pages;
    let mut figures = vec![
        ("Alloc", stats.in_use.bytes),
        ("TotalAlloc", stats.allocated.bytes),
        ("Sys", stats.in_use_pages + idle),
        ("Mallocs", stats.allocated.objects),
        ("Frees", stats.freed.objects),
        ("HeapAlloc", stats.in_use.bytes),
        ("HeapSys", stats.in_use_pages + idle),
        ("HeapIdle", idle),
        ("HeapInuse", stats.in_use_pages),
        ("HeapReleased", stats.released_pages),
        ("HeapObjects", stats.in_use.objects),
    ];
    if let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) {
        figures.push(("MaxRSS", usage.max_rss().unsigned_abs() * 1024));
    }
    figures.push(("Untracked", stats.untracked.bytes));
    figures.push(("Returned", stats.returned));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_still_a_profile() {
        let snapshot = Snapshot { rate: 512 << 10, ..Snapshot::default() };
        let text = write_heap_profile(&snapshot, &greenprof_runtime::heap::stats(), &mut Symbolizer::new());
        assert!(
            text.starts_with("heap profile: 0: 0 [0: 1] @ heap/1048576\n\n# runtime.MemStats\n# Alloc = "),
            "{text}"
        );
        assert!(text.contains("# MaxRSS = ") && text.contains("# HeapInuse = "), "{text}");
    }
}
