//! What a server's model sees is what the same model sees on this machine, whatever carries the pictures and in whichever form.

use super::*;

/// Every camera plays these frames, over and over.
const FRAMES: usize = 24;

/// So many results of each camera are looked at.
const RESULTS: usize = 8;

/// What one camera's model is, and how far its boxes and scores may be off.
struct Way {
    name: &'static str,
    model: &'static str,
    scheme: &'static str,
    box_px: f64,
    score: f64,
    /// Between how many bytes of numbers or pictures a request has.
    bytes: (f64, f64),
}

/// The numbers of a picture.
const NUMBERS: f64 = 3.0 * 416.0 * 416.0;

/// The numbers that are sent are the same but for the rounding of the event.
const fn exact(name: &'static str, model: &'static str, scheme: &'static str) -> Way {
    Way {
        name,
        model,
        scheme,
        box_px: 0.11,
        score: 0.001,
        bytes: (4.0 * NUMBERS, 4.0 * NUMBERS),
    }
}

/// The pixels are rounded, each to so many bytes.
const fn rounded(name: &'static str, model: &'static str, scheme: &'static str, bytes: f64) -> Way {
    Way {
        name,
        model,
        scheme,
        box_px: 2.0,
        score: 0.02,
        bytes: (bytes * NUMBERS, bytes * NUMBERS),
    }
}

#[derive(Debug, Clone)]
struct Seen {
    label: String,
    score: f64,
    corners: [f64; 4],
}

