//! The page heap: which runs of pages are free, and giving them out.
//!
//! Free runs are *clean* (never used, or given back to the system) or *dirty* (their pages are still there). Runs of one
//! sort that lie next to each other are one run; the two sorts are kept apart, because dirty runs are used first and
//! given back when they have been free for a while (`purge.rs`). Runs are listed by length, in bins of one length up to
//! 64 pages and four to a doubling above; a bitmap finds the next bin that has one. Segregated lists with boundary tags
//! are Knuth's; bins with a bitmap are those of dlmalloc and of Go's first page heap.

use std::sync::atomic::Ordering;

use super::{
    classes::{PAGE, PAGE_SHIFT},
    lock::Locked,
    range,
    span::{NONE, State},
};

const EXACT: usize = 64;
const BINS: usize = 192;

/// How many runs of a bin are looked at for one that is long enough, before a bin is taken in which all are.
const LOOKS: usize = 8;

/// Guards all free runs and the end of the used part of the range.
pub(super) static PAGE_HEAP: Locked<PageHeap> = Locked::new(PageHeap::new());

pub(super) struct PageHeap {
    clean: Lists,
    dirty: Lists,
    /// The oldest and the youngest dirty run.
    pub(super) oldest: u32,
    pub(super) youngest: u32,
    /// Pages from here on were never used.
    top: usize,
    pub(super) figures: Figures,
}

/// How many pages are what.
#[derive(Clone, Copy, Default)]
pub(super) struct Figures {
    /// In spans that are in use.
    pub used: usize,
    /// In dirty runs, and in runs that are being given back.
    pub dirty: usize,
    /// In clean runs below the top.
    pub clean: usize,
    /// Given back since the start.
    pub returned: u64,
}

struct Lists {
    present: [u64; BINS / 64],
    first: [u32; BINS],
}

fn bin_of(pages: usize) -> usize {
    if pages <= EXACT {
        return pages - 1;
    }
    let doubling = pages.ilog2() as usize;
    EXACT + (doubling - 6) * 4 + ((pages >> (doubling - 2)) & 3)
}

impl Lists {
    const fn new() -> Self {
        Self { present: [0; BINS / 64], first: [NONE; BINS] }
    }

    fn insert(&mut self, page: usize) {
        let span = range::span(page);
        let bin = bin_of(span.length());
        let next = self.first[bin];
        span.next.store(next, Ordering::Relaxed);
        span.previous.store(NONE, Ordering::Relaxed);
        if next != NONE {
            range::span(next as usize).previous.store(page as u32, Ordering::Relaxed);
        }
        self.first[bin] = page as u32;
        self.present[bin / 64] |= 1 << (bin % 64);
    }

    fn remove(&mut self, page: usize) {
        let span = range::span(page);
        let bin = bin_of(span.length());
        let (next, previous) = (span.next.load(Ordering::Relaxed), span.previous.load(Ordering::Relaxed));
        if next != NONE {
            range::span(next as usize).previous.store(previous, Ordering::Relaxed);
        }
        if previous == NONE {
            self.first[bin] = next;
            if next == NONE {
                self.present[bin / 64] &= !(1 << (bin % 64));
            }
        } else {
            range::span(previous as usize).next.store(next, Ordering::Relaxed);
        }
    }

    /// A run of at least so many pages, from the lowest bin that has one.
    fn find(&self, pages: usize) -> Option<usize> {
        let own = bin_of(pages);
        let mut candidate = self.first[own] as usize;
        for _ in 0..LOOKS {
            if candidate == NONE as usize {
                break;
            }
            if range::span(candidate).length() >= pages {
                return Some(candidate);
            }
            candidate = range::span(candidate).next.load(Ordering::Relaxed) as usize;
        }
        // In a higher bin every run is long enough.
        let mut word = (own + 1) / 64;
        let mut bits = *self.present.get(word)? & (u64::MAX << ((own + 1) % 64));
        while bits == 0 {
            word += 1;
            bits = *self.present.get(word)?;
        }
        Some(self.first[word * 64 + bits.trailing_zeros() as usize] as usize)
    }
}

impl PageHeap {
    const fn new() -> Self {
        Self {
            clean: Lists::new(),
            dirty: Lists::new(),
            oldest: NONE,
            youngest: NONE,
            // Page 0 is the page that does not exist.
            top: 1,
            figures: Figures { used: 0, dirty: 0, clean: 0, returned: 0 },
        }
    }

    /// Takes a run of exactly `pages` pages whose address is a multiple of `align`; its span is in transit. Says also
    /// whether the pages read as zero.
    pub(super) fn take(&mut self, pages: usize, align: usize) -> Option<(usize, bool)> {
        let extra = if align > PAGE { align / PAGE - 1 } else { 0 };
        let enough = pages.checked_add(extra).filter(|&enough| enough < range::pages())?;
        let found = self.dirty.find(enough).or_else(|| self.clean.find(enough));
        let (run, zeroed) = match found {
            Some(run) => (run, self.unlink(run) == State::Clean),
            None => (self.grow(enough)?, true),
        };
        let skip = (range::address(run).next_multiple_of(align.max(PAGE)) - range::address(run)) >> PAGE_SHIFT;
        let kept = run + skip;
        if skip > 0 {
            self.split(run, skip);
            self.insert(run, zeroed);
        }
        if range::span(kept).length() > pages {
            self.split(kept, pages);
            self.insert(kept + pages, zeroed);
        }
        self.figures.used += pages;
        Some((kept, zeroed))
    }

