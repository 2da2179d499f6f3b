//! From access units to pictures, and the whole path of a stream: RTP packets come in as they arrive, frames go out with
//! their times. All of it is plain state, and whoever runs [`path::ReceivePath`] gives it a thread.

pub mod cpu_pressure;
pub mod decoder;
pub mod gate;
pub mod keyframes;
#[cfg(feature = "vp8")]
mod libvpx;
mod load;
#[cfg(feature = "openh264")]
mod openh264;
pub mod path;
pub mod shed;
pub mod stream;
