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
