//! Decoding of a clip: access units come in; pictures go out upright, in display order. The `detect` command runs it, without
//! threads or clocks. A unit that cannot be decoded costs all units up to the next keyframe, as with a camera, so that no
//! damaged picture is shown.

use std::collections::BTreeMap;

use twinsight_client::clock::SystemClock;
use twinsight_media::codec::Codec;
use twinsight_media::decode::decoder::{Decoder, DecoderError, DecoderKind, Picture};
use twinsight_media::h264::clip::Clip;
use twinsight_media::h264::mp4::Turn;
use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::h264::order::display_order;
use twinsight_media::h264::sps::Sps;
use twinsight_media::picture::{Color, I420, PictureSize, PlanePool};

/// At most this many pictures wait for one that is shown earlier, since no decoder has to keep more (H.264, clause A.3.1).
const MAX_WAITING: usize = 16;

/// The access units of a clip that gave no picture.
#[derive(Debug)]
pub(super) struct Undecoded {
    pub(super) units: usize,
    /// Why the first of them gave none.
    pub(super) reason: DecoderError,
}

/// Decodes a clip, calls `each` with each picture in display order, and gives what could not be decoded. The number beside a
/// picture is its place in that order, in which those count too that cannot be decoded.
///
/// # Errors
/// Those of `each`, and if there is no decoder.
pub(super) fn decode<E: From<DecoderError>>(
    clip: &Clip,
    mut each: impl FnMut(I420<'_>, usize) -> Result<(), E>,
) -> Result<Option<Undecoded>, E> {
    let units = clip.units();
    let order = display_order(units.iter().map(|unit| &*unit.data));
    let pool = PlanePool::new(1);
    let mut queue = DisplayQueue::new(units.len());
    let mut first_error = None;
    let mut decoder = None;
    let mut color = Color::default();
    let mut pictures = Vec::new();
    let mut turned = Vec::new();
    let mut show = |queue: &mut DisplayQueue, all: bool| -> Result<(), E> {
        while let Some((picture, color)) = queue.next(all) {
            let planes = I420::from_packed(picture.planes.bytes(), picture.size, color);
            let place = usize::try_from(picture.tag).unwrap_or(usize::MAX);
            each(upright(planes, clip.turn(), &mut turned), place)?;
        }
        Ok(())
    };
    for (unit, place) in units.iter().zip(&order) {
        if unit.is_idr && decoder.is_none() {
            decoder = Some(Decoder::new(DecoderKind::Software, Codec::H264)?);
        }
        let sequence = annex_b(&unit.data).filter(|nal| {
            nal.first()
                .is_some_and(|&header| NalType::of(header) == NalType::Sps)
        });
        if let Some(Ok(sequence)) = sequence.map(Sps::parse).last() {
            color = sequence.color;
        }
        queue.colors.insert(*place, color);
        let Some(in_use) = &mut decoder else {
            queue.failed(*place);
            continue;
        };
        let tag = u64::try_from(*place).unwrap_or(u64::MAX);
        let decoded = in_use.decode(&unit.data, tag, &pool, &SystemClock, &mut pictures);
        if let Err(error) = decoded {
            first_error.get_or_insert(error);
            // The pictures that the decoder still holds are right, but those of the next units would not be.
            let _ = in_use.drain(&pool, &SystemClock, &mut pictures);
            decoder = None;
        }
        queue.take(&mut pictures);
        if decoder.is_none() {
            queue.failed(*place);
        }
        show(&mut queue, false)?;
    }
    if let Some(mut decoder) = decoder {
        let drained = decoder.drain(&pool, &SystemClock, &mut pictures);
        queue.take(&mut pictures);
        if let Err(error) = drained {
            first_error.get_or_insert(error);
        }
    }
    show(&mut queue, true)?;
    let missing = units.len().saturating_sub(queue.shown);
    Ok((missing > 0).then(|| Undecoded {
        units: missing,
        reason: first_error.unwrap_or(DecoderError::NoPicture),
    }))
}

/// Puts pictures from decoding order into display order. A picture's place is its index in display order.
struct DisplayQueue {
    /// The place that is shown next.
    next: usize,
    end: usize,
    /// What waits, by place; `None` for a unit that gives no picture.
    waiting: BTreeMap<usize, Option<Picture>>,
    /// How many pictures wait.
    pictures: usize,
    /// The colours of the units whose picture has not been shown, by place.
    colors: BTreeMap<usize, Color>,
    shown: usize,
}

impl DisplayQueue {
    fn new(units: usize) -> Self {
        Self {
            next: 0,
            end: units,
            waiting: BTreeMap::new(),
            pictures: 0,
            colors: BTreeMap::new(),
            shown: 0,
        }
    }

    fn take(&mut self, pictures: &mut Vec<Picture>) {
        for picture in pictures.drain(..) {
            let place = usize::try_from(picture.tag).unwrap_or(usize::MAX);
            if let Some(None) | None = self.waiting.insert(place, Some(picture)) {
                self.pictures += 1;
            }
        }
    }

    fn failed(&mut self, place: usize) {
        self.waiting.entry(place).or_insert(None);
    }

    /// Takes the next picture. It does not wait for one that is shown earlier if `all` is set or too many wait.
    fn next(&mut self, all: bool) -> Option<(Picture, Color)> {
        loop {
            let first = self.waiting.first_entry()?;
            let place = *first.key();
            if place > self.next && self.pictures <= MAX_WAITING && !all {
                return None;
            }
            let picture = first.remove();
            self.next = self.next.max((place + 1).min(self.end));
            let color = self.colors.remove(&place).unwrap_or_default();
            if let Some(picture) = picture {
                self.pictures -= 1;
                self.shown += 1;
                return Some((picture, color));
            }
        }
    }
}

/// Gives the picture as it is to be seen. If it has to be turned, it is copied to `memory`.
fn upright<'a>(planes: I420<'a>, turn: Turn, memory: &'a mut Vec<u8>) -> I420<'a> {
    if turn == Turn::default() {
        return planes;
    }
    let size = match turn.transpose {
        true => PictureSize {
            width_px: planes.size.height_px,
            height_px: planes.size.width_px,
        },
        false => planes.size,
    };
    memory.clear();
    let (width, height) = (size.width_px, size.height_px);
    let chroma = (size.chroma_width_px(), size.chroma_height_px());
    for (plane, (width, height)) in [
        (planes.y, (width, height)),
        (planes.u, chroma),
        (planes.v, chroma),
    ] {
        for row in 0..height {
            let y = if turn.mirror_y { height - 1 - row } else { row };
            memory.extend((0..width).map(|column| {
                let x = if turn.mirror_x {
                    width - 1 - column
                } else {
                    column
                };
                match turn.transpose {
                    true => plane.data[x * plane.stride + y],
                    false => plane.data[y * plane.stride + x],
                }
            }));
        }
    }
    I420::from_packed(memory, size, planes.color)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use twinsight_media::color::to_rgb8;
    use twinsight_media::h264::clip::NotAClip;

    /// What a clip came to: of each picture its size and the mean of its RGB values, and what is wrong.
    #[derive(Debug, Default)]
    struct Decoded {
        sizes: Vec<(usize, usize)>,
        means: Vec<u8>,
        undecoded: Option<Undecoded>,
        damage: Option<NotAClip>,
    }

    fn see(bytes: &[u8]) -> Result<Decoded, NotAClip> {
        let clip = Clip::from_bytes(bytes)?;
        let mut seen = Decoded {
            damage: clip.damage().cloned(),
            ..Decoded::default()
        };
        let mut rgb = Vec::new();
        let decoded = decode::<DecoderError>(&clip, |planes, _| {
            to_rgb8(&planes, &mut rgb);
            let sum: usize = rgb.iter().copied().map(usize::from).sum();
            seen.means.push(u8::try_from(sum / rgb.len()).unwrap());
            seen.sizes
                .push((planes.size.width_px, planes.size.height_px));
            Ok(())
        });
        seen.undecoded = decoded.expect("a decoder");
        Ok(seen)
    }

    fn fault(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/faults");
        std::fs::read(format!("{folder}/{name}")).unwrap()
    }

    /// The mean RGB values of the fault files' pictures: seven, or the first or last of them.
    const SEVEN: [u8; 7] = [16, 51, 86, 121, 156, 191, 225];

    fn assert_means(name: &str, seen: &Decoded, expected: &[u8]) {
        let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 3;
        assert!(
            seen.means.len() == expected.len() && seen.means.iter().zip(expected).all(near),
            "{name}: {:?} for {expected:?}, {:?}",
            seen.means,
            seen.undecoded
        );
    }

    #[test]
    fn the_fault_files_give_their_pictures_in_the_order_of_display() {
        let whole = [
            "ctrl.h264",
            "ctrl.mp4",
            // Every default x264 file has B frames, one a reference for others.
            "b_order.h264",
            "b_order.mp4",
            "mono400.h264",
            // What a base decoder has to ignore.
            "prefix14_nopayload.h264",
            "sub_sps15_nal20.h264",
            "sps_vui_trunc_flag.h264",
            "sps_vui_trunc_hrd.h264",
            "sps_level62.h264",
            // Padding and order of parameter sets.
            "many_zero.h264",
            "pps_before_sps.h264",
            "inband_sps_only.mp4",
            "avc3.mp4",
            // Boxes that nobody needs.
            "colr_nclx18.mp4",
            "hdlr_notutf8.mp4",
            "aud_esds_broken.mp4",
            "aud_nostbl.mp4",
            "btrt_short.mp4",
            "udta_garbage.mp4",
            "meta_garbage.mp4",
            "stz2.mp4",
            "first_uuid.mp4",
            "first_skip.mp4",
            // A byte stream within one NAL unit.
            "len_startcodes_inside.mp4",
            "rot90.mp4",
        ];
        for name in whole {
            let seen = see(&fault(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_means(name, &seen, &SEVEN);
            assert!(seen.undecoded.is_none(), "{name}: {:?}", seen.undecoded);
            assert_eq!(seen.damage, None, "{name}");
            let upright = if name == "rot90.mp4" {
                (48, 64)
            } else {
                (64, 48)
            };
            assert!(seen.sizes.iter().all(|size| *size == upright), "{name}");
        }
    }

    #[test]
    fn of_partial_files_what_is_whole_comes_first() {
        let seen = see(&fault("sets_once_first_idr_lost.h264")).unwrap();
        assert_means("the first keyframe is lost", &seen, &SEVEN[4..]);
        for (name, pictures) in [("faststart_cut.mp4", 5), ("cut_last.mp4", 6)] {
            let seen = see(&fault(name)).unwrap();
            assert_means(name, &seen, &SEVEN[..pictures]);
            assert!(seen.damage.is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_not_supported_gives_no_picture_and_a_reason() {
        for name in ["interlaced.h264", "hi10.h264", "yuv422.h264"] {
            let seen = see(&fault(name)).unwrap();
            assert_means(name, &seen, &[]);
            assert!(seen.undecoded.is_some(), "{name}");
        }
    }

    #[test]
    fn a_unit_that_cannot_be_decoded_costs_those_up_to_the_next_keyframe() {
        let clip = fault("ctrl.h264");
        let mut units: Vec<Vec<u8>> = Clip::from_bytes(&clip)
            .unwrap()
            .units()
            .iter()
            .map(|unit| unit.data.to_vec())
            .collect();
        // A second slice header that no picture has.
        units[1].truncate(6);
        let seen = see(&units.concat()).unwrap();
        assert_means("a broken unit", &seen, &[&SEVEN[..1], &SEVEN[4..]].concat());
        let undecoded = seen.undecoded.expect("three units");
        assert_eq!(undecoded.units, 3);
    }

    #[test]
    fn pictures_are_turned_as_the_file_says() {
        // 4 by 2 pixels: 1 to 4, 5 to 8; chroma 21 22, 31 32.
        let packed = [1, 2, 3, 4, 5, 6, 7, 8, 21, 22, 31, 32];
        let size = PictureSize {
            width_px: 4,
            height_px: 2,
        };
        let turned = |transpose, mirror_x, mirror_y| {
            let turn = Turn {
                transpose,
                mirror_x,
                mirror_y,
            };
            let planes = I420::from_packed(&packed, size, Color::default());
            let mut memory = Vec::new();
            let upright = upright(planes, turn, &mut memory);
            (
                upright.size.width_px,
                upright.y.data.to_vec(),
                upright.u.data.to_vec(),
            )
        };
        assert_eq!(
            turned(true, true, false),
            (2, vec![5, 1, 6, 2, 7, 3, 8, 4], vec![21, 22])
        );
        assert_eq!(
            turned(false, true, true),
            (4, vec![8, 7, 6, 5, 4, 3, 2, 1], vec![22, 21])
        );
        assert_eq!(turned(true, false, true).1, [4, 8, 3, 7, 2, 6, 1, 5]);
    }

    /// A moving picture, coded as ffmpeg is told.
    fn made(folder: &Path, name: &str, options: &str) -> PathBuf {
        let file = folder.join(name);
        let status = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi"])
            .args(["-i", "testsrc2=s=128x96:r=25", "-frames:v", "40"])
            .args("-pix_fmt yuv420p -c:v libx264 -preset veryfast".split(' '))
            .args(options.split_whitespace())
            .arg(&file)
            .status()
            .unwrap();
        assert!(status.success(), "{name} {options}");
        file
    }

    /// The samples of all pictures by ffmpeg's decoder, in the order of display and upright.
    fn samples_of_ffmpeg(file: &Path) -> Vec<u8> {
        let is_mp4 = file
            .extension()
            .is_some_and(|extension| extension != "h264");
        // What is in the file, also where a player would cut it off.
        let whole: &[&str] = if is_mp4 {
            &["-ignore_editlist", "1"]
        } else {
            &[]
        };
        let output = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-flags", "unaligned"])
            .args(whole)
            .arg("-i")
            .arg(file)
            .args("-map 0:v:0 -vsync passthrough -pix_fmt yuv420p -f rawvideo -".split(' '))
            .output()
            .unwrap();
        output.stdout
    }

    /// The same of ours, the number of pictures, and what is wrong.
    fn samples(file: &Path) -> (Vec<u8>, usize, Option<Undecoded>) {
        let clip = Clip::read(file).unwrap();
        let (mut samples, mut pictures) = (Vec::new(), 0);
        let undecoded = decode::<DecoderError>(&clip, |planes, _| {
            pictures += 1;
            for (plane, width) in [
                (planes.y, planes.size.width_px),
                (planes.u, planes.size.chroma_width_px()),
                (planes.v, planes.size.chroma_width_px()),
            ] {
                for row in plane.data.chunks(plane.stride) {
                    samples.extend_from_slice(&row[..width]);
                }
            }
            Ok(())
        });
        (samples, pictures, undecoded.expect("a decoder"))
    }

    /// How far the picture that differs most is from ffmpeg's, in the mean of its samples. openh264 rounds some
    /// samples of B pictures otherwise; the picture before or after is another one by 1 and more.
    fn difference(ours: &[u8], theirs: &[u8], pictures: usize) -> f64 {
        assert_eq!(ours.len(), theirs.len(), "other pictures");
        let bytes = ours.len() / pictures.max(1);
        let mean = |(a, b): (&[u8], &[u8])| {
            let sum: u32 = a
                .iter()
                .zip(b)
                .map(|(a, b)| u32::from(a.abs_diff(*b)))
                .sum();
            f64::from(sum) / bytes as f64
        };
        let pairs = ours.chunks(bytes).zip(theirs.chunks(bytes));
        pairs.map(mean).fold(0.0, f64::max)
    }

    #[test]
    fn every_picture_of_x264_comes_as_ffmpeg_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        for (name, options) in [
            ("default.h264", ""),
            ("default.mp4", ""),
            (
                "pyramid.h264",
                "-bf 8 -x264-params b-pyramid=normal:b-adapt=0:ref=6",
            ),
            (
                "strict.mp4",
                "-bf 3 -x264-params b-pyramid=strict:b-adapt=0",
            ),
            (
                "open.h264",
                "-bf 3 -x264-params open-gop=1:keyint=12:min-keyint=12:b-adapt=0",
            ),
            (
                "periods.h264",
                "-bf 3 -x264-params keyint=10:min-keyint=10:scenecut=0:b-adapt=0",
            ),
            (
                "weights.h264",
                "-bf 2 -x264-params weightp=2:weightb=1:b-adapt=0",
            ),
            ("main.h264", "-profile:v main -bf 2 -x264-params b-adapt=0"),
            ("slices.mp4", "-bf 3 -x264-params slices=3:b-adapt=0"),
            (
                "fragments.mp4",
                "-bf 3 -g 10 -movflags +frag_keyframe+empty_moov+default_base_moof",
            ),
            ("negative.mp4", "-bf 3 -movflags +negative_cts_offsets"),
            ("quicktime.mov", "-bf 3"),
            ("baseline.h264", "-profile:v baseline"),
            ("lists.mp4", "-bf 3 -x264-params cqm=jvt"),
            ("cropped.mov", "-vf scale=118:86"),
        ] {
            let file = made(folder.path(), name, options);
            let (ours, pictures, undecoded) = samples(&file);
            assert!(undecoded.is_none(), "{name}: {undecoded:?}");
            assert_eq!(pictures, 40, "{name}");
            if name == "cropped.mov" {
                assert_eq!(ours.len(), 40 * 118 * 86 * 3 / 2);
            }
            let difference = difference(&ours, &samples_of_ffmpeg(&file), pictures);
            assert!(difference < 0.1, "{name}: {difference}");
        }
    }

    #[test]
    fn grey_pictures_have_their_size() {
        let folder = tempfile::tempdir().unwrap();
        let file = made(folder.path(), "grey.mp4", "-vf scale=118:86 -pix_fmt gray");
        let (ours, pictures, undecoded) = samples(&file);
        assert!(undecoded.is_none(), "{undecoded:?}");
        assert_eq!((pictures, ours.len()), (40, 40 * 118 * 86 * 3 / 2));
    }

    /// Some bytes become others, and the end may be gone.
    fn spoil(file: &[u8], random: &mut impl rand::RngExt) -> Vec<u8> {
        let mut spoilt = file.to_vec();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..spoilt.len());
            spoilt[at] = match random.random_range(0..4) {
                0 => 0xff,
                1 => 0,
                2 => spoilt[at].wrapping_add(1),
                _ => random.random(),
            };
        }
        if random.random_range(0..4) == 0 {
            spoilt.truncate(random.random_range(0..spoilt.len()));
        }
        spoilt
    }

    #[test]
    fn files_that_were_spoilt_anywhere_end_without_panic() {
        use rand::SeedableRng as _;
        let mut random = rand::rngs::SmallRng::seed_from_u64(7);
        for name in [
            "ctrl.mp4",
            "b_order.mp4",
            "stz2.mp4",
            "b_order.h264",
            "rot90.mp4",
        ] {
            let file = fault(name);
            for _ in 0..40 {
                if let Ok(seen) = see(&spoil(&file, &mut random)) {
                    assert!(seen.means.len() <= 64, "{name}");
                }
            }
        }
    }

    #[test]
    fn no_table_of_a_spoilt_file_is_believed() {
        use rand::SeedableRng as _;
        let folder = tempfile::tempdir().unwrap();
        let fragments = "-frames:v 12 -g 4 -qp 45 -movflags +frag_keyframe+empty_moov";
        let fragments = made(folder.path(), "fragments.mp4", fragments);
        let files = ["ctrl.mp4", "stz2.mp4", "avc3.mp4", "aud_esds_broken.mp4"].map(fault);
        let mut random = rand::rngs::SmallRng::seed_from_u64(11);
        for file in files.iter().chain([&std::fs::read(fragments).unwrap()]) {
            for _ in 0..2000 {
                if let Ok(clip) = Clip::from_bytes(&spoil(file, &mut random)) {
                    let bytes: usize = clip.units().iter().map(|unit| unit.data.len()).sum();
                    // Samples that lie over each other, start codes and parameter sets.
                    assert!(bytes <= 64 * file.len(), "{bytes} of {}", file.len());
                }
            }
        }
    }
}
