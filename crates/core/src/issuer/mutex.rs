//! Locking a mutex of the standard library.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, also after a panic: none of our critical sections leaves its value half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
