//! Streams of media: packets of peer connections come in, frames and packets of tracks go out; and the app's own tracks the other
//! way. The node subscribes to cameras with a [`CameraStream`](camera::CameraStream), or gives the access units of a camera that is no
//! twin to a [`DirectStream`](direct::DirectStream); users of the crate have [`MediaStream`].
//! Each stream has a task, which drives its link, and a decode thread if somebody wants frames.

#[cfg(feature = "webrtc")]
pub mod camera;
#[cfg(feature = "webrtc")]
mod camera_clock;
#[cfg(feature = "webrtc")]
mod change_log;
#[cfg(feature = "webrtc")]
mod decoding;
#[cfg(feature = "webrtc")]
pub mod direct;
#[cfg(feature = "webrtc")]
mod direct_state;
#[cfg(all(feature = "webrtc", feature = "openh264"))]
mod encoder;
#[cfg(feature = "webrtc")]
mod frames;
#[cfg(feature = "webrtc")]
mod gop;
#[cfg(feature = "webrtc")]
mod inbound_router;
#[cfg(feature = "webrtc")]
mod incoming;
#[cfg(feature = "webrtc")]
mod listener;
#[cfg(feature = "webrtc")]
mod local_track;
#[cfg(feature = "webrtc")]
mod options;
mod queue;
#[cfg(feature = "webrtc")]
mod remote_track;
#[cfg(feature = "webrtc")]
mod shared;
#[cfg(feature = "webrtc")]
mod stream;
#[cfg(feature = "webrtc")]
pub mod stream_state;
#[cfg(feature = "webrtc")]
mod stream_task;
#[cfg(feature = "webrtc")]
mod viewer_queue;
pub mod worker;

#[cfg(all(feature = "webrtc", feature = "openh264"))]
pub use self::encoder::{EncoderOptions, VideoEncoder, VideoEncoderError};
#[cfg(feature = "webrtc")]
pub use self::frames::Frames;
#[cfg(feature = "webrtc")]
pub use self::incoming::Incoming;
#[cfg(feature = "webrtc")]
pub use self::listener::{AcceptStreamsOptions, MediaStreamAcceptor, MediaStreamListener};
#[cfg(feature = "webrtc")]
pub use self::local_track::{LocalTrack, UnitTime};
#[cfg(feature = "webrtc")]
pub use self::options::{Direction, MediaError, MediaStreamOptions};
#[cfg(feature = "webrtc")]
pub use self::remote_track::{MediaPacket, RemoteTrack, TrackPackets};
#[cfg(feature = "webrtc")]
pub use self::shared::MediaState;
#[cfg(feature = "webrtc")]
pub use self::stream::{MediaStream, StreamTracks};
#[cfg(feature = "webrtc")]
pub use crate::realtime::rtp_track::TrackKind;
/// The names of codecs, as options take them.
pub use twinsight_media::codec::Codec;
/// A decoded picture, as streams give it.
pub use twinsight_media::picture::Frame;
