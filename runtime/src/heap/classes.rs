//! Size classes: which block sizes exist, which request gets which, and how large the spans of each are.
//!
//! Multiples of 16 bytes up to 128, then eight classes to a doubling, so a block is at most 12.5 % larger than what was
//! asked for (above 128 bytes; below, the granularity is 16 bytes). Geometric classes with a fixed number of steps to a
//! doubling are jemalloc's and TCMalloc's.
//!
//! Alignment needs no classes of its own: blocks lie at multiples of their size in a span that begins on a page, and a
//! size that is a multiple of `align` gets a class that is one, too: within a doubling the classes are *all* multiples of
//! its step, and a larger alignment leaves only sizes that are classes themselves.

/// The unit in which spans are made. Two pages of the usual 4 KiB: half the table entries, and little lost.
pub(super) const PAGE: usize = 1 << PAGE_SHIFT;
pub(super) const PAGE_SHIFT: u32 = 13;

/// The smallest distance of two blocks, and the alignment of all.
pub(super) const GRAIN: usize = 16;
/// The largest block that shares a span with others.
pub(super) const SMALL_MAX: usize = 32 << 10;
/// How many classes there are.
pub(super) const CLASSES: usize = 8 + 8 * 8;

/// The largest number of blocks that move between a thread and the centre at once.
pub(super) const MAX_BATCH: usize = 32;
/// The largest number of blocks of one class that a thread keeps.
pub(super) const MAX_CACHED: usize = 128;

/// Bits of the fixed-point reciprocal in [`Class::index`]. Offsets are below 2^19 and sizes at most 2^15, so the error of
/// the rounded-up reciprocal stays below one; the test tries every offset that matters.
const RECIPROCAL_BITS: u32 = 38;
const SPAN_MIN: usize = 32 << 10;
const SPAN_MAX: usize = 256 << 10;

/// What is fixed for a class.
#[derive(Clone, Copy)]
pub(super) struct Class {
    /// Bytes of a block.
    pub size: u32,
    /// Pages of a span.
    pub pages: u32,
    /// Blocks of a span.
    pub blocks: u32,
    /// How many blocks move at once.
    pub batch: u32,
    /// How many blocks a thread keeps at most.
    pub cached: u32,
    reciprocal: u64,
}

impl Class {
    /// Which block of its span an offset in bytes lies in. May be `blocks` or more: the end of a span can be unused.
    #[inline]
    pub(super) fn index(&self, offset: usize) -> usize {
        ((offset as u64 * self.reciprocal) >> RECIPROCAL_BITS) as usize
    }
}

const fn size_of_class(class: usize) -> usize {
    if class < 8 {
        return (class + 1) * 16;
    }
    let doubling = (class - 8) / 8;
    let step = 16 << doubling;
    (128 << doubling) + ((class - 8) % 8 + 1) * step
}

const fn clamp(value: usize, low: usize, high: usize) -> usize {
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

const fn describe(size: usize) -> Class {
    // At least eight blocks to a span, and at most a sixteenth of it unused at its end.
    let mut pages = clamp(size * 8, SPAN_MIN, SPAN_MAX).div_ceil(PAGE);
    while (pages * PAGE) % size > pages * PAGE / 16 {
        pages += 1;
    }
    let batch = clamp((16 << 10) / size, 2, MAX_BATCH);
    Class {
        size: size as u32,
        pages: pages as u32,
        blocks: (pages * PAGE / size) as u32,
        batch: batch as u32,
        cached: clamp(batch * 4, 4, MAX_CACHED) as u32,
        reciprocal: (1u64 << RECIPROCAL_BITS).div_ceil(size as u64),
    }
}

/// All classes, smallest first.
pub(super) static TABLE: [Class; CLASSES] = {
    let mut table = [describe(16); CLASSES];
    let mut class = 0;
    while class < CLASSES {
        table[class] = describe(size_of_class(class));
        class += 1;
    }
    table
};

/// Up to here the class is looked up in steps of 16 bytes, above in steps of 128: the second table of Go's allocator.
const FINE_MAX: usize = 1024;
const COARSE: usize = 128;

const fn lookup<const N: usize>(step: usize) -> [u8; N] {
    let mut table = [0; N];
    let mut class = 0;
    let mut entry = 0;
    while entry < N {
        while size_of_class(class) < entry * step {
            class += 1;
        }
        table[entry] = class as u8;
        entry += 1;
    }
    table
}

static FINE_TABLE: [u8; FINE_MAX / GRAIN + 1] = lookup(GRAIN);
static COARSE_TABLE: [u8; SMALL_MAX / COARSE + 1] = lookup(COARSE);

/// The class of most requests, in fewer instructions than [`class_of`] needs; `None` for the others.
#[inline(always)]
pub(super) fn fine_class_of(size: usize, align: usize) -> Option<usize> {
    (size <= FINE_MAX && align <= GRAIN).then(|| FINE_TABLE[size.div_ceil(GRAIN)] as usize)
}

/// The class of a request, or `None` if it needs a span of its own.
#[inline(always)]
pub(super) fn class_of(size: usize, align: usize) -> Option<usize> {
    // A layout's size, rounded up to its alignment, fits an isize.
    let rounded = (size + (align - 1)) & !(align - 1);
    if rounded <= FINE_MAX {
        Some(FINE_TABLE[rounded.div_ceil(GRAIN)] as usize)
    } else if rounded <= SMALL_MAX && align <= PAGE {
        Some(COARSE_TABLE[rounded.div_ceil(COARSE)] as usize)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_ascend_and_waste_little() {
        assert_eq!(TABLE[0].size, 16);
        assert_eq!(TABLE[CLASSES - 1].size as usize, SMALL_MAX);
        for (smaller, larger) in TABLE.iter().zip(&TABLE[1..]) {
            assert!(smaller.size < larger.size);
            let waste = larger.size - smaller.size - 1;
            assert!(waste <= 15 || waste * 8 < larger.size, "{} to {}", smaller.size, larger.size);
        }
    }

    #[test]
    fn every_request_gets_the_smallest_block_that_fits_and_is_aligned() {
        for size in 1..=SMALL_MAX {
            let class = class_of(size, 1).unwrap();
            assert!(TABLE[class].size as usize >= size);
            assert!(class == 0 || (TABLE[class - 1].size as usize) < size);
            assert_eq!(fine_class_of(size, GRAIN), Some(class).filter(|_| size <= FINE_MAX));
            for shift in 0..=PAGE_SHIFT {
                let align = 1 << shift;
                if let Some(class) = class_of(size, align) {
                    assert_eq!(TABLE[class].size as usize % align.max(GRAIN), 0, "{size} {align}");
                    assert!(TABLE[class].size as usize >= size);
                } else {
                    assert!(size.next_multiple_of(align) > SMALL_MAX);
                }
            }
        }
        assert!(class_of(SMALL_MAX + 1, 1).is_none());
        assert!(class_of(100, 2 * PAGE).is_none(), "a span is aligned to a page");
    }

    #[test]
    fn offsets_become_indices() {
        for class in &TABLE {
            let (size, bytes) = (class.size as usize, class.pages as usize * PAGE);
            assert!(bytes < 1 << 19 && class.blocks as usize <= bytes / GRAIN);
            for block in 0..=bytes / size {
                for offset in [block * size, block * size + 1, block * size + size - 1] {
                    if offset < bytes {
                        assert_eq!(class.index(offset), offset / size, "{offset} in {size}");
                    }
                }
            }
        }
    }
}
