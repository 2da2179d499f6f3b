//! Bridges: pictures of a camera that is no twin of its own come in, as access units of H.264, and go to whoever shows them: the
//! track of a camera twin, or the node itself. `source` is what all kinds of cameras have in common, `rtsp` asks an IP camera,
//! `device` a video device of this machine.

mod device;
mod rtsp;
pub mod source;
