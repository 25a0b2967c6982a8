//! Which block does a word point into?

use std::alloc::{GlobalAlloc as _, Layout};

use greenprof_runtime::heap::{self, Block, View};

use crate::{HEAP, Random, alone};

fn view() -> View {
    // SAFETY: the tests take turns, and whoever has made a view does not allocate from this heap while there is one.
    unsafe { View::of_stopped_world() }.expect("no other view")
}

fn allocate(size: usize, align: usize) -> (usize, Layout) {
    let layout = Layout::from_size_align(size, align).unwrap();
    // SAFETY: the layout is not empty.
    let block = unsafe { HEAP.alloc(layout) };
    assert!(!block.is_null());
    (block as usize, layout)
}

fn free((block, layout): (usize, Layout)) {
    // SAFETY: made by `allocate`, and freed once.
    unsafe { HEAP.dealloc(block as *mut u8, layout) };
}

#[test]
fn every_word_into_a_live_block_resolves_and_none_into_a_freed_one() {
    alone(|| {
        let mut random = Random(3);
        let mut alive = Vec::new();
        for round in 0..40 {
            for _ in 0..300 {
                alive.push(allocate(random.size(), random.align()));
            }
            let mut freed = Vec::new();
            for _ in 0..250 + round % 3 * 50 {
                let block = alive.swap_remove(random.below(alive.len()));
                free(block);
                freed.push(block);
            }
            let view = view();
            for &(start, layout) in &alive {
                let block = view.resolve(start).expect("alive");
                assert_eq!(block.start, start);
                assert!(block.size >= layout.size());
                let inside = [1, layout.size() / 2, layout.size() - 1, block.size - 1, random.below(block.size)];
                assert!(inside.iter().all(|offset| view.resolve(start + offset) == Some(block)), "{layout:?}");
                // What follows is another block or none.
                assert_ne!(view.resolve(start + block.size), Some(block));
                assert_ne!(view.resolve(start - 1), Some(block));
            }
            for &(start, layout) in &freed {
                let inside = [0, 1, layout.size() / 2, layout.size() - 1];
                // Nothing was allocated since, so all of it is free.
                assert!(inside.iter().all(|offset| view.resolve(start + offset).is_none()), "{layout:?}");
            }
            let blocks: Vec<Block> = view.blocks().collect();
            assert!(alive.iter().all(|(start, _)| blocks.binary_search_by_key(start, |block| block.start).is_ok()));
            assert!(blocks.windows(2).all(|pair| pair[0].start + pair[0].size <= pair[1].start));
            assert_eq!(blocks.len() as u64, heap::stats().in_use.objects, "no others are alive in this program");
            assert!(blocks.iter().all(|block| view.resolve(block.start + block.size - 1) == Some(*block)));
            assert!(view.spans().all(|span| span.blocks * span.block_size <= span.bytes));
            drop(view);
        }
        alive.into_iter().for_each(free);
    });
}

#[test]
fn all_interior_words_of_blocks_of_every_size() {
    alone(|| {
        let blocks: Vec<_> = (1..1100).chain((1100..40_000).step_by(333)).map(|size| allocate(size, 1)).collect();
        let view = view();
        for &(start, layout) in &blocks {
            for offset in 0..layout.size() {
                assert_eq!(view.resolve(start + offset).expect("alive").start, start);
            }
        }
        drop(view);
        blocks.into_iter().for_each(free);
    });
}

#[test]
fn other_words_do_not_resolve() {
    alone(|| {
        let inside = allocate(64, 8);
        let view = view();
        let local = 0_u64;
        let boxed = Box::new(0_u64);
        let others = [0, 1, 4096, usize::MAX, 1 << 63, &raw const local as usize, &raw const *boxed as usize];
        for word in others {
            assert_eq!(view.resolve(word), None, "{word:x}");
        }
        let spans: Vec<_> = view.spans().collect();
        assert_eq!(view.resolve(spans[0].start - 1), None, "in front of the first span");
        // SAFETY: the second view is refused.
        assert!(unsafe { View::of_stopped_world() }.is_none());
        drop(view);
        free(inside);
    });
}

#[test]
fn untracked_blocks_neither_resolve_nor_count() {
    alone(|| {
        let before = heap::stats();
        let sizes = [16, 1000, 20_000, 100_000];
        let (hidden, seen) = heap::untracked(|| {
            assert!(heap::in_untracked());
            let seen = heap::tracked(|| sizes.map(|size| allocate(size, 8)));
            (sizes.map(|size| allocate(size, 8)), seen)
        });
        assert!(!heap::in_untracked());
        let during = heap::stats();
        assert_eq!(during.in_use.objects, before.in_use.objects + 4);
        assert_eq!(during.untracked.objects, before.untracked.objects + 4);
        let view = view();
        assert!(hidden.iter().all(|&(start, _)| view.resolve(start).is_none()));
        assert!(seen.iter().all(|&(start, _)| view.resolve(start).is_some()));
        drop(view);
        // Resized, they stay where they belong, whatever the caller's scope is.
        let resized = hidden.map(|(start, layout)| {
            // SAFETY: made by `allocate` with this layout.
            let block = unsafe { HEAP.realloc(start as *mut u8, layout, layout.size() * 3) };
            (block as usize, Layout::from_size_align(layout.size() * 3, 8).unwrap())
        });
        let view = self::view();
        assert!(resized.iter().all(|&(start, _)| view.resolve(start).is_none()));
        drop(view);
        resized.into_iter().chain(seen).for_each(free);
        assert_eq!(heap::stats().in_use, before.in_use);
        assert_eq!(heap::stats().untracked, before.untracked);
    });
}

#[test]
fn a_panic_leaves_the_scope() {
    let result = std::panic::catch_unwind(|| heap::untracked(|| panic!("on purpose")));
    assert!(result.is_err() && !heap::in_untracked());
}

/// A thread that a stop has missed ends while a view is open, and its blocks are given to another one.
#[test]
fn no_mark_stays_when_a_cache_changes_under_a_view() {
    const SIZE: usize = 3072;
    alone(|| {
        let (told, tell) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let blocks: Vec<_> = (0..20).map(|_| allocate(SIZE, 8)).collect();
            let addresses: Vec<usize> = blocks.iter().map(|block| block.0).collect();
            blocks.into_iter().for_each(free);
            told.send(addresses).unwrap();
            let _ = wait.recv();
        });
        let cached = tell.recv().unwrap();
        let open = view();
        assert!(cached.iter().all(|block| open.resolve(*block).is_none()));
        drop(end);
        thread.join().unwrap();
        let mut blocks = Vec::new();
        while !cached.iter().all(|address| blocks.iter().any(|block: &(usize, Layout)| block.0 == *address)) {
            assert!(blocks.len() < 100_000, "the blocks of a thread that has ended are used again");
            blocks.push(allocate(SIZE, 8));
        }
        drop(open);
        let view = view();
        for (address, _) in &blocks {
            assert_eq!(view.resolve(*address).map(|block| block.start), Some(*address));
        }
        drop(view);
        blocks.into_iter().for_each(free);
    });
}
