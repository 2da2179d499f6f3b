//! From RTP packets to pictures, as plain state: no threads, no sockets, no clock of its own.
//!
//! ```text
//! RTP packets ── reorder ── depacketize ── gate ── decode ── frames
//! ```
//!
//! Time comes in as `now`, or is read from a [`clock::Clock`] that the caller gives. What became of each packet, unit and
//! frame is kept in a [`ledger::StreamLedger`].
//! The modules, in the order of the path; each uses only those above it:

#[doc(hidden)]
#[macro_use]
pub mod label;

pub mod clock;

pub mod codec;

pub mod rtp;

pub mod picture;

pub mod color;

pub mod ledger;

pub mod access_unit;

pub mod h264;

pub mod vp8;

pub mod decode;
