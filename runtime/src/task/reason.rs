//! What a task can wait for, in the words that Go uses where it has the same state.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a parked task waits for.
        ///
        /// ```
        /// use greenprof_runtime::task::WaitReason;
        ///
        /// assert_eq!(WaitReason::ChanReceive.as_str(), "chan receive");
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum WaitReason {
            $($(#[$doc])* $name,)*
        }

        impl WaitReason {
            const ALL: &[WaitReason] = &[$(Self::$name),*];

            /// All of them, each at the index that it is as a number.
            pub const fn all() -> &'static [WaitReason] {
                Self::ALL
            }

            /// The words of Go's goroutine dumps, or ours where Go has no such wait.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// Receiving from a channel.
    ChanReceive = "chan receive",
    /// Sending to a channel.
    ChanSend = "chan send",
    /// Receiving from a nil channel: for ever.
    ChanReceiveNil = "chan receive (nil chan)",
    /// Sending to a nil channel: for ever.
    ChanSendNil = "chan send (nil chan)",
    /// Several channel operations at once.
    Select = "select",
    /// A select without arms: for ever.
    SelectNoCases = "select (no cases)",
    /// Locking a mutex.
    MutexLock = "sync.Mutex.Lock",
    /// Waiting for a reader-writer lock, to read.
    RwLockRead = "sync.RWMutex.RLock",
    /// Waiting for a reader-writer lock, to write.
    RwLockWrite = "sync.RWMutex.Lock",
    /// Waiting on a condition variable.
    CondvarWait = "sync.Cond.Wait",
    /// Waiting for the body of a once that another runs. In Go, such a wait is one for the mutex inside the once.
    Once = "sync.Mutex.Lock",
    /// Waiting for a permit of a semaphore.
    Semaphore = "semacquire",
    /// Waiting for a wait group to reach zero.
    WaitGroupWait = "sync.WaitGroup.Wait",
    /// Sleeping.
    Sleep = "sleep",
    /// Joining a task. Go has no such wait.
    Join = "task join",
}

impl WaitReason {
    /// Whether somebody's unlock ends such a wait, or the end of a once's body.
    #[cfg_attr(not(feature = "hooks"), expect(dead_code, reason = "instruments ask"))]
    pub(crate) const fn is_ended_by_unlock(self) -> bool {
        matches!(self, Self::MutexLock | Self::RwLockRead | Self::RwLockWrite | Self::Once)
    }

    pub(crate) fn from_index(index: u8) -> Self {
        Self::ALL.get(usize::from(index)).copied().unwrap_or(Self::ChanReceive)
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_name_their_reasons() {
        for reason in WaitReason::ALL {
            assert_eq!(WaitReason::from_index(*reason as u8), *reason);
        }
    }
}
