//! openh264 through its raw API: an access unit goes in with a tag, pictures come out with theirs, copied into pooled
//! buffers. The only file with `unsafe` for it.
//!
//! The tag travels as the bit stream's timestamp (`uiInBsTimeStamp` → `uiOutYuvTimeStamp`). For every profile except
//! Baseline the decoder gives pictures one unit late. Flushing it after each unit (`FlushFrame`) would cure that, but leaks
//! the reference count of each flushed picture, so that the decoder is out of pictures after about five (openh264 2.6:
//! `ReleaseBufferedReadyPicture*` look for the buffer in `m_pPicBuff`, which only its threaded mode sets). So the decoder
//! is told that every stream is Baseline. Then each picture comes out with its unit, and [`DecodeStream`] puts them in
//! order. `Feed` also keeps from it whatever else makes it refuse pictures without need.
//!
//! [`DecodeStream`]: super::stream::DecodeStream
#![expect(
    unsafe_code,
    reason = "the safe wrapper cannot set a unit's timestamp nor tell a picture's"
)]

use std::ffi::{c_int, c_long};
use std::fmt;
use std::ptr;

use bytes::Bytes;
use openh264::OpenH264API;
use openh264::decoder::{Decoder, DecoderConfig, Flush};
use openh264_sys2::{DECODER_OPTION_NUM_OF_FRAMES_REMAINING_IN_BUFFER, SBufferInfo, dsErrorFree};

use super::decoder::{DecoderError, Picture};
use crate::clock::Clock;
use crate::codec::Codec;
use crate::h264::nal::{NalType, START_CODE, SliceStart, annex_b};
use crate::h264::parameter_sets::ParameterSets;
use crate::h264::sps::Sps;
use crate::h264::sps_for_decoder::sps_for_decoder;
use crate::picture::{PictureSize, PlanePool, Unsupported};

/// The decoder holds at most 16 pictures. A drain that finds more would never end.
const MAX_BUFFERED: usize = 16;

/// The chroma sample that has no colour.
const NO_CHROMA: u8 = 128;

/// One openh264 decoder. Its error concealment is off, and so are its own messages on standard error.
pub struct OpenH264 {
    decoder: Decoder,
    feed: Box<Feed>,
}

/// Turns access units into what the decoder takes. Both the streams of cameras and files pass through it.
#[derive(Default)]
struct Feed {
    sets: ParameterSets,
    /// The sequence parameter set of the last IDR picture.
    active: Option<Sps>,
    /// The picture parameter sets that the decoder was given since the last IDR picture, with their ids. The list is
    /// cleared and keeps its memory, so that a keyframe allocates nothing.
    given: Vec<(u32, Bytes)>,
    /// The last sequence parameter set, and what the decoder is told in its place. Keyframes of a stream repeat the same
    /// set.
    sps: Bytes,
    told: Vec<u8>,
    /// The last unit that had to be changed for the decoder.
    unit: Vec<u8>,
}

impl fmt::Debug for OpenH264 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenH264").finish_non_exhaustive()
    }
}

impl OpenH264 {
    /// A decoder that has seen no unit.
    pub(super) fn new() -> Result<Self, DecoderError> {
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
            feed: Box::default(),
        })
    }

    /// See [`Decoder::decode`](super::decoder::Decoder::decode).
    pub(super) fn decode(
        &mut self,
        unit: &[u8],
        tag: u64,
        pool: &PlanePool,
        clock: &dyn Clock,
        pictures: &mut Vec<Picture>,
    ) -> Result<(), DecoderError> {
        let unit = self.feed.prepare(unit)?;
        // Nothing in it is for the decoder, which would take no bytes for the end of the stream.
        if unit.is_empty() {
            return Ok(());
        }
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
        // If there was an error, only pictures of earlier units are whole.
        if info.iBufferStatus == 1 && !(failed && info.uiOutYuvTimeStamp == tag) {
            pictures.push(copy(planes, &info, self.feed.is_grey(), pool, clock)?);
        }
        if failed {
            return Err(DecoderError::Refused(state));
        }
        Ok(())
    }

    /// See [`Decoder::drain`](super::decoder::Decoder::drain). Only streams that cannot be passed off as Baseline need it.
    /// The decoder leaks the pictures that it gives here, so another one has to take its place.
    pub(super) fn drain(
        &mut self,
        pool: &PlanePool,
        clock: &dyn Clock,
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
            pictures.push(copy(planes, &info, self.feed.is_grey(), pool, clock)?);
        }
        Ok(())
    }

    /// How many pictures the decoder holds back.
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

