//! The task that asks one server about the model: whether it has it ready, and what it takes. It runs as long as the model is open, and
//! asks often while the server is away, and seldom while nothing is heard of it although it is there.
//!
//! A server that was away, or takes something else than before, is tried with a picture of nothing before frames go to it, since a server
//! may be ready and not work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{CallError, InferRequest};
use super::fit::{Fit, Shaper};
use super::model::Shared;
use crate::detect::detector::DetectSettings;
use crate::detect::postprocess::{Array, OutputError};
use crate::detect::reader::ObjectReader;

/// A server that does not say within this long how the model is, is away. It is so long that a server that was stopped answers the question
/// that waits for it, and no later one.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// A server to which requests go may be busy with what takes long, and take longer to say it, up to this.
const LONGEST_ASK_LIMIT: Duration = Duration::from_secs(5);

/// Watches the server of this index.
pub(super) async fn watch(shared: Arc<Shared>, index: usize) {
    let server = &shared.servers[index];
    loop {
        let ask_at = shared.ask_at(index);
        if ask_at > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(ask_at.into()) => {}
                () = server.wake.notified() => {}
            }
            continue;
        }
        let was_away = shared.is_away(index);
        let limit = match was_away {
            true => ASK_LIMIT,
            false => ASK_LIMIT.max(shared.config.deadline.min(LONGEST_ASK_LIMIT)),
        };
        if was_away {
            // It may be away because the token was rotated.
            server.client.read_token_again();
        }
        let asked = tokio::time::timeout(limit, server.client.ask()).await;
        let answer = match asked.unwrap_or(Err(CallError::Deadline)) {
            Ok(metadata) => match Fit::new(&shared.manifest, &metadata) {
                Ok(fit) if was_away || !shared.is_known(index, &fit) => {
                    let fit = Arc::new(fit);
                    let tried = try_out(&shared, index, &fit).await;
                    tried.map(|()| Arc::unwrap_or_clone(fit))
                }
                answer => answer,
            },
            Err(error) => {
                server.client.renew();
                Err(match error {
                    CallError::Deadline => format!(
                        "it has not said within {} s whether it has the model ready",
                        limit.as_secs()
                    ),
                    CallError::Busy(reason)
                    | CallError::Unavailable(reason)
                    | CallError::NoAnswer(reason)
                    | CallError::Answer(reason) => reason,
                })
            }
        };
        shared.asked(index, answer);
    }
}

/// Asks for inference of a picture of nothing. The error is a sentence.
async fn try_out(shared: &Shared, index: usize, fit: &Arc<Fit>) -> Result<(), String> {
    let blank = Shaper::new(Arc::clone(fit)).blank();
    let (inputs, placement) =
        blank.map_err(|error| format!("no picture can be made for it: {error:?}"))?;
    let limit = shared.config.deadline;
    let request = InferRequest {
        inputs: &inputs,
        outputs: fit.outputs(),
        most_answer_bytes: fit.most_answer_bytes(),
        limit,
    };
    let says = "it says that it has the model ready, but";
    let outputs = match shared.servers[index].client.infer(&request).await {
        Ok(outputs) => outputs,
        Err(CallError::Deadline) => {
            let limit_ms = limit.as_millis();
            return Err(format!("{says} has not answered within {limit_ms} ms"));
        }
        // It works, and has no time at the moment.
        Err(CallError::Busy(_)) => return Ok(()),
        Err(
            CallError::Unavailable(reason)
            | CallError::NoAnswer(reason)
            | CallError::Answer(reason),
        ) => {
            return Err(format!("{says} {reason}"));
        }
    };
    fit.check(&outputs)?;
    let mut reader = ObjectReader::new(&shared.manifest);
    let postprocessor = Arc::clone(reader.postprocessor());
    let names = postprocessor.output().names();
    let arrays = names.iter().zip(&outputs).map(|(name, tensor)| Array {
        name,
        dims: &tensor.dims,
        values: &tensor.values,
    });
    let arrays: Vec<Array<'_>> = arrays.collect();
    match reader.objects(&arrays, &placement, &DetectSettings::default()) {
        Err(OutputError::Shape(mismatch)) => Err(mismatch.to_string()),
        // What it sees in a picture of nothing does not matter.
        Ok(_) | Err(OutputError::Numbers(_)) => Ok(()),
    }
}
