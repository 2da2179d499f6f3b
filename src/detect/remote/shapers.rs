//! The shapers of a model that nobody uses at the moment. A worker takes one while it makes a picture ready and gives it back before it
//! asks a server: a shaper has megabytes, and most workers wait for answers or have nothing to do.

use std::sync::Arc;

use parking_lot::Mutex;

use super::fit::{Fit, Shaper};

/// A stack of them. The one that was used last is taken first, since its buffers are still in the processor's caches.
#[derive(Default)]
pub(super) struct Shapers(Mutex<Vec<Shaper>>);

impl std::fmt::Debug for Shapers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shapers").finish_non_exhaustive()
    }
}

impl Shapers {
    /// Takes one that makes what this fit says, or makes it.
    pub(super) fn take(&self, fit: &Arc<Fit>) -> Shaper {
        let found = {
            let mut unused = self.0.lock();
            let at = unused.iter().rposition(|shaper| shaper.fit() == fit);
            at.map(|at| unused.remove(at))
        };
        found.unwrap_or_else(|| Shaper::new(Arc::clone(fit)))
    }

    /// Gives one back. No more than `most` are kept, so that they become fewer with the slots.
    pub(super) fn give(&self, shaper: Shaper, most: usize) {
        let mut unused = self.0.lock();
        unused.push(shaper);
        let surplus = unused.len().saturating_sub(most);
        unused.drain(..surplus);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}
