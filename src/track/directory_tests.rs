//! What the directory keeps, lists and counts of streams that look at people who stand there or walk.

use super::*;
use crate::config::{LineConfig, MaskConfig, Point, Polygon, TrackConfig, ZoneConfig};
use crate::detect::{BBox, ModelInfo, Object};
use crate::telemetry::metrics::Metrics;
use twinsight_media::picture::PictureSize;

fn rectangle(x1: f64, x2: f64) -> Polygon {
    let corners = [(x1, 0.0), (x2, 0.0), (x2, 1.0), (x1, 1.0)];
    Polygon::new(corners.map(|(x, y)| Point { x, y }).to_vec()).unwrap()
}

/// A zone on the left, a line in the middle and a mask on the right.
fn settings() -> StageSettings {
    StageSettings {
        track: TrackConfig::default(),
        scene: SceneConfig {
            zones: vec![ZoneConfig {
                name: "yard".into(),
                polygon: rectangle(0.0, 0.4),
                labels: Vec::new(),
                min_dwell: Duration::ZERO,
            }],
            lines: vec![LineConfig {
                name: "gate".into(),
                from: Point { x: 0.5, y: 0.95 },
                to: Point { x: 0.5, y: 0.05 },
                labels: Vec::new(),
            }],
            masks: vec![MaskConfig {
                polygon: rectangle(0.8, 1.0),
                labels: Vec::new(),
            }],
        },
        min_score: 0.4,
    }
}

/// A person of this width by the middle of the lower edge, in a picture of 1000 by 1000 pixels.
fn person(x: f32, y: f32, width: f32) -> Object {
    Object {
        class_id: 0,
        score: 0.8,
        bbox: BBox {
            x: x - width / 2.0,
            y: y - 2.0 * width,
            width,
            height: 2.0 * width,
        },
        keypoints: Vec::new(),
        outline: Vec::new(),
    }
}

struct Rig {
    metrics: Metrics,
    directory: TrackDirectory,
    begin: Instant,
}

impl Rig {
    fn new() -> Self {
        Self {
            metrics: Metrics::new(),
            directory: TrackDirectory::default(),
            begin: Instant::now(),
        }
    }

    fn id() -> StreamId {
        StreamId::new("cam", "default")
    }

    fn open(&self) -> Arc<CameraTracks> {
        let metrics = self.metrics.stream(&Self::id());
        self.directory.open(&metrics, &"Yard".into(), &settings())
    }

    /// Looks ten times a second in these milliseconds.
    fn look(
        &self,
        tracks: &CameraTracks,
        ms: std::ops::Range<u32>,
        seen: impl Fn(u32) -> Vec<Object>,
    ) -> Vec<Option<Staged>> {
        let model = ModelInfo {
            name: "fake".into(),
            sha256: None,
            labels: ["person".to_owned()].into(),
            keypoints: Arc::default(),
        };
        let look = |ms: u32| {
            tracks.look(Look {
                timing: self.timing(ms),
                size: PictureSize {
                    width_px: 1000,
                    height_px: 1000,
                },
                objects: &seen(ms),
                model: &model,
            })
        };
        ms.step_by(100).map(look).collect()
    }

    fn timing(&self, ms: u32) -> FrameTiming {
        let at = self.begin + Duration::from_millis(u64::from(ms));
        FrameTiming {
            received_at: at,
            completed_at: at,
            decoded_at: at,
            rtp_timestamp: (ms * 90).into(),
            captured_at_unix_ms: None,
        }
    }

