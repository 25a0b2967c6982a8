//! The text forms of profiles, for people without any tool and for tools that read Go's.
//!
//! [`count`] is what `?debug=1` answers for profiles that count things, [`mod@heap`] for memory, [`contention`] for waits, [`stack_dump`] what `goroutine?debug=2` does.
//! Both end in plain `String`s; symbolizing happens here, so they run on ordinary threads only.

pub mod contention;
pub mod count;
pub mod heap;
mod quote;
pub mod stack_dump;
mod tabs;
