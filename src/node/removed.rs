//! Cameras that are no longer configured. They come in when they are removed, and go out when they are to be forgotten: after
//! ten minutes, or sooner when so many were removed that their series would fill the memory. It is plain state with `now`
//! passed in, which the cameras hold.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use twinsight_client::stream_id::StreamId;

/// The series of a removed camera stay for this long, so that every scraper sees its last counts.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// So many removed camera streams are remembered, which are as many as a hub can configure.
const MAX_REMEMBERED: usize = 256;

/// So many are remembered while the hub was not told yet that they were removed, which are all that a node can have.
const MAX_UNTOLD: usize = 1024;

/// The removed camera streams, the one that was removed first at the front.
#[derive(Debug, Default)]
pub(super) struct RemovedCameras {
    streams: VecDeque<(StreamId, Instant)>,
}

impl RemovedCameras {
    /// Notes that a camera stream is no longer configured.
    pub(super) fn left(&mut self, id: StreamId, now: Instant) {
        self.returned(&id);
        self.streams.push_back((id, now));
    }

    /// Notes that a camera stream is configured again, or was forgotten.
    pub(super) fn returned(&mut self, id: &StreamId) {
        self.streams.retain(|(gone, _)| gone != id);
    }

    /// The streams that are to be forgotten, and how long ago each was removed.
    pub(super) fn due(&self, now: Instant) -> Vec<(StreamId, Duration)> {
        let too_many = self.streams.len().saturating_sub(MAX_REMEMBERED);
        self.streams
            .iter()
            .enumerate()
            .map(|(at, (id, since))| (at, id, now.saturating_duration_since(*since)))
            .filter(|(at, _, age)| *at < too_many || *age >= REMEMBERED_FOR)
            .map(|(_, id, age)| (id.clone(), age))
            .collect()
    }

    /// True when so many were removed that even those are to be forgotten of which the hub was not told yet.
    pub(super) fn is_full(&self) -> bool {
        self.streams.len() > MAX_UNTOLD
    }

    /// True when a stream was removed so long ago that nothing of it can be in flight any more.
    pub(super) fn is_over(age: Duration) -> bool {
        age >= REMEMBERED_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> StreamId {
        StreamId::new(format!("cam-{n}"), "default")
    }

    #[test]
    fn a_camera_is_due_ten_minutes_after_it_went() {
        let t = Instant::now();
        let mut gone = RemovedCameras::default();
        gone.left(id(1), t);
        gone.left(id(2), t + Duration::from_secs(60));
        assert!(gone.due(t + Duration::from_secs(599)).is_empty());
        let due = gone.due(t + Duration::from_secs(600));
        assert_eq!(due, [(id(1), Duration::from_secs(600))]);
        gone.returned(&id(1));
        assert_eq!(gone.due(t + Duration::from_secs(660)).len(), 1);
    }

    #[test]
    fn a_camera_that_returned_is_not_due_and_counts_anew_when_it_goes_again() {
        let t = Instant::now();
        let mut gone = RemovedCameras::default();
        gone.left(id(1), t);
        gone.returned(&id(1));
        assert!(gone.due(t + Duration::from_secs(3600)).is_empty());
        gone.left(id(1), t + Duration::from_secs(500));
        assert!(gone.due(t + Duration::from_secs(700)).is_empty());
    }

    #[test]
    fn of_cameras_that_come_and_go_without_end_the_last_256_are_remembered() {
        let t = Instant::now();
        let mut gone = RemovedCameras::default();
        for n in 0..4000 {
            gone.left(id(n), t);
            for (id, _) in gone.due(t) {
                gone.returned(&id);
            }
        }
        assert_eq!(gone.streams.len(), MAX_REMEMBERED);
        assert_eq!(gone.streams[0].0, id(4000 - MAX_REMEMBERED));
    }
}
