//! Access units to pictures: RTP packets come in as they arrived, frames go out with their times. All of it is plain
//! state; whoever runs [`path::ReceivePath`] gives it a thread.

pub mod cpu_pressure;
pub mod decoder;
pub mod gate;
pub mod keyframes;
#[cfg(feature = "vp8")]
pub mod libvpx;
pub mod load;
#[cfg(feature = "openh264")]
pub mod openh264;
pub mod path;
pub mod shed;
pub mod stream;
