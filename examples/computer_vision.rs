//! Runs a model of your own on a stream: each frame goes through an ONNX session, and what was found is sent as an event to all who
//! listen to this twin. Frames that come while the model runs are dropped, so that it always sees a fresh one.
//!
//! ```sh
//! PHYSTACK_SIMULATOR_URL=http://127.0.0.1:55000 TWIN_ID=app-1 cargo run --release --example computer_vision -- camera-1
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use image::imageops::{self, FilterType};
use ndarray::Array4;
use ort::session::Session;
use ort::value::TensorRef;
use parking_lot::Mutex;
use serde_json::{Value, json};
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_media::picture::Frame;

/// Class 0 of the model's labels is a person.
const PERSON: usize = 0;
const MIN_SCORE: f32 = 0.5;
const SIDE: u32 = 300;

#[tokio::main]
async fn main() -> Result<()> {
    let camera = std::env::args().nth(1).context("give the camera's twin")?;
    let environment = ort::init_from(".runtime/onnxruntime/libonnxruntime.so")?.build()?;
    let session = Session::builder(&environment)
        .and_then(|mut builder| builder.commit_from_file("models/ssdlite_mobilenet_v2_coco.onnx"))
        .map_err(|error| anyhow!("the model cannot be loaded: {error}"))?;
    let session = Arc::new(Mutex::new(session));

    let client = HubClient::connect(HubOptions::from_env()?).await?;
    let instance = client.instance();
    let stream = instance.get_media_stream(&camera, "default").await?;
    let from = camera.clone();
    stream.on_frame(move |frame| {
        let (session, instance, from) = (Arc::clone(&session), instance.clone(), from.clone());
        async move {
            // This takes some 30 ms, so it must not block a thread of the runtime.
            let age_ms = frame.received_at().elapsed().as_millis();
            let work = tokio::task::spawn_blocking(move || {
                let mut session = session.lock();
                persons(&mut session, &frame)
            });
            match work.await {
                Ok(Ok(objects)) => {
                    println!(
                        "{} persons in a frame that was {age_ms} ms old",
                        objects.len()
                    );
                    let event = json!({ "camera": from, "objects": objects });
                    // If the hub is away the event is lost, which is fine, since the next one is fresher.
                    let _ = instance.emit("detections", event).await;
                }
                Ok(Err(error)) => println!("{error}"),
                Err(error) => println!("{error}"),
            }
        }
    });
    tokio::signal::ctrl_c().await?;
    stream.close().await;
    Ok(())
}

/// Finds the persons in a frame, with boxes in its pixels.
fn persons(session: &mut Session, frame: &Frame) -> Result<Vec<Value>> {
    let picture = imageops::resize(&frame.to_rgb_image(), SIDE, SIDE, FilterType::Triangle);
    let side = SIDE as usize;
    let mut input = Array4::<f32>::zeros((1, 3, side, side));
    for (x, y, pixel) in picture.enumerate_pixels() {
        for (channel, value) in pixel.0.into_iter().enumerate() {
            input[[0, channel, y as usize, x as usize]] = f32::from(value);
        }
    }
    let input = TensorRef::from_array_view(&input)?;
    let outputs = session.run(ort::inputs!["images" => input])?;
    // Each candidate has the scores of all classes, and a box of top, left, bottom and right as shares of the picture.
    let (shape, scores) = outputs["scores"].try_extract_tensor::<f32>()?;
    let (_, boxes) = outputs["boxes"].try_extract_tensor::<f32>()?;
    let classes = usize::try_from(shape[shape.len() - 1])?;
    let candidates = scores.chunks_exact(classes).zip(boxes.chunks_exact(4));
    #[expect(clippy::cast_precision_loss, reason = "a side has 16 bits at most")]
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    let found = candidates.filter(|(scores, _)| scores[PERSON] >= MIN_SCORE);
    Ok(found
        .map(|(scores, corners)| {
            let (top, left) = (corners[0] * height, corners[1] * width);
            let (bottom, right) = (corners[2] * height, corners[3] * width);
            json!({
                "label": "person", "score": scores[PERSON],
                "box": { "x": left, "y": top, "width": right - left, "height": bottom - top },
            })
        })
        .collect())
}
