//! Streams of media: signalling and a peer connection on one side, frames and tracks on the other. The node
//! subscribes with a [`CameraStream`](camera::CameraStream); users of the crate have [`MediaStream`].

#[cfg(feature = "webrtc")]
pub mod camera;
#[cfg(feature = "webrtc")]
mod core;
#[cfg(all(feature = "webrtc", feature = "openh264"))]
mod encoder;
#[cfg(feature = "webrtc")]
mod frames;
#[cfg(feature = "webrtc")]
mod listener;
#[cfg(feature = "webrtc")]
mod local_track;
pub mod queue;
#[cfg(feature = "webrtc")]
mod remote_track;
#[cfg(feature = "webrtc")]
mod session;
#[cfg(feature = "webrtc")]
mod stream;
pub mod stream_state;
pub mod worker;

#[cfg(feature = "webrtc")]
pub use self::core::MediaState;
#[cfg(all(feature = "webrtc", feature = "openh264"))]
pub use self::encoder::{EncoderOptions, VideoEncoder, VideoEncoderError};
#[cfg(feature = "webrtc")]
pub use self::frames::Frames;
#[cfg(feature = "webrtc")]
pub use self::listener::{
    AcceptStreamsOptions, Incoming, MediaStreamAcceptor, MediaStreamListener,
};
#[cfg(feature = "webrtc")]
pub use self::local_track::LocalTrack;
#[cfg(feature = "webrtc")]
pub use self::remote_track::{MediaPacket, RemoteTrack, TrackPackets};
#[cfg(feature = "webrtc")]
pub use self::stream::{Direction, MediaError, MediaStream, MediaStreamOptions, StreamTracks};
#[cfg(feature = "webrtc")]
pub use crate::realtime::rtp_track::TrackKind;
/// The names of codecs, as options take them.
pub use twinsight_media::codec::Codec;
/// A decoded picture, as streams give it.
pub use twinsight_media::picture::Frame;
