//! Time inside the C library, which keeps no frame pointers: does the walk come out again, on the right callers?

use std::{
    ffi::{c_char, c_int, c_void},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use greenprof_profiler::{
    cpu::{self, Capture},
    profile::encode,
    symbolize,
};
use greenprof_runtime::{Runtime, sleep, spawn};
use greenprof_tests::{
    StopOnDrop, cpu_profiler,
    pprof::{self, Sample},
};

/// Called by the C library's sorting, which lies between two parts of our own code.
#[inline(never)]
extern "C" fn compare(a: *const c_void, b: *const c_void) -> c_int {
    // SAFETY: the sorting passes elements of the slice.
    let (a, b) = unsafe { (*a.cast::<u64>(), *b.cast::<u64>()) };
    a.cmp(&b) as c_int
}

#[inline(never)]
fn sort_in_libc(numbers: &mut [u64]) {
    // SAFETY: the slice's own bounds, and a comparison that is a total order.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), numbers.len(), size_of::<u64>(), Some(compare)) };
    std::hint::black_box(numbers);
}

#[inline(never)]
fn print_in_libc(numbers: &[u64]) {
    let mut text = [0_u8; 512];
    for number in numbers {
        let text = text.as_mut_ptr().cast::<c_char>();
        // SAFETY: the buffer's own length, and arguments of the types that the format names.
        unsafe { libc::snprintf(text, 512, c"%llu %g %s".as_ptr(), *number, *number as f64, c"some text".as_ptr()) };
    }
    std::hint::black_box(text);
}

#[inline(never)]
fn copy_in_libc(from: &[u8], to: &mut [u8]) {
    for _ in 0..200 {
        // SAFETY: two different buffers of this length.
        unsafe { libc::memcpy(to.as_mut_ptr().cast(), from.as_ptr().cast(), from.len().min(to.len())) };
        std::hint::black_box(&to);
    }
}

#[inline(never)]
fn own_work(numbers: &mut [u64]) {
    for _ in 0..40 {
        for number in numbers.iter_mut() {
            *number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

const WORK: [&str; 3] = ["sort_in_libc", "print_in_libc", "copy_in_libc"];

#[inline(never)]
fn turn(numbers: &mut [u64], bytes: &mut (Vec<u8>, Vec<u8>)) {
    own_work(numbers);
    sort_in_libc(numbers);
    print_in_libc(&numbers[..numbers.len() / 4]);
    copy_in_libc(&bytes.0, &mut bytes.1);
    std::hint::black_box(numbers);
}

#[inline(never)]
fn work(stop: &AtomicBool) {
    let mut numbers: Vec<u64> = (0..2000).map(|n| n * 7919 % 2003).collect();
    let mut bytes = (vec![1_u8; 10_000], vec![2_u8; 10_000]);
    while !stop.load(Ordering::Relaxed) {
        turn(&mut numbers, &mut bytes);
    }
}

fn resolved(capture: &Capture) -> Vec<Sample> {
    let bytes = encode::encode(&capture.profile, &mut symbolize::shared().lock()).expect("encodes");
    pprof::samples(&bytes)
}

fn sum<'a>(samples: impl Iterator<Item = &'a Sample>) -> i64 {
    samples.map(|sample| sample.values[0]).sum()
}

#[test]
fn stacks_come_out_of_the_c_library() {
    let _cpu = cpu_profiler();
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(stop.clone());
    let foreign = {
        let stop = stop.clone();
        std::thread::spawn(move || work(&stop))
    };
    let capture = Runtime::builder().workers(2).build().unwrap().run(|| {
        let tasks = [0, 1].map(|_| {
            let stop = stop.clone();
            spawn(move || work(&stop))
        });
        let session = cpu::start(1000).unwrap();
        sleep(Duration::from_secs(4));
        let capture = session.stop();
        stop.store(true, Ordering::Relaxed);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        capture
    });
    foreign.join().unwrap();
    println!("{}", capture.summary);
    let samples = resolved(&capture);
    let all = sum(samples.iter());
    assert!(all > 1000, "only {all} periods");
    let in_libc = sum(samples.iter().filter(|sample| WORK.iter().any(|name| sample.calls(name))));
    println!("{in_libc} of {all} periods below the calls into the C library");
    assert!(4 * in_libc > all, "the load is not what it should be: {in_libc} of {all}");
    let summary = &capture.summary;
    let truncated = summary.truncated as f64 / summary.samples as f64;
    if cfg!(target_arch = "x86_64") {
        assert!(truncated < 0.02, "{:.2} % of the stacks are truncated", 100.0 * truncated);
    }
    // What is called back by the library has the library's caller on its stack.
    let called_back = sum(samples.iter().filter(|sample| sample.calls("compare")));
    let complete = samples.iter().filter(|sample| sample.calls("compare") && sample.calls("sort_in_libc"));
    let complete = sum(complete.filter(|sample| sample.calls("work")));
    assert!(called_back > 20, "only {called_back} samples in what is called back");
    assert!(complete as f64 >= 0.98 * called_back as f64, "{complete} of {called_back} stacks cross the library");
}
