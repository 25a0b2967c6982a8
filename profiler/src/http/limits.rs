//! What clients can make the port hold at a time, and what becomes of those for whom there is no room.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::reply::{self, Reply};

/// Bytes of finished answers that wait for their readers, and of requests' bodies. One answer may be larger if it is the
/// only one.
const BYTES: usize = 256 << 20;

/// Answers below this are not counted: with all connections they come to less than the others may.
const SMALL: usize = 64 << 10;

/// What the semaphore of bytes counts.
const UNIT: usize = 4 << 10;

/// Differences being taken, of all profiles: each keeps a snapshot while it waits.
const DELTAS: usize = 16;

/// The room of one server.
#[derive(Debug)]
pub(super) struct Limits {
    bytes: Arc<Semaphore>,
    deltas: Semaphore,
}

/// The bytes of an answer, and the room that they take until they are dropped.
struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn no_room(what: &str) -> Reply {
    reply::error(StatusCode::SERVICE_UNAVAILABLE, format_args!("{what}; try again in a moment"))
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: Arc::new(Semaphore::new(BYTES / UNIT)), deltas: Semaphore::new(DELTAS) }
    }
}

impl Limits {
    /// Room for that many bytes.
    ///
    /// # Errors
    /// The answer that says that there is none.
    pub fn bytes(&self, length: usize) -> Result<OwnedSemaphorePermit, Reply> {
        let units = length.min(BYTES).div_ceil(UNIT) as u32;
        let room = self.bytes.clone().try_acquire_many_owned(units);
        room.map_err(|_| no_room("too many large answers of this debug port have not been read yet"))
    }

    /// Lets an answer out if there is room for it until its reader has it.
    pub fn hold(&self, answer: Reply) -> Reply {
        if answer.body().len() <= SMALL {
            return answer;
        }
        match self.bytes(answer.body().len()) {
            Ok(room) => answer.map(|bytes| Bytes::from_owner(Held { bytes, _room: room })),
            Err(refusal) => refusal,
        }
    }

    /// Room for taking a difference.
    ///
    /// # Errors
    /// The answer that says that there is none.
    pub fn delta(&self) -> Result<SemaphorePermit<'_>, Reply> {
        self.deltas.try_acquire().map_err(|_| no_room("too many profiles with \"seconds\" are being taken"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_take_room_until_they_are_dropped() {
        let limits = Limits::default();
        let large = || limits.hold(reply::text(vec![b'x'; BYTES / 2]));
        let (one, two) = (large(), large());
        assert_eq!((one.status().as_u16(), two.status().as_u16()), (200, 200));
        assert_eq!(large().status().as_u16(), 503);
        assert_eq!(limits.hold(reply::text("small")).status().as_u16(), 200);
        drop(one);
        let three = large();
        assert_eq!((three.status().as_u16(), three.body().len()), (200, BYTES / 2));
        drop((two, three));
        // Larger than all the room, but alone.
        let huge = limits.hold(reply::text(vec![b'x'; BYTES + 1]));
        assert_eq!(huge.status().as_u16(), 200);
        assert_eq!(large().status().as_u16(), 503);
    }

    #[test]
    fn differences_are_bounded() {
        let limits = Limits::default();
        let mut taken: Vec<_> = (0..DELTAS).map(|_| limits.delta().expect("room")).collect();
        assert_eq!(limits.delta().expect_err("no room").status().as_u16(), 503);
        taken.pop();
        assert!(limits.delta().is_ok());
    }
}
