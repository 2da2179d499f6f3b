//! Sampling of rows: a row of the picture comes in, a row of the tensor's width goes out, and two of those are blended to a
//! row of the tensor. Samples are picked before they are converted to RGB, so that the work grows with the tensor and not with
//! the picture. [`Preprocessor`](super::Preprocessor) runs it.
//!
//! The same loops are compiled twice, for any processor and for AVX2. Only picking has code of its own for AVX2 and NEON,
//! which shuffles 16 bytes at a time instead of copying one by one.
#![cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(
        unsafe_code,
        reason = "AVX2 and NEON are called when the processor has them"
    )
)]

use super::affine::ChannelAffine;
use super::resize::Axis;
use twinsight_media::color::{convert, high};
use twinsight_media::picture::Color;

/// How many columns are picked at once.
const BLOCK: usize = 16;

/// A [`SampledRow`] holds fixed-point numbers: this stands for 1 of a byte's value.
const SAMPLED_ONE: f32 = 64.0;

/// The instructions that a [`Sampler`] uses. The results are the same with all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// Those that the build may use on any processor: SSE2 on x86_64, and on aarch64 NEON where the compiler uses it by itself.
    Baseline,
    /// Made by [`best`](Self::best) alone, which asks the processor first.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Made by [`best`](Self::best) alone. It stands for NEON's shuffle, which the compiler does not use by itself.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Samples rows of pictures of one geometry.
#[derive(Debug)]
pub(super) struct Sampler {
    instructions: Instructions,
    /// The taps of the columns in a row of luma, and below in a row of chroma, block by block.
    luma: Vec<Taps>,
    chroma: Vec<Taps>,
    /// The share of the second tap, times 2^15, for each column.
    shares: Vec<i16>,
    /// The picked samples of y, u and v: those of all first taps, then those of all second taps.
    picked: [Vec<u8>; 3],
    /// The picked samples as red, green and blue, in the same order.
    converted: [Vec<i16>; 3],
}

/// The taps of a block of columns.
#[derive(Debug)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    expect(dead_code, reason = "only AVX2 and NEON read windows")
)]
struct Taps {
    firsts: [u32; BLOCK],
    seconds: [u32; BLOCK],
    /// Windows that cover all taps; empty if the row is shorter than a window.
    windows: Vec<Window>,
}

/// A run of bytes of a row, and which taps they are.
#[derive(Debug)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    expect(dead_code, reason = "only AVX2 and NEON read windows")
)]
struct Window {
    start: usize,
    /// For each first and each second tap the index of its byte in the window, or [`ELSEWHERE`](Self::ELSEWHERE).
    bytes: [[u8; BLOCK]; 2],
}

/// Red, green and blue of a picture's row at the columns of the tensor, in units of `1 / SAMPLED_ONE`.
pub(super) type SampledRow = [Vec<i16>; 3];

impl Instructions {
    /// The fastest that this processor has.
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self::Neon;
        }
        Self::Baseline
    }
}

impl Taps {
    /// The taps in a row of `row_bytes` bytes, and the windows that cover them.
    fn new(firsts: [u32; BLOCK], seconds: [u32; BLOCK], row_bytes: usize) -> Self {
        let mut windows = Vec::new();
        if let Some(last_start) = row_bytes.checked_sub(Window::BYTES) {
            let mut next = 0;
            while next < BLOCK {
                let start = (firsts[next] as usize).min(last_start);
                let mut bytes = [[Window::ELSEWHERE; BLOCK]; 2];
                while next < BLOCK && seconds[next] as usize - start < Window::BYTES {
                    let byte =
                        |at: u32| u8::try_from(at as usize - start).expect("a window has 16 bytes");
                    bytes[0][next] = byte(firsts[next]);
                    bytes[1][next] = byte(seconds[next]);
                    next += 1;
                }
                windows.push(Window { start, bytes });
            }
        }
        Self {
            firsts,
            seconds,
            windows,
        }
    }
}

impl Window {
    const BYTES: usize = 16;
    /// The index of a tap that is in another window: a shuffle gives 0 for it.
    const ELSEWHERE: u8 = 0x80;
}

impl Sampler {
    /// A sampler without tables; [`fill`](Self::fill) comes first.
    pub(super) fn new(instructions: Instructions) -> Self {
        Self {
            instructions,
            luma: Vec::new(),
            chroma: Vec::new(),
            shares: Vec::new(),
            picked: Default::default(),
            converted: Default::default(),
        }
    }