    #[track_caller]
    fn assert_metric(&self, line: &str) {
        let text = self.metrics.encode();
        let line = format!("twinsight_{line}\n");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[test]
fn after_its_end_a_stream_takes_no_frame_that_comes_late() {
    let rig = Rig::new();
    let tracks = rig.open();
    assert!(Arc::ptr_eq(&tracks, &rig.open()), "one stage a stream");
    let stands = |_| vec![person(200.0, 600.0, 60.0)];
    let staged = rig.look(&tracks, 0..1000, stands);
    assert!(staged.iter().all(Option::is_some));
    assert_eq!(tracks.reading().live.len(), 1);

    let removed = rig.directory.remove(&Rig::id()).unwrap();
    assert!(rig.directory.get(&Rig::id()).is_none());
    let news = removed.end(TrackEnd::CameraRemoved);
    let what: Vec<_> = news.iter().map(|news| &news.what).collect();
    assert_eq!(what, [&Happening::End(TrackEnd::CameraRemoved)]);
    // A worker still has the stage, and the frame that it infers comes out now.
    let late = rig.look(&tracks, 1000..3000, stands);
    assert!(late.iter().all(Option::is_none));
    assert_eq!(tracks.unchanged(rig.timing(4000)), []);
    assert_eq!(tracks.end(TrackEnd::Shutdown), []);
    assert!(tracks.reading().live.is_empty());
    // The camera is configured again: it has a new stage, and the node's next id.
    let again = rig.open();
    rig.look(&again, 0..1000, stands);
    assert_eq!(again.reading().live[0].id, 2);
}

#[test]
fn tracks_that_ended_are_listed_the_last_one_first_and_only_so_many() {
    let rig = Rig::new();
    let tracks = rig.open();
    rig.look(&tracks, 0..600, |_| {
        let place = |n: u16| {
            (
                35.0 * f32::from(n % 20) + 30.0,
                60.0 * f32::from(n / 20) + 60.0,
            )
        };
        (0..300)
            .map(place)
            .map(|(x, y)| person(x, y, 20.0))
            .collect()
    });
    let live: Vec<u64> = tracks.reading().live.iter().map(|track| track.id).collect();
    assert_eq!(live, (1..=300).rev().collect::<Vec<_>>());
    assert_eq!(tracks.ended(Instant::now()), []);
    tracks.end(TrackEnd::Shutdown);
    let ended = tracks.ended(Instant::now());
    let ids: Vec<u64> = ended.iter().map(|ended| ended.track.id).collect();
    assert_eq!(ids, (45..=300).rev().collect::<Vec<_>>());
    assert!(ended.iter().all(|ended| ended.reason == TrackEnd::Shutdown));
    let later = Instant::now() + REMEMBERED_FOR;
    assert_eq!(tracks.ended(later), [], "they are old by then");
}

#[test]
fn metrics_tell_of_tracks_zones_lines_and_masks_and_go_with_the_stream() {
    let rig = Rig::new();
    let tracks = rig.open();
    let walker = |ms: u32| f32::from(u16::try_from(200 + ms / 10).unwrap());
    rig.look(&tracks, 0..1000, |ms| {
        vec![person(walker(ms), 600.0, 60.0), person(900.0, 600.0, 60.0)]
    });
    let stream = r#"camera="cam",stream="default""#;
    let state = |state: &str, count: usize| {
        format!(r#"tracks{{camera="cam",state="{state}",stream="default"}} {count}"#)
    };
    let in_yard = |count: usize| {
        format!(
            r#"zone_objects{{camera="cam",label="person",stream="default",zone="yard"}} {count}"#
        )
    };
    rig.assert_metric(&state("confirmed", 1));
    rig.assert_metric(&in_yard(1));
    rig.assert_metric(&format!("objects_masked_total{{{stream}}} 10"));
    // The mask is at 800 pixels, and it is the feet that count.
    rig.look(&tracks, 1000..5500, |ms| {
        vec![person(walker(ms), 600.0, 60.0)]
    });
    rig.assert_metric(&in_yard(0));
    rig.assert_metric(
        r#"line_crossings_total{camera="cam",direction="in",label="person",line="gate",stream="default"} 1"#,
    );
    rig.assert_metric(r#"tracks_started_total{camera="cam",label="person",stream="default"} 1"#);
    rig.look(&tracks, 5500..6500, |_| Vec::new());
    rig.assert_metric(&state("confirmed", 0));
    rig.assert_metric(&state("lost", 1));
    rig.look(&tracks, 6500..9000, |_| Vec::new());
    rig.assert_metric(&state("lost", 0));
    rig.assert_metric(&format!("objects_masked_total{{{stream}}} 10"));

    // A zone that is not configured any more has no series.
    let mut without = settings();
    without.scene.zones.clear();
    tracks.set(&"Yard".into(), without);
    assert!(!rig.metrics.encode().contains("zone=\"yard\""));

    let removed = rig.directory.remove(&Rig::id());
    removed.unwrap().end(TrackEnd::CameraRemoved);
    drop(tracks);
    rig.metrics.forget(&Rig::id());
    assert!(!rig.metrics.encode().contains("camera=\"cam\""));
}
