//! VP8 (RFC 6386) as far as a receiver needs it: the header of a frame, and the RTP payload format of RFC 7741. Nothing
//! here panics, whatever bytes come in.

pub mod depacketize;
mod descriptor;
mod header;