    /// Computes the tables for the columns of an axis.
    pub(super) fn fill(&mut self, axis: &Axis, width_px: usize) {
        self.luma.clear();
        self.chroma.clear();
        self.shares.clear();
        for taps in axis.taps().chunks(BLOCK) {
            // Columns that fill up the last block repeat the last column.
            let tap = |i: usize| taps[i.min(taps.len() - 1)];
            let firsts = std::array::from_fn(|i| tap(i).first);
            let seconds = std::array::from_fn(|i| tap(i).second);
            self.luma.push(Taps::new(firsts, seconds, width_px));
            let [firsts, seconds] = [firsts, seconds].map(|taps| taps.map(|at| at / 2));
            let chroma = Taps::new(firsts, seconds, width_px.div_ceil(2));
            self.chroma.push(chroma);
            self.shares.extend((0..BLOCK).map(|i| share(tap(i).weight)));
        }
        for row in &mut self.picked {
            row.resize(2 * self.shares.len(), 0);
        }
        for row in &mut self.converted {
            row.resize(2 * self.shares.len(), 0);
        }
    }

    /// Samples a row of y, u and v.
    pub(super) fn sample_planes(&mut self, color: Color, rows: [&[u8]; 3], out: &mut SampledRow) {
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Avx2` is made only if the processor has AVX2.
            Instructions::Avx2 if rows[1].len() >= Window::BYTES => unsafe {
                self.sample_planes_avx2(color, rows, out);
            },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `Neon` is made only if the processor has NEON.
            Instructions::Neon if rows[1].len() >= Window::BYTES => unsafe {
                self.sample_planes_neon(color, rows, out);
            },
            _ => {
                for (plane, row) in rows.into_iter().enumerate() {
                    let taps = if plane == 0 { &self.luma } else { &self.chroma };
                    pick(row, taps, &mut self.picked[plane]);
                }
                self.convert(color, out);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn sample_planes_avx2(&mut self, color: Color, [ys, us, vs]: [&[u8]; 3], out: &mut SampledRow) {
        let [picked_y, picked_u, picked_v] = &mut self.picked;
        pick_avx2([ys], &self.luma, [picked_y]);
        pick_avx2([us, vs], &self.chroma, [picked_u, picked_v]);
        self.convert(color, out);
    }

    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
    fn sample_planes_neon(&mut self, color: Color, [ys, us, vs]: [&[u8]; 3], out: &mut SampledRow) {
        let [picked_y, picked_u, picked_v] = &mut self.picked;
        pick_neon([ys], &self.luma, [picked_y]);
        pick_neon([us, vs], &self.chroma, [picked_u, picked_v]);
        self.convert(color, out);
    }

    /// Converts the picked samples to RGB and blends their taps.
    #[inline(always)]
    fn convert(&mut self, color: Color, out: &mut SampledRow) {
        let picked = self.picked.each_ref().map(Vec::as_slice);
        let converted = self.converted.each_mut().map(Vec::as_mut_slice);
        convert(color, picked, converted);
        for (values, out) in self.converted.iter().zip(out) {
            blend_taps(values, &self.shares, out);
        }
    }

    /// Samples a row of interleaved RGB.
    pub(super) fn sample_rgb(&mut self, row: &[u8], out: &mut SampledRow) {
        let pixels = row.as_chunks::<3>().0;
        let columns = self.shares.len();
        for (channel, out) in out.iter_mut().enumerate() {
            let values = &mut self.converted[channel];
            let (firsts, seconds) = values.split_at_mut(columns);
            let firsts = firsts.as_chunks_mut::<BLOCK>().0;
            let seconds = seconds.as_chunks_mut::<BLOCK>().0;
            for ((taps, firsts), seconds) in self.luma.iter().zip(firsts).zip(seconds) {
                let pick = |at| i16::from(pixels[at as usize][channel]);
                *firsts = taps.firsts.map(pick);
                *seconds = taps.seconds.map(pick);
            }
            blend_taps(values, &self.shares, out);
        }
    }

    /// Blends a channel of two sampled rows to a row of the tensor.
    pub(super) fn blend_rows(
        &self,
        rows: [&[i16]; 2],
        weight: f32,
        affine: ChannelAffine,
        out: &mut [f32],
    ) {
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Avx2` is made only if the processor has AVX2.
            Instructions::Avx2 => unsafe { blend_rows_avx2(rows, weight, affine, out) },
            // `Neon` needs no code of its own here, since the compiler uses NEON for these loops in any build for aarch64.
            _ => blend_rows(rows, weight, affine, out),
        }
    }
}

/// Picks the bytes of all first taps into the first half of `picked`, and those of all second taps into the second half.
fn pick(row: &[u8], taps: &[Taps], picked: &mut [u8]) {
    let (firsts, seconds) = picked.split_at_mut(picked.len() / 2);
    let firsts = firsts.as_chunks_mut::<BLOCK>().0;
    let seconds = seconds.as_chunks_mut::<BLOCK>().0;
    for ((taps, firsts), seconds) in taps.iter().zip(firsts).zip(seconds) {
        for i in 0..BLOCK {
            firsts[i] = row[taps.firsts[i] as usize];
            seconds[i] = row[taps.seconds[i] as usize];
        }
    }
}

