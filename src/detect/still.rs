//! The motion gate of a camera stream as inference workers use it: a frame comes in, and whether it shows what was inferred last
//! goes out. The node makes one for each camera that runs, and keeps it over reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::detector::{ModelInfo, Object};
use crate::schedule::motion::{MotionGate, MotionRules, Verdict};
use twinsight_media::picture::Frame;

/// The motion gate of a camera that runs, with the last result, which holds for frames that do not differ.
#[derive(Debug)]
pub(crate) struct CameraMotion {
    gate: Mutex<SettingsGate>,
    /// No track of the camera waits for a decision.
    is_settled: AtomicBool,
    last: Mutex<Option<LastResult>>,
    settings: AtomicU64,
}

/// How a worker judges the frames of a camera.
#[derive(Debug, Clone)]
pub(crate) struct MotionWork {
    camera: Arc<CameraMotion>,
    rules: MotionRules,
    /// Numbers the settings of the camera, since a result holds for those with which it was found.
    settings: u64,
}

/// What was found in the frame that was inferred last.
#[derive(Debug, Clone)]
pub(crate) struct LastResult {
    /// The number of its event, if there was one.
    pub(crate) sequence: Option<u64>,
    /// The objects.
    pub(crate) objects: Vec<Object>,
    /// The model that found them.
    pub(crate) model: ModelInfo,
}

/// The gate, and the settings with which it was asked last.
#[derive(Debug, Default)]
struct SettingsGate {
    gate: MotionGate,
    settings: u64,
}

impl Default for CameraMotion {
    fn default() -> Self {
        Self {
            gate: Mutex::default(),
            is_settled: AtomicBool::new(true),
            last: Mutex::default(),
            settings: AtomicU64::new(0),
        }
    }
}

impl CameraMotion {
    /// How frames are judged from now on, with the settings that the camera gets now. The next frame goes through the model.
    pub(crate) fn work(self: &Arc<Self>, rules: MotionRules) -> MotionWork {
        MotionWork {
            camera: Arc::clone(self),
            rules,
            settings: 1 + self.settings.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl MotionWork {
    /// True for a frame that need not go through the model. For any other, [`inferred`](Self::inferred) is called after it has.
    pub(super) fn is_unchanged(&self, now: Instant, frame: &Frame) -> bool {
        let mut state = self.camera.gate.lock();
        if state.settings != self.settings {
            state.settings = self.settings;
            state.gate.renew();
        }
        let is_settled = self.camera.is_settled.load(Ordering::Relaxed);
        let verdict = state
            .gate
            .judge(now, &frame.planes(), self.rules, is_settled);
        verdict == Verdict::Unchanged
    }

    /// Notes that the frame that was judged last went through the model.
    pub(super) fn inferred(&self) {
        self.camera.gate.lock().gate.inferred();
    }

    /// So much time may pass between two frames that go through the model.
    pub(crate) fn max_skip(&self) -> Duration {
        self.rules.max_skip
    }

    /// Says whether tracks of the camera wait for a decision, for which frames that do not differ are looked at for a while.
    pub(crate) fn set_settled(&self, is_settled: bool) {
        self.camera.is_settled.store(is_settled, Ordering::Relaxed);
    }

    /// Keeps what was found.
    pub(crate) fn keep(&self, last: LastResult) {
        *self.camera.last.lock() = Some(last);
    }

    /// Shows what was found last, if anything was inferred.
    pub(crate) fn with_last(&self, show: impl FnOnce(&LastResult)) {
        if let Some(last) = &*self.camera.last.lock() {
            show(last);
        }
    }
}
