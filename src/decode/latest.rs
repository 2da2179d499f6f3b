//! A slot for one value: the newest wins. A stream's thread puts, the scheduler takes; whoever puts
//! gets back what it replaced, to count it.

use std::sync::{Mutex, PoisonError};

/// A slot that holds the newest value.
#[derive(Debug)]
pub struct Latest<T> {
    slot: Mutex<Option<T>>,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Latest<T> {
    /// An empty slot.
    pub const fn new() -> Self {
        Self {
            slot: Mutex::new(None),
        }
    }

    /// Puts a value and gives the one that it replaced.
    #[must_use = "a replaced value is counted"]
    pub fn put(&self, value: T) -> Option<T> {
        self.lock().replace(value)
    }

    /// Takes the value out.
    pub fn take(&self) -> Option<T> {
        self.lock().take()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_none()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_wins() {
        let latest = Latest::new();
        assert_eq!(latest.put(1), None);
        assert_eq!(latest.put(2), Some(1));
        assert_eq!(latest.take(), Some(2));
        assert!(latest.is_empty());
        assert_eq!(latest.take(), None);
    }
}
