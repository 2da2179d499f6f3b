//! The pictures of a track since its last keyframe: each unit that is sent comes in, and what a viewer needs to see the newest
//! one goes out. Plain state; `local_track` owns it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// At most this many units are kept: half a minute at 30 frames a second.
const MAX_UNITS: usize = 900;

/// If the newest unit is older than this, what is kept shows nothing of now: the source has stalled, or is gone.
const MAX_AGE: Duration = Duration::from_secs(5);

/// A picture or a packet of sound, as it goes out.
#[derive(Debug)]
pub(super) struct Sample {
    /// Its time on the RTP clock of the track, which wraps.
    pub(super) timestamp: u32,
    /// The same moment on our own clock.
    pub(super) taken_at: Instant,
    pub(super) payloads: Vec<Bytes>,
    pub(super) is_keyframe: bool,
}

impl Sample {
    pub(super) fn bytes(&self) -> usize {
        self.payloads.iter().map(Bytes::len).sum()
    }
}

/// The units from the last keyframe to the newest. It shares their payloads with the queues of the connections.
#[derive(Debug)]
pub(super) struct Gop {
    max_bytes: usize,
    bytes: usize,
    /// Begins with a keyframe. It is empty if there was none yet, or if too much came since.
    units: Vec<Arc<Sample>>,
}

impl Gop {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            units: Vec::new(),
        }
    }

    /// Takes the next unit of the track.
    pub(super) fn push(&mut self, unit: &Arc<Sample>) {
        if unit.is_keyframe {
            self.clear();
        } else if self.units.is_empty() {
            return;
        }
        let bytes = self.bytes + unit.bytes();
        if bytes > self.max_bytes || self.units.len() >= MAX_UNITS {
            // A part of it would be of no use, since every unit builds on those before.
            return self.clear();
        }
        self.bytes = bytes;
        self.units.push(Arc::clone(unit));
    }

    fn clear(&mut self) {
        self.bytes = 0;
        self.units.clear();
    }

    /// True if there are units and the newest of them is of the past, so that a viewer is to wait for the next one.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        let newest = self.units.last();
        newest.is_some_and(|unit| now.saturating_duration_since(unit.taken_at) > MAX_AGE)
    }

    /// The units from the last keyframe to the newest; none if they are not kept.
    pub(super) fn units(&self) -> &[Arc<Sample>] {
        &self.units
    }

    /// The size of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A unit of so many bytes.
    pub(in crate::media) fn unit(timestamp: u32, bytes: usize, is_keyframe: bool) -> Arc<Sample> {
        Arc::new(Sample {
            timestamp,
            taken_at: Instant::now(),
            payloads: vec![Bytes::from(vec![0; bytes])],
            is_keyframe,
        })
    }

    pub(in crate::media) fn timestamps(gop: &Gop) -> Vec<u32> {
        gop.units().iter().map(|unit| unit.timestamp).collect()
    }

    #[test]
    fn it_begins_with_the_last_keyframe_and_ends_with_the_newest_unit() {
        let mut gop = Gop::new(1000);
        for (timestamp, is_keyframe) in [(1, false), (2, true), (3, false), (4, false)] {
            gop.push(&unit(timestamp, 10, is_keyframe));
        }
        assert_eq!((timestamps(&gop), gop.bytes()), (vec![2, 3, 4], 30));
        gop.push(&unit(5, 20, true));
        assert_eq!((timestamps(&gop), gop.bytes()), (vec![5], 20));
    }

    #[test]
    fn beyond_a_bound_nothing_is_kept_until_the_next_keyframe() {
        let mut gop = Gop::new(100);
        for timestamp in 0..10 {
            gop.push(&unit(timestamp, 10, timestamp == 0));
        }
        assert_eq!(gop.bytes(), 100);
        gop.push(&unit(10, 1, false));
        gop.push(&unit(11, 1, false));
        assert_eq!((timestamps(&gop), gop.bytes()), (vec![], 0));
        gop.push(&unit(12, 10, true));
        assert_eq!(timestamps(&gop), [12]);
        gop.push(&unit(13, 101, true));
        assert_eq!(timestamps(&gop), Vec::<u32>::new(), "one that is too large");

        let mut many = Gop::new(usize::MAX);
        let units = u32::try_from(MAX_UNITS).unwrap();
        for timestamp in 0..units {
            many.push(&unit(timestamp, 1, timestamp == 0));
        }
        assert_eq!(many.units().len(), MAX_UNITS);
        many.push(&unit(units, 1, false));
        assert!(many.units().is_empty());
    }

    #[test]
    fn payloads_are_shared_and_not_copied() {
        let mut gop = Gop::new(1000);
        let sent = unit(1, 10, true);
        gop.push(&sent);
        assert!(Arc::ptr_eq(&sent, &gop.units()[0]));
    }
}
