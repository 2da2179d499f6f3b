//! Whole receive paths on recorded and made streams: order, losses, garbage, VP8 and shedding, in simulated time.

mod recording;

mod decode_garbage;
mod decode_order;
mod packet_loss;
mod shedding;
mod vp8_decode;
