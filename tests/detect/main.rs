//! From packets to pictures to objects, without a network.

#[cfg(feature = "ort")]
#[path = "../common/made_models.rs"]
mod made_models;
#[cfg(feature = "openh264")]
mod recording;

mod decode_garbage;
mod decode_order;
mod decode_worker;
mod detect_command;
mod detect_models;
mod detect_reference;
mod packet_loss;
mod shedding;
mod vp8_decode;
