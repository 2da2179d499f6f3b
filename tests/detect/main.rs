//! From packets to pictures to objects, without a network.

#[path = "../common/made_layouts.rs"]
mod made_layouts;
#[path = "../common/made_models.rs"]
mod made_models;
#[path = "../../crates/twinsight-media/tests/decode/recording.rs"]
mod recording;

mod decode_worker;
mod detect_command;
mod detect_models;
mod detect_reference;
mod layouts;
mod model_add;
mod model_command;
mod quantize;
