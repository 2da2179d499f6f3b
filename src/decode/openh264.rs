//! openh264 through its raw API: an access unit goes in with a tag, pictures come out with it, copied
//! into pooled buffers. The only file with `unsafe` for it.
//!
//! The tag travels as the bit stream's timestamp (`uiInBsTimeStamp` → `uiOutYuvTimeStamp`). For every
//! profile but baseline the decoder gives pictures one unit late; flushing it after each unit
//! (`FlushFrame`) cures that, but leaks the reference count of each flushed picture, and the decoder
//! is out of pictures after about five (openh264 2.6: `ReleaseBufferedReadyPicture*` look for the
//! buffer in `m_pPicBuff`, which only its threaded mode sets). So it is told that every stream is
//! baseline: then each picture comes out with its unit, and putting them in order is ours.
#![expect(
    unsafe_code,
    reason = "the safe wrapper cannot set a unit's timestamp nor tell a picture's"
)]

use std::ffi::{c_int, c_long};
use std::fmt;
use std::ptr;

use openh264::OpenH264API;
use openh264::decoder::{Decoder, DecoderConfig, Flush};
use openh264_sys2::{DECODER_OPTION_NUM_OF_FRAMES_REMAINING_IN_BUFFER, SBufferInfo, dsErrorFree};

use super::decoder::{DecoderError, Picture};
use super::frame::{PictureSize, PlanePool};
use crate::config::Codec;
use crate::h264::nal::{NalType, before_slices};
use crate::h264::sps::as_baseline;
use crate::telemetry::cpu::Stopwatch;

/// The decoder buffers 16 pictures at most; a drain that finds more has lost count.
const MAX_BUFFERED: usize = 16;

/// One openh264 decoder. Error concealment is off, and so is its own trace on standard error.
pub struct OpenH264 {
    decoder: Decoder,
    relabelling: Relabelling,
}

/// Tells streams as baseline. Each keyframe brings the same parameter set, so that the last one is remembered.
#[derive(Default)]
struct Relabelling {
    sps: Vec<u8>,
    /// `sps` told as baseline, unless it need not or cannot be.
    baseline: Option<Vec<u8>>,
    /// The unit that was relabelled last.
    unit: Vec<u8>,
}

impl fmt::Debug for OpenH264 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenH264").finish_non_exhaustive()
    }
}

impl OpenH264 {
    /// A fresh decoder.
    pub fn new() -> Result<Self, DecoderError> {
        let config = DecoderConfig::new()
            .debug(false)
            .flush_after_decode(Flush::NoFlush);
        let decoder =
            Decoder::with_api_config(OpenH264API::from_source(), config).map_err(|error| {
                DecoderError::Create {
                    codec: Codec::H264,
                    code: error.native_code(),
                }
            })?;
        Ok(Self {
            decoder,
            relabelling: Relabelling::default(),
        })
    }

    /// See [`Decoder::decode`](super::decoder::Decoder::decode).
    pub fn decode(
        &mut self,
        unit: &[u8],
        tag: u64,
        pool: &PlanePool,
        pictures: &mut Vec<Picture>,
    ) -> Result<(), DecoderError> {
        let unit = self.relabelling.relabel(unit);
        let Ok(length) = c_int::try_from(unit.len()) else {
            return Err(DecoderError::Refused(0));
        };
        let mut planes = [ptr::null_mut::<u8>(); 3];
        let mut info = SBufferInfo {
            uiInBsTimeStamp: tag,
            ..SBufferInfo::default()
        };
        // SAFETY: `unit` is `length` readable bytes for the call, which copies them; `planes` is the
        // array of three pointers and `info` the structure that the call writes to. No option of the
        // decoder is changed.
        let state = unsafe {
            self.decoder.raw_api().decode_frame_no_delay(
                unit.as_ptr(),
                length,
                planes.as_mut_ptr(),
                &raw mut info,
            )
        };
        let failed = state != dsErrorFree;
        // With an error, what comes out is whole only if it belongs to an earlier unit.
        if info.iBufferStatus == 1 && !(failed && info.uiOutYuvTimeStamp == tag) {
            pictures.push(copy(planes, &info, pool)?);
        }
        if failed {
            return Err(DecoderError::Refused(state));
        }
        Ok(())
    }