    /// A run from the part of the range that was never used.
    fn grow(&mut self, pages: usize) -> Option<usize> {
        let page = self.top;
        if pages > range::pages() - page {
            return None;
        }
        range::span(page).pages.store(pages as u32, Ordering::Relaxed);
        range::span(page).set_state(State::Transit);
        self.set_top(page + pages);
        Some(page)
    }

    fn set_top(&mut self, top: usize) {
        self.top = top;
        TOP.store(top, Ordering::Release);
    }

    /// Cuts a run in transit in two; both are in transit.
    fn split(&mut self, run: usize, pages: usize) {
        let span = range::span(run);
        let rest = range::span(run + pages);
        rest.pages.store((span.length() - pages) as u32, Ordering::Relaxed);
        rest.set_state(State::Transit);
        // Last, and Release: who walks over the spans goes over the whole run, or finds the second part's record done.
        span.pages.store(pages as u32, Ordering::Release);
    }

    /// Takes a free run out of its lists; returns what it was. It is in transit then.
    pub(super) fn unlink(&mut self, run: usize) -> State {
        let span = range::span(run);
        let state = span.state();
        if state == State::Dirty {
            self.dirty.remove(run);
            self.forget_age(run);
            self.figures.dirty -= span.length();
        } else {
            self.clean.remove(run);
            self.figures.clean -= span.length();
        }
        span.set_state(State::Transit);
        state
    }

    /// Enters a run in transit as free, together with neighbours of its sort. A dirty run counts as young.
    pub(super) fn insert(&mut self, mut run: usize, clean: bool) {
        let sort = if clean { State::Clean } else { State::Dirty };
        let before = range::span(run - 1).first.load(Ordering::Relaxed) as usize;
        // The record in front is up to date if the run it tells of is free and ends here.
        if before != NONE as usize && before < run {
            let neighbour = range::span(before);
            if neighbour.state() == sort && before + neighbour.length() == run {
                self.unlink(before);
                self.join(before, run);
                run = before;
            }
        }
        let behind = run + range::span(run).length();
        if behind < self.top && range::span(behind).state() == sort {
            self.unlink(behind);
            self.join(run, behind);
        }
        let span = range::span(run);
        let pages = span.length();
        range::span(run + pages - 1).first.store(run as u32, Ordering::Relaxed);
        if clean {
            self.clean.insert(run);
            self.figures.clean += pages;
        } else {
            self.dirty.insert(run);
            self.note_age(run);
            self.figures.dirty += pages;
        }
        span.set_state(sort);
    }

    /// Makes two runs in transit, `second` directly behind `first`, one.
    fn join(&mut self, first: usize, second: usize) {
        let pages = range::span(first).length() + range::span(second).length();
        range::span(first).pages.store(pages as u32, Ordering::Release);
    }

    /// Takes a span back that was in use; it must be in transit.
    pub(super) fn give(&mut self, page: usize) {
        self.figures.used -= range::span(page).length();
        self.insert(page, false);
    }

    /// Lengthens a span in use to `pages` pages if what lies behind it is free. Says whether it
    /// was.
    pub(super) fn extend(&mut self, page: usize, pages: usize) -> bool {
        let span = range::span(page);
        let old = span.length();
        let behind = page + old;
        let wanted = pages - old;
        if behind == self.top {
            if self.grow(wanted).is_none() {
                return false;
            }
        } else {
            let next = range::span(behind);
            if !matches!(next.state(), State::Clean | State::Dirty) || next.length() < wanted {
                return false;
            }
            let zeroed = self.unlink(behind) == State::Clean;
            if next.length() > wanted {
                self.split(behind, wanted);
                self.insert(behind + wanted, zeroed);
            }
        }
        for number in old..pages {
            range::head(page + number).store(page as u32, Ordering::Relaxed);
        }
        // Last, and Release: an address in the new pages resolves from here on, and by complete entries.
        span.pages.store(pages as u32, Ordering::Release);
        self.figures.used += wanted;
        true
    }

    /// Cuts a span in use down to `pages` pages.
    pub(super) fn shorten(&mut self, page: usize, pages: usize) {
        let rest = range::span(page).length() - pages;
        self.split(page, pages);
        self.figures.used -= rest;
        self.insert(page + pages, false);
    }
}

/// The end of the used part of the range, for those who walk over all spans without the lock.
static TOP: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);

/// The first page that was never used.
pub(super) fn top() -> usize {
    // Acquire: pairs with the Release in `set_top`.
    TOP.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_runs_are_in_higher_bins() {
        let mut previous = 0;
        for pages in 1..100_000 {
            let bin = bin_of(pages);
            assert!(bin == previous || bin == previous + 1, "{pages}");
            previous = bin;
        }
        assert!(bin_of(1 << 27) < BINS);
    }
}
