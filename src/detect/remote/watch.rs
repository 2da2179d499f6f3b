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
use super::servers::Proof;
use crate::detect::detector::DetectSettings;
use crate::detect::postprocess::{Array, OutputError};
use crate::detect::reader::ObjectReader;

/// A server that does not say within this long how the model is, is away. It is so long that a server that was stopped answers the question
/// that waits for it, and no later one.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// A server to which requests go may be busy with what takes long, and one that is far away needs a while to be met at all. They may take
/// longer to say it, as long as a request may, up to this.
const LONGEST_ASK_LIMIT: Duration = Duration::from_secs(5);

/// Watches the server of this index.
pub(super) async fn watch(shared: Arc<Shared>, index: usize) {
    let server = &shared.servers[index];
    let mut slowest = None;
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
        let limit = ask_limit(shared.config.deadline, was_away, slowest);
        if was_away {
            // It may be away because the token was rotated.
            server.client.read_token_again();
        }
        let begun = Instant::now();
        let asked = tokio::time::timeout(limit, server.client.ask()).await;
        if was_away && let Ok(Ok(_)) = asked {
            slowest = slowest.max(Some(begun.elapsed()));
        }
        let answer = match asked.unwrap_or(Err(CallError::Deadline)) {
            Ok(metadata) => match Fit::new(&shared.manifest, &metadata) {
                Ok(fit) if was_away || !shared.is_known(index, &fit) => {
                    let fit = Arc::new(fit);
                    let tried = try_out(&shared, index, &fit, was_away).await;
                    tried.map(|()| (Arc::unwrap_or_clone(fit), Proof::Tried))
                }
                answer => answer.map(|fit| (fit, Proof::Said)),
            },
            Err(error) => {
                server.client.renew();
                Err(match error {
                    CallError::Deadline => not_said(limit),
                    // The address of one that has answered is right.
                    CallError::NoAnswer(reason) if slowest.is_none() => {
                        server.client.explain(reason).await
                    }
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

fn not_said(limit: Duration) -> String {
    let seconds = (limit.as_secs_f64() * 10.0).round() / 10.0;
    format!("it has not said within {seconds} s whether it has the model ready")
}

/// How long a server has to say how the model is. `slowest` is how long it took when it was away before and could be asked, with a
/// connection made anew or without; `None` if that was never so.
fn ask_limit(deadline: Duration, was_away: bool, slowest: Option<Duration>) -> Duration {
    let longest = ASK_LIMIT.max(deadline.min(LONGEST_ASK_LIMIT));
    match slowest {
        Some(slowest) if was_away => (2 * slowest).clamp(ASK_LIMIT, longest),
        _ => longest,
    }
}

/// Asks for inference of a picture of nothing. The error is a sentence.
async fn try_out(
    shared: &Shared,
    index: usize,
    fit: &Arc<Fit>,
    was_away: bool,
) -> Result<(), String> {
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
        // One that has answered frames works, and has no time at the moment. Of another nothing is known.
        Err(CallError::Busy(_)) if !was_away => return Ok(()),
        Err(
            CallError::Busy(reason)
            | CallError::Unavailable(reason)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_was_measured_is_said_in_tenths_of_seconds() {
        for (limit, seconds) in [
            (ASK_LIMIT, "1"),
            (Duration::from_nanos(2_469_135_782), "2.5"),
        ] {
            let said = not_said(limit);
            assert!(
                said.starts_with(&format!("it has not said within {seconds} s ")),
                "{said}"
            );
        }
    }

    #[test]
    fn a_server_that_is_far_away_has_the_time_that_it_needs_and_one_that_is_near_is_given_up_soon()
    {
        let ms = Duration::from_millis;
        // Where frames have to be answered soon, nothing takes longer than the least.
        assert_eq!(ask_limit(ms(500), true, None), ASK_LIMIT);
        assert_eq!(ask_limit(ms(500), true, Some(ms(900))), ASK_LIMIT);
        // At first it is not known how far away it is.
        assert_eq!(ask_limit(ms(3000), true, None), ms(3000));
        assert_eq!(ask_limit(ms(60_000), true, None), LONGEST_ASK_LIMIT);
        assert_eq!(ask_limit(ms(3000), true, Some(ms(5))), ASK_LIMIT);
        assert_eq!(ask_limit(ms(3000), true, Some(ms(1200))), ms(2400));
        assert_eq!(ask_limit(ms(3000), true, Some(ms(2900))), ms(3000));
        // One to which requests go may be busy with them.
        assert_eq!(ask_limit(ms(3000), false, Some(ms(5))), ms(3000));
    }
}
