//! What is made of answers: boxes, and errors where they are late, of another shape or without end.

use std::time::Duration;

use bytes::Bytes;

use super::super::client::{CallError, Clients, InferRequest};
use super::super::protocol::{Datatype, InputTensor};
use super::server::{Answer, Script, start};
use super::{BOTH, config, failure, node, until, url};
use crate::config::RemoteModelConfig;
use crate::detect::detector::DetectSettings;
use crate::preprocess::Picture;
use crate::telemetry::ledger::InferenceFailure;
use twinsight_media::picture::PictureSize;

#[test]
fn boxes_come_back_in_the_pixels_of_the_picture() {
    for protocol in BOTH {
        let server = start(protocol);
        let url = url(&server, protocol);
        let with_version = RemoteModelConfig {
            version: Some("3".to_owned()),
            ..config(vec![url.clone()])
        };
        let mut node = node(&with_version);
        node.meet().unwrap();
        assert_eq!(node.model().info().sha256, None);
        assert_eq!(&*node.model().info().name, "far");
        let found = node.detect().unwrap();
        let object = &found.objects[0];
        assert_eq!((object.class_id, object.score), (1, 0.9));
        let bbox = object.bbox;
        assert_eq!(
            (bbox.x, bbox.y, bbox.width, bbox.height),
            (0.0, 0.0, 32.0, 16.0)
        );
        let seen = server.fake.seen.lock().pop().unwrap();
        assert_eq!((seen.model.as_str(), seen.version.as_str()), ("net", "3"));
        assert_eq!(
            (seen.datatype.as_str(), seen.shape),
            ("FP32", vec![1, 3, 16, 32])
        );
        assert_eq!(seen.data[..4], 100f32.to_le_bytes());
        assert_eq!(seen.data.len(), 6144);
        let version = concat!("twinsight/", env!("CARGO_PKG_VERSION"));
        assert!(seen.user_agent.starts_with(version), "{}", seen.user_agent);
        assert_eq!(node.requests(&url, "ok"), 1);
        assert_eq!(
            node.count("twinsight_remote_request_bytes_total{model=\"far\"}"),
            6144
        );
        let ready = format!("twinsight_remote_server_ready{{model=\"far\",server=\"{url}\"}}");
        assert_eq!(node.count(&ready), 1);
        let facts = node.model().facts();
        assert_eq!(facts.servers[0].state, "ready");
        assert_eq!((facts.in_flight, facts.slots), (0, 1));
        let input = facts.input.unwrap();
        assert_eq!((input.datatype, input.frame_bytes), ("FP32", 6144));

        let explained = {
            let rgb = [0; 3 * 64 * 32];
            let size = PictureSize {
                width_px: 64,
                height_px: 32,
            };
            let picture = Picture::Rgb { data: &rgb, size };
            let settings = DetectSettings {
                min_score: 0.95,
                classes: vec![],
            };
            node.detector.explain(picture, &settings, 0.2).unwrap()
        };
        assert!(explained.detections.objects.is_empty());
        assert_eq!(explained.candidates.len(), 1);
    }
}

#[test]
fn a_wrong_shape_or_type_is_an_error_and_the_server_is_left() {
    for protocol in BOTH {
        let server = start(protocol);
        let url = url(&server, protocol);
        let mut node = node(&config(vec![url.clone()]));
        node.meet().unwrap();
        let answers = [
            (vec![1, 1, 9], 9, "its output `out` is f32 [1, 1, 9]"),
            (
                vec![1, 2, 6],
                6,
                "its output `out` has the shape [1, 2, 6], and its data are 24 bytes of FP32",
            ),
        ];
        for (shape, count, expected) in answers {
            let values = vec![0.0; count];
            node.detect_again();
            server
                .fake
                .set(|script| script.answer = Answer::Numbers { shape, values });
            let (kind, text) = failure(node.detect());
            assert_eq!(kind, InferenceFailure::Answer);
            assert!(text.contains(expected), "{text}");
            assert!(node.away().contains(expected), "{}", node.away());
            // It says that it is ready, is tried again, and no frame is lost to that.
            let seen = server.fake.seen.lock().len();
            until("the server is tried again", || {
                server.fake.seen.lock().len() > seen
            });
            assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
            server.fake.set(|script| *script = Script::default());
        }
        node.detect_again();
        server.fake.set(|script| script.answer = Answer::Integers);
        let (kind, text) = failure(node.detect());
        assert_eq!(kind, InferenceFailure::Answer);
        let expected = "its output `out` is i32 ";
        assert!(text.contains(expected), "{text}");
        assert_eq!(node.requests(&url, "answer"), 3);
        server.fake.set(|script| *script = Script::default());
        node.detect_again();
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    for protocol in BOTH {
        let server = start(protocol);
        let slow = RemoteModelConfig {
            deadline: Duration::from_secs(20),
            ..config(vec![url(&server, protocol)])
        };
        let mut node = node(&slow);
        node.meet().unwrap();
        server.fake.set(|script| script.answer = Answer::Huge);
        let (kind, text) = failure(node.detect());
        assert_eq!(kind, InferenceFailure::Answer, "{text}");
    }
}

#[test]
fn an_answer_that_is_found_too_late_by_a_program_that_did_not_run_is_not_used() {
    for protocol in BOTH {
        let server = start(protocol);
        let url = url(&server, protocol);
        let config = config(vec![url.clone()]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = runtime.block_on(async {
            let client = Clients::new(&config).unwrap().client(&url, &config);
            let client = client.unwrap();
            client.ask().await.unwrap();
            let input = InputTensor {
                name: "images".to_owned(),
                datatype: Datatype::Uint8,
                shape: vec![1],
                data: Bytes::from_static(&[1]),
            };
            let request = InferRequest {
                inputs: &[input],
                outputs: &["out".to_owned()],
                most_answer_bytes: 1 << 20,
                limit: Duration::from_millis(300),
            };
            // The answer comes while nothing of the program runs.
            server
                .fake
                .set(|script| script.delay = Duration::from_millis(100));
            let stopped = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                std::thread::sleep(Duration::from_millis(600));
            };
            tokio::join!(client.infer(&request), stopped).0
        });
        assert_eq!(answer, Err(CallError::Deadline));
    }
}
