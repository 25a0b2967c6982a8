//! The heap's scopes in a model: there is no heap, so there is nothing to enter.

/// Runs `work`.
pub(crate) fn untracked<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Never.
pub(crate) fn in_untracked() -> bool {
    false
}

/// Nothing to do.
pub(crate) fn tend() {}

/// Never.
pub(crate) fn has_excess() -> bool {
    false
}

pub(crate) mod lock {
    //! The lock of what is held across a fork. Models do not fork, and do not wait here.

    pub(crate) struct RawLock;

    impl RawLock {
        pub(crate) const fn new() -> Self {
            Self
        }

        pub(crate) fn lock(&self) {}

        pub(crate) fn unlock(&self) {}
    }
}
