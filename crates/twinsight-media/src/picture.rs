//! Decoded pictures: I420 planes in pooled memory, with the times that their events report. The decoder takes a buffer from a
//! [`PlanePool`] and makes a [`Frame`] of it. Once the last holder has dropped the frame, the pool gives its buffer out again.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use thiserror::Error;

use crate::rtp::RtpTimestamp;

/// A decoded picture. Cloning shares its planes.
#[derive(Debug, Clone)]
pub struct Frame {
    planes: Arc<[u8]>,
    size: PictureSize,
    color: Color,
    timing: FrameTiming,
}

/// Width and height of a picture, after cropping. Odd sizes have chroma planes rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PictureSize {
    /// Luma columns.
    pub width_px: usize,
    /// Luma rows.
    pub height_px: usize,
}

impl PictureSize {
    /// Columns of a chroma plane.
    pub fn chroma_width_px(self) -> usize {
        self.width_px.div_ceil(2)
    }

    /// Rows of a chroma plane.
    pub fn chroma_height_px(self) -> usize {
        self.height_px.div_ceil(2)
    }

    /// Bytes of the three planes together, without padding.
    pub fn i420_bytes(self) -> usize {
        self.width_px * self.height_px + 2 * self.chroma_width_px() * self.chroma_height_px()
    }
}

/// How YUV maps to RGB (H.264 Annex E). Unspecified means BT.601 limited range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Color {
    /// Which coefficients convert.
    pub matrix: Matrix,
    /// True for 0..=255, false for 16..=235 (luma) and 16..=240 (chroma).
    pub full_range: bool,
}

/// `matrix_coefficients` of the VUI, as far as cameras use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Matrix {
    /// Standard definition, and whatever does not say.
    #[default]
    Bt601,
    /// High definition.
    Bt709,
}

/// The times of a frame. All of them are monotonic, except `captured_at_unix_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTiming {
    /// Arrival of the access unit's first packet.
    pub received_at: Instant,
    /// Arrival of the access unit's last packet.
    pub completed_at: Instant,
    /// When the picture left the decoder.
    pub decoded_at: Instant,
    /// Media time of the access unit, at 90 kHz.
    pub rtp_timestamp: RtpTimestamp,
    /// When the picture was taken, by the sender's clock and in milliseconds since 1970. It is known from RTCP sender
    /// reports, and only reported: nothing is decided by it.
    pub captured_at_unix_ms: Option<u64>,
}

/// One plane of samples without padding.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// Row after row, `stride` bytes each.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// The three planes of an I420 picture: `y` is height × width, `u` and `v` half of that, rounded up.
#[derive(Debug, Clone, Copy)]
pub struct I420<'a> {
    /// Luma.
    pub y: Plane<'a>,
    /// Blue difference.
    pub u: Plane<'a>,
    /// Red difference.
    pub v: Plane<'a>,
    /// Size of the luma plane.
    pub size: PictureSize,
    /// How its samples map to RGB.
    pub color: Color,
}

/// Kinds of H.264 that are not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsupported {
    /// Its sequence may hold fields (`frame_mbs_only_flag` 0).
    #[error("the video is interlaced, which is not supported: set its source to progressive")]
    Interlaced,
    /// More bits than a byte has.
    #[error(
        "the video has {bits} bits a sample (profile_idc {profile_idc}), and only 8 are supported: set its source to the profile Baseline, Main or High"
    )]
    BitDepth {
        /// Bits of a sample.
        bits: u8,
        /// `profile_idc` of the stream.
        profile_idc: u8,
    },
    /// More chroma than one sample for four of luma.
    #[error(
        "the video has {chroma} chroma (profile_idc {profile_idc}), and only 4:2:0 and grey are supported: set its source to the profile Baseline, Main or High"
    )]
    Chroma {
        /// The chroma format as people write it: 4:2:2 or 4:4:4.
        chroma: &'static str,
        /// `profile_idc` of the stream.
        profile_idc: u8,
    },
    /// Macroblocks bypass the transform.
    #[error(
        "the video is lossless (profile_idc {profile_idc}), which is not supported: set its source to the profile Baseline, Main or High"
    )]
    Lossless {
        /// `profile_idc` of the stream.
        profile_idc: u8,
    },
    /// Slices in three partitions, of the Extended profile.
    #[error(
        "the video is in data partitions (Extended profile), which are not supported: set its source to the profile Baseline, Main or High"
    )]
    Partitions,
}

impl Frame {
    /// A frame from a filled buffer: `size.i420_bytes()` bytes, Y, U, V.
    ///
    /// # Panics
    /// If the buffer has another length, which is a bug in the decoder's copy.
    pub fn new(planes: PlaneBuffer, size: PictureSize, color: Color, timing: FrameTiming) -> Self {
        assert_eq!(
            planes.bytes().len(),
            size.i420_bytes(),
            "a frame's buffer is its planes"
        );
        Self {
            planes: Arc::clone(&planes.data),
            size,
            color,
            timing,
        }
    }