/// Does the same as [`pick`] with rows that share their taps and are not shorter than a window.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn pick_avx2<const N: usize>(rows: [&[u8]; N], taps: &[Taps], picked: [&mut [u8]; N]) {
    use std::arch::x86_64::*;

    let mut picked = picked.map(|picked| picked.split_at_mut(picked.len() / 2));
    for (block, taps) in taps.iter().enumerate() {
        let mut all = [_mm256_setzero_si256(); N];
        for window in &taps.windows {
            // SAFETY: the array has the 32 bytes that are loaded, at any alignment.
            let places = unsafe { _mm256_loadu_si256(window.bytes.as_ptr().cast()) };
            for (all, row) in all.iter_mut().zip(rows) {
                let bytes = &row[window.start..][..Window::BYTES];
                // SAFETY: the slice has the 16 bytes that are loaded, at any alignment.
                let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
                let placed = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), places);
                *all = _mm256_or_si256(*all, placed);
            }
        }
        for (all, (firsts, seconds)) in all.into_iter().zip(&mut picked) {
            let firsts = &mut firsts[block * BLOCK..][..BLOCK];
            let seconds = &mut seconds[block * BLOCK..][..BLOCK];
            // SAFETY: the slices have the 16 bytes that are stored, at any alignment.
            unsafe {
                _mm_storeu_si128(firsts.as_mut_ptr().cast(), _mm256_castsi256_si128(all));
                _mm_storeu_si128(
                    seconds.as_mut_ptr().cast(),
                    _mm256_extracti128_si256::<1>(all),
                );
            }
        }
    }
}

/// Does the same as [`pick`] with rows that share their taps and are not shorter than a window.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn pick_neon<const N: usize>(rows: [&[u8]; N], taps: &[Taps], picked: [&mut [u8]; N]) {
    use std::arch::aarch64::*;

    let mut picked = picked.map(|picked| picked.split_at_mut(picked.len() / 2));
    for (block, taps) in taps.iter().enumerate() {
        let mut all = [[vdupq_n_u8(0); 2]; N];
        for window in &taps.windows {
            let places = window.bytes.each_ref().map(|bytes| {
                // SAFETY: the array has the 16 bytes that are loaded, at any alignment.
                unsafe { vld1q_u8(bytes.as_ptr()) }
            });
            for (all, row) in all.iter_mut().zip(rows) {
                let bytes = &row[window.start..][..Window::BYTES];
                // SAFETY: the slice has the 16 bytes that are loaded, at any alignment.
                let bytes = unsafe { vld1q_u8(bytes.as_ptr()) };
                for (all, places) in all.iter_mut().zip(places) {
                    *all = vorrq_u8(*all, vqtbl1q_u8(bytes, places));
                }
            }
        }
        for (all, (firsts, seconds)) in all.into_iter().zip(&mut picked) {
            for (all, picked) in all.into_iter().zip([firsts, seconds]) {
                let picked = &mut picked[block * BLOCK..][..BLOCK];
                // SAFETY: the slice has the 16 bytes that are stored, at any alignment.
                unsafe { vst1q_u8(picked.as_mut_ptr(), all) };
            }
        }
    }
}

/// Blends the two taps of each column. `values` are in 0..=255, all first taps before all second taps.
#[inline(always)]
fn blend_taps(values: &[i16], shares: &[i16], out: &mut Vec<i16>) {
    out.resize(shares.len(), 0);
    let (firsts, seconds) = values.split_at(shares.len());
    let taps = firsts.iter().zip(seconds).zip(shares);
    for (out, ((&first, &second), &share)) in out.iter_mut().zip(taps) {
        // The difference is shifted by 7 bits and the share has 15, so the upper 16 bits of the product have 6 fractional bits,
        // as the shifted first tap.
        *out = (first << 6) + high((second - first) << 7, share);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a weight is in 0..1")]
fn share(weight: f32) -> i16 {
    (weight * 32768.0).round().min(32767.0) as i16
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn blend_rows_avx2(rows: [&[i16]; 2], weight: f32, affine: ChannelAffine, out: &mut [f32]) {
    blend_rows(rows, weight, affine, out);
}

#[inline(always)]
fn blend_rows(rows: [&[i16]; 2], weight: f32, affine: ChannelAffine, out: &mut [f32]) {
    let gain = affine.gain / SAMPLED_ONE;
    let gain_below = gain * weight;
    for ((out, &above), &below) in out.iter_mut().zip(rows[0]).zip(rows[1]) {
        *out = f32::from(above) * gain + (f32::from(below - above) * gain_below + affine.bias);
    }
}
