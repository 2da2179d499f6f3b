//! libvpx's VP8 decoder through its raw API: a frame goes in, its picture comes out at once, copied into a pooled
//! buffer. The only file with `unsafe` for it.
//!
//! It decodes on the caller's thread, without postprocessing and error concealment, so that pictures are to the bit what
//! the stream says (RFC 6386).
#![expect(unsafe_code, reason = "libvpx has no safe wrapper for its decoder")]

use std::ffi::{c_int, c_uint};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr;

use vpx_sys::vp8_dec_control_id::VP8D_GET_FRAME_CORRUPTED;
use vpx_sys::{
    VPX_CODEC_OK, VPX_DECODER_ABI_VERSION, vpx_codec_control_, vpx_codec_ctx_t, vpx_codec_dec_cfg,
    vpx_codec_dec_init_ver, vpx_codec_decode, vpx_codec_destroy, vpx_codec_err_t,
    vpx_codec_get_frame, vpx_codec_vp8_dx, vpx_image_t, vpx_img_fmt,
};

use super::decoder::{DecoderError, Picture};
use crate::clock::Clock;
use crate::codec::Codec;
use crate::picture::{PictureSize, PlanePool};

/// One libvpx decoder.
pub struct Libvpx {
    /// It is boxed because the library remembers its address.
    context: Box<vpx_codec_ctx_t>,
}

// SAFETY: the context is used by one thread at a time, through `&mut self`; libvpx keeps nothing of the thread that made
// it.
unsafe impl Send for Libvpx {}

impl fmt::Debug for Libvpx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Libvpx").finish_non_exhaustive()
    }
}

impl Libvpx {
    /// A decoder that has seen no frame.
    pub(super) fn new() -> Result<Self, DecoderError> {
        let config = vpx_codec_dec_cfg {
            threads: 1,
            w: 0,
            h: 0,
        };
        let version = VPX_DECODER_ABI_VERSION.cast_signed();
        let mut context = Box::new(MaybeUninit::<vpx_codec_ctx_t>::zeroed());
        // SAFETY: the call writes the context, and reads the configuration, which it copies. It refuses a library whose
        // structures are of another version than the bindings'.
        let state = unsafe {
            vpx_codec_dec_init_ver(
                context.as_mut_ptr(),
                vpx_codec_vp8_dx(),
                &raw const config,
                0,
                version,
            )
        };
        if state != VPX_CODEC_OK {
            return Err(DecoderError::Create {
                codec: Codec::Vp8,
                code: i64::from(state as u32),
            });
        }
        // SAFETY: a call that succeeded has filled the context.
        let context = unsafe { context.assume_init() };
        Ok(Self { context })
    }

    /// See [`Decoder::decode`](super::decoder::Decoder::decode). A frame that is not shown gives no picture.
    pub(super) fn decode(
        &mut self,
        unit: &[u8],
        tag: u64,
        pool: &PlanePool,
        clock: &dyn Clock,
        pictures: &mut Vec<Picture>,
    ) -> Result<(), DecoderError> {
        // The library takes an empty frame for a lost one.
        let length = match c_uint::try_from(unit.len()) {
            Ok(length) if length > 0 => length,
            _ => return Err(DecoderError::Refused(0)),
        };
        // SAFETY: `unit` is `length` readable bytes for the call, which does not keep them.
        let state = unsafe {
            vpx_codec_decode(
                &raw mut *self.context,
                unit.as_ptr(),
                length,
                ptr::null_mut(),
                0,
            )
        };
        if state != VPX_CODEC_OK {
            return Err(refused(state));
        }
        if self.is_corrupted()? {
            return Err(DecoderError::Refused(0));
        }
        let mut iterator = ptr::null();
        // SAFETY: the context is that of the decode above; an image that is given stays valid until the next one.
        let image =
            unsafe { vpx_codec_get_frame(&raw mut *self.context, &raw mut iterator).as_ref() };
        if let Some(image) = image {
            pictures.push(copy(image, tag, pool, clock)?);
        }
        Ok(())
    }

    /// True if the partitions of the last frame ended too early, which the library does not call an error.
    fn is_corrupted(&mut self) -> Result<bool, DecoderError> {
        let mut corrupted: c_int = 0;
        // SAFETY: this control writes one `int` behind the pointer.
        let state = unsafe {
            vpx_codec_control_(
                &raw mut *self.context,
                VP8D_GET_FRAME_CORRUPTED as c_int,
                &raw mut corrupted,
            )
        };
        if state == VPX_CODEC_OK {
            Ok(corrupted != 0)
        } else {
            Err(refused(state))
        }
    }
}

impl Drop for Libvpx {
    fn drop(&mut self) {
        // SAFETY: the context was initialised, and nobody uses it afterwards.
        unsafe { vpx_codec_destroy(&raw mut *self.context) };
    }
}

fn refused(state: vpx_codec_err_t) -> DecoderError {
    DecoderError::Refused((state as u32).cast_signed())
}

/// Copies a picture out of the decoder's memory, which is valid until its next call.
fn copy(
    image: &vpx_image_t,
    tag: u64,
    pool: &PlanePool,
    clock: &dyn Clock,
) -> Result<Picture, DecoderError> {
    let px = |value: c_uint| usize::try_from(value).map_err(|_| DecoderError::Planes);
    let size = PictureSize {
        width_px: px(image.d_w)?,
        height_px: px(image.d_h)?,
    };
    if image.fmt != vpx_img_fmt::VPX_IMG_FMT_I420 || size.width_px == 0 || size.height_px == 0 {
        return Err(DecoderError::Planes);
    }
    let (chroma_width, chroma_height) = (size.chroma_width_px(), size.chroma_height_px());
    let layout = [
        (size.width_px, size.height_px),
        (chroma_width, chroma_height),
        (chroma_width, chroma_height),
    ];
    let began = clock.thread_cpu();
    let mut target = pool.acquire(size.i420_bytes());
    let mut rest = target.bytes_mut();
    for (index, (width, height)) in layout.into_iter().enumerate() {
        let source = image.planes[index].cast_const();
        let stride = usize::try_from(image.stride[index]).map_err(|_| DecoderError::Planes)?;
        if source.is_null() || stride < width {
            return Err(DecoderError::Planes);
        }
        let (plane, behind) = rest.split_at_mut(width * height);
        rest = behind;
        for (row, line) in plane.chunks_exact_mut(width).enumerate() {
            // SAFETY: the decoder's plane has `height` rows of `stride` ≥ `width` bytes from `source` on, and stays as
            // it is until the decoder's next call.
            let decoded = unsafe { std::slice::from_raw_parts(source.add(row * stride), width) };
            line.copy_from_slice(decoded);
        }
    }
    Ok(Picture {
        tag,
        planes: target,
        size,
        copy_cpu: clock.thread_cpu().saturating_sub(began),
    })
}