impl Feed {
    /// The unit's slices, and before them the parameter sets that they use and the decoder does not have, in the order that
    /// it wants. Other sets are left out, because a broken one costs a picture even if no slice uses it. Whatever else is
    /// in the unit has to be ignored by a base decoder.
    fn prepare<'a>(&'a mut self, unit: &'a [u8]) -> Result<&'a [u8], Unsupported> {
        self.unit.clear();
        let (mut slices_alone, mut begins) = (true, true);
        // Where the sets end that were put before the first slice.
        let mut sets_end = 0;
        for nal in annex_b(unit) {
            match kind(nal) {
                NalType::IdrSlice | NalType::NonIdrSlice => {}
                NalType::Partition => return Err(Unsupported::Partitions),
                other => {
                    slices_alone = false;
                    if other.is_for_base_decoder() {
                        // Slices that use a set which cannot be read give no picture.
                        let _ = self.sets.remember(nal);
                    }
                    continue;
                }
            }
            if let Some(start) = SliceStart::parse(nal) {
                if begins && (kind(nal) == NalType::IdrSlice || self.active.is_none()) {
                    self.begin_sequence(start.pps_id);
                    sets_end = self.unit.len();
                    slices_alone = false;
                }
                if let Some(unsupported) = self.active.and_then(|sps| sps.unsupported()) {
                    return Err(unsupported);
                }
                let given = self.give_pps(start.pps_id, sets_end);
                sets_end += given;
                slices_alone &= given == 0;
            }
            begins = false;
            self.unit.extend_from_slice(&START_CODE);
            self.unit.extend_from_slice(nal);
        }
        Ok(if slices_alone && !begins {
            unit
        } else {
            &self.unit
        })
    }

    /// Puts the sequence parameter set into the unit: at an IDR picture, or where a file begins without one.
    fn begin_sequence(&mut self, pps_id: u32) {
        self.given.clear();
        // If the sets are not known, the decoder stays with the sequence that it has.
        let Some(sets) = self.sets.of_slice(pps_id) else {
            return;
        };
        self.active = Some(sets.sps);
        if self.sps != sets.sps_nal {
            self.told = sps_for_decoder(&sets.sps_nal).unwrap_or_else(|| sets.sps_nal.to_vec());
            self.sps = sets.sps_nal;
        }
        self.unit.extend_from_slice(&START_CODE);
        self.unit.extend_from_slice(&self.told);
    }

    /// Puts the picture parameter set into the unit at `at`, unless the decoder has it. Gives how many bytes that took.
    fn give_pps(&mut self, id: u32, at: usize) -> usize {
        let Some(sets) = self.sets.of_slice(id) else {
            return 0;
        };
        let known = self.given.iter_mut().find(|(given, _)| *given == id);
        match known {
            Some((_, nal)) if *nal == sets.pps_nal => return 0,
            Some((_, nal)) => *nal = sets.pps_nal.clone(),
            None => self.given.push((id, sets.pps_nal.clone())),
        }
        let bytes = START_CODE.iter().chain(&sets.pps_nal).copied();
        self.unit.splice(at..at, bytes);
        START_CODE.len() + sets.pps_nal.len()
    }

    fn is_grey(&self) -> bool {
        self.active.is_some_and(|sps| sps.is_grey())
    }
}

fn kind(nal: &[u8]) -> NalType {
    nal.first()
        .map_or(NalType::Filler, |&header| NalType::of(header))
}

/// Copies a picture out of the decoder's memory, which is valid until its next call. The decoder has
/// applied the cropping to pointers and size. A grey stream has no chroma, and the decoder leaves those planes as they
/// were.
fn copy(
    planes: [*mut u8; 3],
    info: &SBufferInfo,
    is_grey: bool,
    pool: &PlanePool,
    clock: &dyn Clock,
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
    let began = clock.thread_cpu();
    let mut target = pool.acquire(size.i420_bytes());
    let layout = [
        (planes[0], luma_stride, size.width_px, size.height_px),
        (planes[1], chroma_stride, chroma_width, chroma_height),
        (planes[2], chroma_stride, chroma_width, chroma_height),
    ];
    let mut rest = target.bytes_mut();
    for (index, (source, stride, width, height)) in layout.into_iter().enumerate() {
        let (plane, behind) = rest.split_at_mut(width * height);
        rest = behind;
        if is_grey && index > 0 {
            plane.fill(NO_CHROMA);
            continue;
        }
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
        copy_cpu: clock.thread_cpu().saturating_sub(began),
    })
}
