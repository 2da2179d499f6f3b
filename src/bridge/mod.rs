//! Bridges: pictures of a camera that is no twin of its own come in, as access units of H.264, and go to whoever shows them: the
//! track of a camera twin, or the node itself. `source` is what all kinds of cameras have in common, `rtsp` asks an IP camera,
//! `device` a video device of this machine. `camera` makes such a camera a twin on the `hub` and says its `status`, and `fleet` has
//! all of them, as they are configured.

mod camera;
mod device;
mod fleet;
mod hub;
mod rtsp;
pub mod source;
mod status;

pub use self::camera::{BridgeContext, OpenSource};
pub use self::fleet::{BridgeChanges, Bridges};
pub use self::hub::BridgeHub;
pub use self::status::BridgeStatus;