    /// The samples of the picture.
    pub fn planes(&self) -> I420<'_> {
        I420::from_packed(&self.planes, self.size, self.color)
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.size.width_px
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.size.height_px
    }

    /// When its first packet arrived.
    pub fn received_at(&self) -> Instant {
        self.timing.received_at
    }

    /// When it was taken, by the sender's own clock. It is known only of senders that tell it (RTCP sender reports).
    pub fn captured_at(&self) -> Option<SystemTime> {
        let unix_ms = self.timing.captured_at_unix_ms?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms))
    }

    /// The size in pixels.
    pub fn size(&self) -> PictureSize {
        self.size
    }

    /// When it came and when it was decoded.
    pub fn timing(&self) -> FrameTiming {
        self.timing
    }

    /// How long ago its first packet arrived.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.timing.received_at)
    }
}

impl<'a> I420<'a> {
    /// Planes in one buffer, without padding.
    ///
    /// # Panics
    /// If the buffer is shorter than `size.i420_bytes()`.
    pub fn from_packed(bytes: &'a [u8], size: PictureSize, color: Color) -> Self {
        let (y, chroma) = bytes.split_at(size.width_px * size.height_px);
        let (u, v) = chroma.split_at(size.chroma_width_px() * size.chroma_height_px());
        Self {
            y: Plane {
                data: y,
                stride: size.width_px,
            },
            u: Plane {
                data: u,
                stride: size.chroma_width_px(),
            },
            v: Plane {
                data: v,
                stride: size.chroma_width_px(),
            },
            size,
            color,
        }
    }
}

/// Buffers that pictures are copied into. Each stream has a pool, and allocates only until the pool is filled.
///
/// The pool keeps a reference to each buffer that it gave out, and gives a buffer out again when no other reference is
/// left.
#[derive(Debug, Clone)]
pub struct PlanePool {
    kept: Arc<Mutex<Vec<Arc<[u8]>>>>,
    max_kept: usize,
}

impl PlanePool {
    /// A pool that keeps at most `max_kept` buffers, including those of frames in use.
    pub fn new(max_kept: usize) -> Self {
        Self {
            kept: Arc::default(),
            max_kept,
        }
    }

    /// A buffer of exactly `bytes` bytes, content unspecified.
    pub fn acquire(&self, bytes: usize) -> PlaneBuffer {
        let mut kept = self.kept.lock();
        // A stream that changed its resolution leaves no buffers of the old size behind.
        kept.retain(|data| data.len() == bytes);
        let free = kept
            .iter_mut()
            .rposition(|data| Arc::get_mut(data).is_some());
        let data = match free {
            Some(at) => kept.remove(at),
            None => std::iter::repeat_n(0, bytes).collect(),
        };
        PlaneBuffer {
            data,
            home: self.clone(),
        }
    }

    /// Keeps the buffer in place of the oldest one: that belongs to a frame which somebody holds for long.
    fn keep(&self, data: Arc<[u8]>) {
        let mut kept = self.kept.lock();
        kept.push(data);
        if kept.len() > self.max_kept {
            kept.remove(0);
        }
    }
}

/// A buffer on loan from a [`PlanePool`]: one holder fills it. Dropping it, or making a [`Frame`] of it, gives it back.
#[derive(Debug)]
pub struct PlaneBuffer {
    data: Arc<[u8]>,
    home: PlanePool,
}

impl PlaneBuffer {
    /// Y, U and V without padding.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Y, U and V without padding, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        Arc::get_mut(&mut self.data)
            .expect("no other reference is left, because the pool gave its own away")
    }
}

impl Drop for PlaneBuffer {
    fn drop(&mut self) {
        self.home.keep(Arc::clone(&self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = PlanePool::new(2);
        let mut buffer = pool.acquire(6);
        buffer.bytes_mut()[0] = 7;
        let address = buffer.bytes().as_ptr();
        drop(buffer);
        assert_eq!(pool.acquire(6).bytes().as_ptr(), address);
    }

    #[test]
    fn a_frame_keeps_its_buffer_until_the_last_holder_drops_it() {
        let pool = PlanePool::new(2);
        let size = PictureSize {
            width_px: 2,
            height_px: 2,
        };
        let now = Instant::now();
        let timing = FrameTiming {
            received_at: now,
            completed_at: now,
            decoded_at: now,
            rtp_timestamp: RtpTimestamp(0),
            captured_at_unix_ms: None,
        };
        let frame = |value: u8| {
            let mut planes = pool.acquire(size.i420_bytes());
            planes.bytes_mut().fill(value);
            Frame::new(planes, size, Color::default(), timing)
        };
        let held: Vec<_> = (0..5).map(frame).collect();
        let shared = held[4].clone();
        let address = shared.planes.as_ptr();
        for (value, held) in (0..).zip(held) {
            assert_eq!(held.planes().y.data, [value; 4]);
        }
        assert_ne!(
            frame(5).planes.as_ptr(),
            address,
            "it is held by its second holder"
        );
        drop(shared);
        let again = [frame(6), frame(7)].map(|frame| frame.planes.as_ptr());
        assert!(again.contains(&address), "nobody holds it any more");
    }

    #[test]
    fn odd_sizes_round_chroma_up() {
        let size = PictureSize {
            width_px: 5,
            height_px: 3,
        };
        assert_eq!(size.i420_bytes(), 15 + 2 * 6);
        let bytes: Vec<u8> = (0..27).collect();
        let planes = I420::from_packed(&bytes, size, Color::default());
        assert_eq!(
            (planes.u.data[0], planes.v.data[0], planes.u.stride),
            (15, 21, 3)
        );
    }
}
