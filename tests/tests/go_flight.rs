//! `go tool trace` reads what the flight recorder gives after it has left out what was too old. Alone in its process: beside a trace
//! it would read all the time.

use std::{
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::trace::name_functions;
use greenprof_tests::{go, stress, trace};
use greenprof_tracer::reader::Summary;

#[test]
fn what_was_left_out_does_not_make_the_rest_invalid() {
    if !go::available("what_was_left_out_does_not_make_the_rest_invalid") {
        return;
    }
    name_functions();
    let folder = tempfile::tempdir().expect("a folder");
    let window = Duration::from_millis(100);
    let dumps: Vec<_> = stress::beside(2, 11, || {
        let recorder = greenprof_tracer::flight_recorder().window(window).start().expect("a recorder");
        let begin = Instant::now();
        (0..2)
            .map(|_| {
                // Once a second it leaves out what is too old.
                thread::sleep(Duration::from_millis(1100));
                let (mut dump, age) = (Vec::new(), begin.elapsed());
                let stats = recorder.dump(&mut dump).expect("written to memory");
                (dump, stats, age)
            })
            .collect()
    });
    for (i, (dump, stats, age)) in dumps.iter().enumerate() {
        let file = trace::save(folder.path(), &format!("{i}.trace"), dump);
        assert!(trace::debug(&file, "parsed").lines().count() as u64 > stats.events / 2, "{stats:?}");
        trace::assert_counts_agree(&file, dump);
        // In the first moments a few events are made up; on a busy machine some are lost.
        assert!(stats.lost > 0 || stats.repaired * 50 <= stats.events, "{stats:?}");
        let length = Duration::from_nanos(Summary::read(&dump[..]).expect("valid").duration());
        assert!(length >= window && length < *age, "{length:?} of {age:?}, {stats:?}");
    }
    let (last, stats, age) = dumps.last().expect("two");
    let length = Duration::from_nanos(Summary::read(&last[..]).expect("valid").duration());
    assert!(length < *age / 2, "{length:?} of {age:?}, {stats:?}");
}