    /// See [`Decoder::drain`](super::decoder::Decoder::drain). Only of use where a stream cannot be
    /// told as baseline; the decoder leaks what it gives here, so a fresh one must follow.
    pub fn drain(
        &mut self,
        pool: &PlanePool,
        pictures: &mut Vec<Picture>,
    ) -> Result<(), DecoderError> {
        for _ in 0..MAX_BUFFERED {
            if self.buffered()? == 0 {
                break;
            }
            let mut planes = [ptr::null_mut::<u8>(); 3];
            let mut info = SBufferInfo::default();
            // SAFETY: `planes` is the array of three pointers and `info` the structure that the call
            // writes to.
            let state = unsafe {
                self.decoder
                    .raw_api()
                    .flush_frame(planes.as_mut_ptr(), &raw mut info)
            };
            if state != dsErrorFree {
                return Err(DecoderError::Refused(state));
            }
            if info.iBufferStatus != 1 {
                return Err(DecoderError::NoPicture);
            }
            pictures.push(copy(planes, &info, pool)?);
        }
        Ok(())
    }

    /// Pictures that wait in the decoder for their turn.
    fn buffered(&mut self) -> Result<c_int, DecoderError> {
        let mut count: c_int = 0;
        // SAFETY: this option writes one `int` behind the pointer.
        let code: c_long = unsafe {
            self.decoder.raw_api().get_option(
                DECODER_OPTION_NUM_OF_FRAMES_REMAINING_IN_BUFFER,
                (&raw mut count).cast(),
            )
        };
        if code == 0 {
            Ok(count)
        } else {
            Err(DecoderError::NoPicture)
        }
    }
}

impl Relabelling {
    /// The byte stream with its sequence parameter sets told as baseline.
    fn relabel<'a>(&'a mut self, unit: &'a [u8]) -> &'a [u8] {
        self.unit.clear();
        let mut copied = 0;
        for (kind, range) in before_slices(unit) {
            if kind != NalType::Sps {
                continue;
            }
            let sps = &unit[range.clone()];
            if self.sps != sps {
                self.sps.clear();
                self.sps.extend_from_slice(sps);
                self.baseline = as_baseline(sps);
            }
            if let Some(baseline) = &self.baseline {
                self.unit.extend_from_slice(&unit[copied..range.start]);
                self.unit.extend_from_slice(baseline);
                copied = range.end;
            }
        }
        if copied == 0 {
            return unit;
        }
        self.unit.extend_from_slice(&unit[copied..]);
        &self.unit
    }
}

/// Copies a picture out of the decoder's memory, which is valid until its next call. The decoder has
/// applied the cropping to pointers and size.
fn copy(
    planes: [*mut u8; 3],
    info: &SBufferInfo,
    pool: &PlanePool,
) -> Result<Picture, DecoderError> {
    // SAFETY: the union has one variant, which a call that reports a picture has written.
    let buffer = unsafe { info.UsrData.sSystemBuffer };
    let px = |value: c_int| usize::try_from(value).map_err(|_| DecoderError::Planes);
    let size = PictureSize {
        width_px: px(buffer.iWidth)?,
        height_px: px(buffer.iHeight)?,
    };
    let (luma_stride, chroma_stride) = (px(buffer.iStride[0])?, px(buffer.iStride[1])?);
    let (chroma_width, chroma_height) = (size.chroma_width_px(), size.chroma_height_px());
    if planes.iter().any(|plane| plane.is_null())
        || size.width_px == 0
        || size.height_px == 0
        || luma_stride < size.width_px
        || chroma_stride < chroma_width
    {
        return Err(DecoderError::Planes);
    }
    let mut watch = Stopwatch::start();
    let mut target = pool.acquire(size.i420_bytes());
    let layout = [
        (planes[0], luma_stride, size.width_px, size.height_px),
        (planes[1], chroma_stride, chroma_width, chroma_height),
        (planes[2], chroma_stride, chroma_width, chroma_height),
    ];
    let mut rest = target.bytes_mut();
    for (source, stride, width, height) in layout {
        let (plane, behind) = rest.split_at_mut(width * height);
        rest = behind;
        for (row, line) in plane.chunks_exact_mut(width).enumerate() {
            // SAFETY: the decoder's plane has `height` rows of `stride` ≥ `width` bytes from `source`
            // on, and stays as it is until the decoder's next call.
            let decoded = unsafe { std::slice::from_raw_parts(source.add(row * stride), width) };
            line.copy_from_slice(decoded);
        }
    }
    Ok(Picture {
        tag: info.uiOutYuvTimeStamp,
        planes: target,
        size,
        copy_cpu: watch.lap().cpu,
    })
}
