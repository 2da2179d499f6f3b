//! H.264 (ITU-T Rec. H.264) as far as a receiver needs it: NAL units, parameter sets, the RTP payload format of RFC 6184 in
//! both directions, and clips from files. Nothing here panics, whatever bytes come in.

pub mod bits;
pub mod clip;
mod clip_units;
pub mod depacketize;
#[cfg(feature = "openh264")]
pub mod encode;
pub mod mp4;
pub mod nal;
mod open_unit;
pub mod order;
pub mod packetize;
pub mod parameter_sets;
mod pps;
mod slice_header;
pub mod sps;
#[cfg_attr(
    not(feature = "openh264"),
    allow(dead_code, reason = "only the decoder openh264 needs it")
)]
pub(crate) mod sps_for_decoder;
mod vui;
