//! Access units to pictures: RTP packets come in from the tap through a bounded queue, frames go out
//! with their times. A thread a stream runs it; everything below `worker` is plain state.

pub mod cpu_pressure;
pub mod decoder;
pub mod frame;
pub mod gate;
#[cfg(feature = "vp8")]
pub mod libvpx;
pub mod load;
#[cfg(feature = "openh264")]
pub mod openh264;
pub mod path;
pub mod queue;
pub mod shed;
pub mod stream;
pub mod unit;
pub mod worker;