fn objects_of(value: &Value) -> Vec<Seen> {
    let one = |object: &Value| {
        let of = |key: &str| object["box"][key].as_f64().unwrap();
        let (x, y) = (of("x"), of("y"));
        Seen {
            label: object["label"].as_str().unwrap().to_owned(),
            score: object["score"].as_f64().unwrap(),
            corners: [x, y, x + of("width"), y + of("height")],
        }
    };
    value["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(one)
        .collect()
}

/// How far apart two results are at most.
#[derive(Debug, Clone, Copy, Default)]
struct Off {
    box_px: f64,
    score: f64,
}

impl Off {
    fn and(self, other: Self) -> Self {
        Self {
            box_px: self.box_px.max(other.box_px),
            score: self.score.max(other.score),
        }
    }
}

/// Objects with a score just above what is reported may be missing in the other result.
const SURE: f64 = 0.45;

/// How far the objects that are surely there are off in the other result, where the reference has all objects down to a lower score.
fn off(seen: &[Seen], reference: &[Seen]) -> Off {
    let mut worst = Off::default();
    let nearest = |object: &Seen, others: &[Seen]| {
        let distance = |other: &Seen| {
            let pairs = object.corners.iter().zip(&other.corners);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        others
            .iter()
            .filter(|other| other.label == object.label)
            .map(|other| Off {
                box_px: distance(other),
                score: (object.score - other.score).abs(),
            })
            .min_by(|a, b| a.box_px.total_cmp(&b.box_px))
            .unwrap_or(Off {
                box_px: f64::INFINITY,
                score: 1.0,
            })
    };
    for object in seen.iter().filter(|object| object.score >= SURE) {
        worst = worst.and(nearest(object, reference));
    }
    for object in reference.iter().filter(|object| object.score >= SURE) {
        worst = worst.and(nearest(object, seen));
    }
    worst
}

/// What the model sees in each frame of the clip on this machine, and how much there is of it.
fn local(clip: &std::path::Path) -> Vec<Vec<Seen>> {
    let done = twinsight(
        &[
            "detect",
            clip.to_str().unwrap(),
            "--model",
            "nanodet_g_coco",
            "--min-score",
            "0.3",
            "--json",
        ],
        &[],
    );
    assert_eq!(done.code, Some(0), "{}", done.log);
    let lines = done.out.lines();
    let frames: Vec<Vec<Seen>> = lines
        .map(|line| objects_of(&serde_json::from_str(line).unwrap()))
        .collect();
    assert_eq!(frames.len(), FRAMES);
    let sure = frames.iter().flatten().filter(|seen| seen.score >= SURE);
    assert!(
        sure.count() > 3 * FRAMES,
        "there is something to see in the clip"
    );
    frames
}

/// How far a camera's results are off the local ones of the same frames. A result is of the frame whose objects are nearest to its own: what
/// is no frame's is near to none. The sender's clock does not tell which it is, since a sender that is held up leaves frames out.
fn worst(events: &[(Instant, Value)], local: &[Vec<Seen>]) -> Off {
    let one = |(_, event): &(Instant, Value)| {
        let seen = objects_of(event);
        let offs = local.iter().map(|frame| off(&seen, frame));
        offs.min_by(|a, b| a.box_px.total_cmp(&b.box_px))
            .expect("the clip has frames")
    };
    events.iter().map(one).fold(Off::default(), Off::and)
}

async fn same_boxes(make: Make, ways: &[Way]) {
    let mut models: Vec<&str> = ways.iter().map(|way| way.model).collect();
    models.sort_unstable();
    models.dedup();
    let Some(server) = InferenceServer::start(make, &models).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("first.h264");
    std::fs::write(&file, first_frames(FRAMES)).unwrap();
    let local = local(&file);
    let clip = Arc::new(Clip::read(&file).unwrap());

    let mut config = "[defaults]\nmax_fps = 2.0\nmax_age_ms = 2000\n".to_owned();
    for way in ways {
        let address = if way.scheme == "grpc" {
            server.grpc
        } else {
            server.http
        };
        config += &format!(
            "[models.{name}]\nbackend = \"kserve\"\nurl = \"{scheme}://{address}\"\nmodel = \"{model}\"\n\
             manifest = \"nanodet_g_coco\"\ndeadline_ms = 5000\n",
            name = way.name,
            scheme = way.scheme,
            model = way.model
        );
    }
    for way in ways {
        config += &format!(
            "[[cameras]]\ntwin_id = \"cam-{name}\"\nmodel = \"{name}\"\n",
            name = way.name
        );
    }
    let url = start_hub(DevHubOptions::default()).await;
    let heard = Heard::listen(&url).await;
    let begun = Instant::now();
    let mut node = start_node(&url, &config).await;
    let twins: Vec<String> = ways.iter().map(|way| format!("cam-{}", way.name)).collect();
    let cameras: Vec<AbortHandle> = twins
        .iter()
        .map(|twin| start_camera(&url, twin, &clip))
        .collect();

    for (way, twin) in ways.iter().zip(&twins) {
        heard.until_number(RESULTS, twin, way.name, begun).await;
        let events = heard.detections_of(twin, begun);
        for (_, event) in &events {
            assert_eq!(event["model"]["name"], way.name);
            assert_eq!(
                event["model"]["sha256"],
                Value::Null,
                "nobody here has seen the server's file"
            );
        }
        let worst = worst(&events, &local);
        println!(
            "{make:?}, {}: boxes within {:.3} px, scores within {:.4}",
            way.name, worst.box_px, worst.score
        );
        assert!(
            worst.box_px <= way.box_px && worst.score <= way.score,
            "{}: {worst:?}",
            way.name
        );
    }
    for camera in cameras {
        camera.abort();
    }
    let twins: Vec<&str> = twins.iter().map(String::as_str).collect();
    is_at_rest(&node, &twins).await;
    for way in ways {
        let of = |metric| node.metric(metric, &format!("model=\"{}\"", way.name));
        let bytes = of("remote_request_bytes_total") / of("remote_requests_total");
        println!("{make:?}, {}: {bytes:.0} bytes a frame", way.name);
        assert!(
            (way.bytes.0..=way.bytes.1).contains(&bytes),
            "{}: {bytes}",
            way.name
        );
    }
    ends_with_an_exact_ledger(&mut node, &twins).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triton_sees_what_the_model_sees_here_in_every_form_of_a_picture() {
    let ways = [
        exact("f32-grpc", "nanodet", "grpc"),
        exact("f32-http", "nanodet", "http"),
        rounded("f16-grpc", "nanodet_f16", "grpc", 2.0),
        rounded("u8-grpc", "nanodet_u8", "grpc", 1.0),
        rounded("u8-http", "nanodet_dynamic", "http", 1.0),
        Way {
            name: "jpeg-grpc",
            model: "nanodet_jpeg",
            scheme: "grpc",
            box_px: 12.0,
            score: 0.1,
            bytes: (0.01 * NUMBERS, 0.2 * NUMBERS),
        },
    ];
    same_boxes(Make::Triton, &ways).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mlserver_sees_what_the_model_sees_here() {
    let ways = [
        exact("f32-grpc", "nanodet", "grpc"),
        rounded("u8-grpc", "nanodet_u8", "grpc", 1.0),
    ];
    same_boxes(Make::MlServer, &ways).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kserves_own_server_sees_what_the_model_sees_here() {
    let ways = [
        exact("f32-grpc", "nanodet", "grpc"),
        rounded("u8-http", "nanodet_u8", "http", 1.0),
    ];
    same_boxes(Make::KServe, &ways).await;
}
