//! How much memory an allocator needs for a program of changing habits: the same requests for each.
//!
//! Five waves. In each, blocks of another mix of sizes are allocated until twice as many bytes are alive as between waves, some
//! of the older ones being freed on the way; then a random half is freed. All blocks are written to, so that all their pages
//! are there.

use std::{
    alloc::{GlobalAlloc, Layout},
    fs,
};

use anyhow::Context;

use crate::values::{PEAK, RESIDENT, Values};

/// Sizes of each wave: the smallest, and how many doublings up to the largest.
const WAVES: [(usize, u32); 5] = [(16, 4), (64, 6), (16, 11), (1024, 5), (16, 7)];
/// Operations between two looks at the resident memory.
const LOOK: u64 = 10_000;

/// Random numbers, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    /// As likely in each doubling.
    fn size(&mut self, (smallest, doublings): (usize, u32)) -> usize {
        let low = smallest << (self.next() as u32 % doublings);
        low + self.below(low)
    }
}

/// Runs `operations` allocations; gives the resident memory on average and at most, less what was there before.
pub(super) fn run<A: GlobalAlloc>(allocator: &A, operations: u64) -> anyhow::Result<Values> {
    // Not from the allocator in question, and all there before the first look.
    let mut blocks: Vec<(*mut u8, Layout)> = Vec::with_capacity(operations as usize);
    blocks.resize(operations as usize, (std::ptr::null_mut(), Layout::new::<u8>()));
    blocks.clear();
    let mut random = Random(1);
    let before = resident()?;
    let (mut sum, mut looks, mut peak) = (0.0, 0.0, 0.0_f64);
    for wave in WAVES {
        for step in 0..operations / WAVES.len() as u64 {
            let layout = Layout::from_size_align(random.size(wave), 8).context("a size is valid")?;
            // SAFETY: the layout is not empty, and the block is as large.
            let block = unsafe { allocator.alloc(layout) };
            anyhow::ensure!(!block.is_null(), "there is no memory for {layout:?}");
            // SAFETY: as above.
            unsafe { block.write_bytes(1, layout.size()) };
            blocks.push((block, layout));
            if random.below(3) == 0 {
                free(allocator, blocks.swap_remove(random.below(blocks.len())));
            }
            if step.is_multiple_of(LOOK) {
                let now = (resident()? - before).max(0.0);
                (sum, looks, peak) = (sum + now, looks + 1.0, peak.max(now));
            }
        }
        for _ in 0..blocks.len() / 2 {
            free(allocator, blocks.swap_remove(random.below(blocks.len())));
        }
    }
    blocks.into_iter().for_each(|block| free(allocator, block));
    Ok(Values::from([(RESIDENT.to_owned(), sum / looks), (PEAK.to_owned(), peak)]))
}

fn free<A: GlobalAlloc>(allocator: &A, (block, layout): (*mut u8, Layout)) {
    // SAFETY: allocated with this layout, and out of the list.
    unsafe { allocator.dealloc(block, layout) };
}

/// Bytes of this process that are in memory.
fn resident() -> anyhow::Result<f64> {
    let statm = fs::read_to_string("/proc/self/statm").context("/proc/self/statm cannot be read")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    Ok(pages.context("/proc/self/statm is not understood")? * 4096.0)
}
