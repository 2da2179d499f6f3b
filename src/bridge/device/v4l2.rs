//! The calls of V4L2 (`linux/videodev2.h`) on a video device: structures of the kernel go in and out, pictures come out of memory
//! that the kernel shares. Only this file knows them. The device's thread calls it. There was no device to try it on; sizes and numbers are
//! those of the C header on 64-bit machines, and the tests compare them.
#![expect(
    unsafe_code,
    reason = "ioctls take structures of the kernel, and pictures lie in memory that it shares"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::time::{ClockId, clock_gettime};

use super::capture::{Capture, PictureFormat, PixelFormat, RawPicture};
use twinsight_media::picture::PictureSize;

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`, `V4L2_MEMORY_MMAP` and `V4L2_FIELD_NONE`.
const CAPTURE: u32 = 1;
const MMAP: u32 = 1;
const PROGRESSIVE: u32 = 1;

/// Bits of the capabilities: one-plane capture, streaming, and that `device_caps` is filled in.
const CAN_CAPTURE: u32 = 0x1;
const CAN_STREAM: u32 = 0x0400_0000;
const HAS_DEVICE_CAPS: u32 = 0x8000_0000;

/// Flags of a buffer: its data is broken, and its time is of the monotonic clock.
const IS_BROKEN: u32 = 0x40;
const TIMESTAMP_MASK: u32 = 0xe000;
const TIMESTAMP_MONOTONIC: u32 = 0x2000;

/// `V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME`.
const FORCE_KEY_FRAME: u32 = 0x0099_09e5;

/// So many buffers are shared: one is filled, one is read, and two bridge the time of a slow picture.
const BUFFERS: u32 = 4;

/// At most this many formats are asked for.
const MAX_FORMATS: u32 = 64;

/// A time of a buffer that lies further back is not believed.
const MAX_AGE: Duration = Duration::from_secs(2);

#[repr(C)]
#[derive(Default)]
struct Capability {
    driver: [u8; 16],
    card: [u8; 32],
    bus_info: [u8; 32],
    version: u32,
    capabilities: u32,
    device_caps: u32,
    reserved: [u32; 3],
}

#[repr(C)]
#[derive(Default)]
struct FormatDescription {
    index: u32,
    buffer_type: u32,
    flags: u32,
    description: [u8; 32],
    pixel_format: u32,
    mbus_code: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Format {
    buffer_type: u32,
    /// The union behind it has pointers in other variants.
    padding: u32,
    width: u32,
    height: u32,
    pixel_format: u32,
    field: u32,
    bytes_per_line: u32,
    size_image: u32,
    colorspace: u32,
    private: u32,
    flags: u32,
    encoding: u32,
    quantization: u32,
    transfer: u32,
    rest: [u8; 152],
}

#[repr(C)]
struct StreamParameters {
    buffer_type: u32,
    capability: u32,
    mode: u32,
    /// Seconds of a frame.
    numerator: u32,
    denominator: u32,
    extended_mode: u32,
    read_buffers: u32,
    reserved: [u32; 4],
    rest: [u8; 160],
}

#[repr(C)]
#[derive(Default)]
struct RequestBuffers {
    count: u32,
    buffer_type: u32,
    memory: u32,
    capabilities: u32,
    flags: u8,
    reserved: [u8; 3],
}

#[repr(C)]
#[derive(Default)]
struct Buffer {
    index: u32,
    buffer_type: u32,
    bytes_used: u32,
    flags: u32,
    field: u32,
    padding: u32,
    seconds: i64,
    microseconds: i64,
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    /// The low half of a union with a pointer.
    offset: u32,
    offset_high: u32,
    length: u32,
    reserved: u32,
    request_fd: u32,
    end: u32,
}

#[repr(C)]
struct Control {
    id: u32,
    value: i32,
}

const fn both<T>(number: u8) -> Opcode {
    opcode::read_write::<T>(b'V', number)
}

const QUERYCAP: Opcode = opcode::read::<Capability>(b'V', 0);
const ENUM_FMT: Opcode = both::<FormatDescription>(2);
const S_FMT: Opcode = both::<Format>(5);
const REQBUFS: Opcode = both::<RequestBuffers>(8);
const QUERYBUF: Opcode = both::<Buffer>(9);
const QBUF: Opcode = both::<Buffer>(15);
const DQBUF: Opcode = both::<Buffer>(17);
const STREAMON: Opcode = opcode::write::<i32>(b'V', 18);
const STREAMOFF: Opcode = opcode::write::<i32>(b'V', 19);
const S_PARM: Opcode = both::<StreamParameters>(22);
const S_CTRL: Opcode = both::<Control>(28);

/// Memory of a picture that the kernel shares.
#[derive(Debug)]
struct Mapping {
    address: *mut std::ffi::c_void,
    bytes: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing borrows from it any more, since borrows end with the device's.
        let _ = unsafe { munmap(self.address, self.bytes) };
    }
}

/// A video device that is open.
#[derive(Debug)]
pub(super) struct V4l2Device {
    file: File,
    buffers: Vec<Mapping>,
    is_streaming: bool,
}

impl V4l2Device {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nonblocking)
            .open(path)?;
        Ok(Self {
            file,
            buffers: Vec::new(),
            is_streaming: false,
        })
    }

    /// Makes a call with a structure that the kernel reads and writes.
    fn update<const OPCODE: Opcode, T>(&self, value: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: each caller names the number that the header defines for this structure, whose layout is the kernel's.
            let called = unsafe { ioctl(&self.file, Updater::<OPCODE, T>::new(value)) };
            match called {
                Err(Errno::INTR) => {}
                other => return other.map_err(io::Error::from),
            }
        }
    }

    fn stream<const OPCODE: Opcode>(&self) -> io::Result<()> {
        let buffer_type = CAPTURE.cast_signed();
        // SAFETY: both calls take a pointer to an `int`.
        unsafe { ioctl(&self.file, Setter::<OPCODE, i32>::new(buffer_type)) }?;
        Ok(())
    }

    fn buffer(index: u32) -> Buffer {
        Buffer {
            index,
            buffer_type: CAPTURE,
            memory: MMAP,
            ..Buffer::default()
        }
    }

    /// The capabilities of the device, not of the card that may have several.
    fn capabilities(&self) -> io::Result<u32> {
        let mut capability = Capability::default();
        self.update::<QUERYCAP, _>(&mut capability)?;
        Ok(if capability.capabilities & HAS_DEVICE_CAPS == 0 {
            capability.capabilities
        } else {
            capability.device_caps
        })
    }
}

impl Capture for V4l2Device {
    fn is_camera(&self) -> io::Result<bool> {
        let needed = CAN_CAPTURE | CAN_STREAM;
        match self.capabilities() {
            Ok(capabilities) => Ok(capabilities & needed == needed),
            // What knows no such call is another kind of file.
            Err(error) if is(&error, Errno::NOTTY) || is(&error, Errno::INVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn formats(&self) -> io::Result<Vec<[u8; 4]>> {
        let mut formats = Vec::new();
        for index in 0..MAX_FORMATS {
            let mut description = FormatDescription {
                index,
                buffer_type: CAPTURE,
                ..FormatDescription::default()
            };
            match self.update::<ENUM_FMT, _>(&mut description) {
                Ok(()) => formats.push(description.pixel_format.to_le_bytes()),
                // There are no more.
                Err(error) if is(&error, Errno::INVAL) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(formats)
    }

    fn set_format(&mut self, pixels: PixelFormat, size: PictureSize) -> io::Result<PictureFormat> {
        let side = |px: usize| u32::try_from(px).unwrap_or(u32::MAX);
        let mut format = Format {
            buffer_type: CAPTURE,
            padding: 0,
            width: side(size.width_px),
            height: side(size.height_px),
            pixel_format: u32::from_le_bytes(pixels.four_cc()),
            field: PROGRESSIVE,
            bytes_per_line: 0,
            size_image: 0,
            colorspace: 0,
            private: 0,
            flags: 0,
            encoding: 0,
            quantization: 0,
            transfer: 0,
            rest: [0; 152],
        };
        self.update::<S_FMT, _>(&mut format)?;
        let px = |side: u32| usize::try_from(side).unwrap_or(usize::MAX);
        Ok(PictureFormat {
            pixels: PixelFormat::of(format.pixel_format.to_le_bytes()),
            size: PictureSize {
                width_px: px(format.width),
                height_px: px(format.height),
            },
            row_bytes: px(format.bytes_per_line),
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is from 0.001 to 240"
    )]
    fn set_rate(&mut self, fps: f64) -> io::Result<Option<f64>> {
        let mut parameters = StreamParameters {
            buffer_type: CAPTURE,
            capability: 0,
            mode: 0,
            numerator: 1000,
            denominator: (fps * 1000.0).round() as u32,
            extended_mode: 0,
            read_buffers: 0,
            reserved: [0; 4],
            rest: [0; 160],
        };
        match self.update::<S_PARM, _>(&mut parameters) {
            Ok(()) => {}
            // Its rate cannot be set.
            Err(error) if is(&error, Errno::NOTTY) || is(&error, Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error),
        }
        let (numerator, denominator) = (parameters.numerator, parameters.denominator);
        let is_told = numerator > 0 && denominator > 0;
        Ok(is_told.then(|| f64::from(denominator) / f64::from(numerator)))
    }

    fn start(&mut self) -> io::Result<()> {
        let mut request = RequestBuffers {
            count: BUFFERS,
            buffer_type: CAPTURE,
            memory: MMAP,
            ..RequestBuffers::default()
        };
        self.update::<REQBUFS, _>(&mut request)?;
        for index in 0..request.count {
            let mut buffer = Self::buffer(index);
            self.update::<QUERYBUF, _>(&mut buffer)?;
            let bytes = usize::try_from(buffer.length).unwrap_or_default();
            // SAFETY: the kernel chooses the address, and offset and length are what it has just said of this buffer.
            let address = unsafe {
                mmap(
                    std::ptr::null_mut(),
                    bytes,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED,
                    &self.file,
                    u64::from(buffer.offset),
                )
            }?;
            self.buffers.push(Mapping { address, bytes });
            self.update::<QBUF, _>(&mut buffer)?;
        }
        self.stream::<STREAMON>()?;
        self.is_streaming = true;
        Ok(())
    }

    fn next(&mut self, limit: Duration, take: &mut dyn FnMut(RawPicture<'_>)) -> io::Result<bool> {
        let limit = Timespec::try_from(limit).unwrap_or_default();
        let (is_ready, is_gone) = {
            let fd = self.file.as_fd();
            let mut polled = [PollFd::new(&fd, PollFlags::IN)];
            match poll(&mut polled, Some(&limit)) {
                Err(Errno::INTR) => return Ok(false),
                other => other?,
            };
            let happened = polled[0].revents();
            (
                happened.contains(PollFlags::IN),
                happened.intersects(PollFlags::HUP),
            )
        };
        if is_gone && !is_ready {
            return Err(Errno::NODEV.into());
        }
        let mut buffer = Self::buffer(0);
        match self.update::<DQBUF, _>(&mut buffer) {
            Ok(()) => {}
            Err(error) if is(&error, Errno::AGAIN) && !is_ready => return Ok(false),
            Err(error) if is(&error, Errno::AGAIN) => {
                // Some drivers say at once that there is something, and give nothing while they fail.
                std::thread::sleep(Duration::from_millis(10));
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        let at = usize::try_from(buffer.index).ok();
        let mapping = at.and_then(|index| self.buffers.get(index));
        if let Some(mapping) = mapping {
            let used = usize::try_from(buffer.bytes_used).unwrap_or_default();
            // SAFETY: the buffer was taken out of the kernel's queue, so it is written to by nobody until it is given back, which
            // happens after the borrow has ended; and no more than what is mapped is borrowed.
            let data = unsafe {
                std::slice::from_raw_parts(mapping.address.cast::<u8>(), used.min(mapping.bytes))
            };
            take(RawPicture {
                data,
                taken_at: taken_at(&buffer),
                is_broken: buffer.flags & IS_BROKEN != 0,
            });
        }
        self.update::<QBUF, _>(&mut buffer)?;
        Ok(true)
    }

    fn force_keyframe(&mut self) {
        let mut control = Control {
            id: FORCE_KEY_FRAME,
            value: 1,
        };
        // Few devices know it, and the others send keyframes when they want to.
        let _ = self.update::<S_CTRL, _>(&mut control);
    }
}

impl Drop for V4l2Device {
    fn drop(&mut self) {
        if self.is_streaming {
            let _ = self.stream::<STREAMOFF>();
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// When a picture was taken: by the kernel's time of its buffer, if it is of the clock that `Instant` has too.
fn taken_at(buffer: &Buffer) -> Instant {
    let now = Instant::now();
    if buffer.flags & TIMESTAMP_MASK != TIMESTAMP_MONOTONIC {
        return now;
    }
    let clock = clock_gettime(ClockId::Monotonic);
    let micros =
        |seconds: i64, micros: i64| seconds.saturating_mul(1_000_000).saturating_add(micros);
    let age = micros(clock.tv_sec, clock.tv_nsec / 1000)
        .saturating_sub(micros(buffer.seconds, buffer.microseconds));
    let age = Duration::from_micros(u64::try_from(age).unwrap_or_default());
    if age > MAX_AGE {
        return now;
    }
    now.checked_sub(age).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    /// Printed by a C program with `linux/videodev2.h` of Linux 6, on x86-64.
    #[test]
    fn numbers_and_layouts_are_those_of_the_c_header() {
        let numbers: [(Opcode, u64); 11] = [
            (QUERYCAP, 0x8068_5600),
            (ENUM_FMT, 0xc040_5602),
            (S_FMT, 0xc0d0_5605),
            (S_PARM, 0xc0cc_5616),
            (REQBUFS, 0xc014_5608),
            (QUERYBUF, 0xc058_5609),
            (QBUF, 0xc058_560f),
            (DQBUF, 0xc058_5611),
            (STREAMON, 0x4004_5612),
            (STREAMOFF, 0x4004_5613),
            (S_CTRL, 0xc008_561c),
        ];
        for (ours, header) in numbers {
            assert_eq!(u64::from(ours), header, "{ours:x}");
        }
        assert_eq!(size_of::<Capability>(), 104);
        assert_eq!(size_of::<FormatDescription>(), 64);
        assert_eq!(size_of::<Format>(), 208);
        assert_eq!(size_of::<StreamParameters>(), 204);
        assert_eq!(size_of::<RequestBuffers>(), 20);
        assert_eq!(size_of::<Buffer>(), 88);
        assert_eq!(size_of::<Control>(), 8);
        assert_eq!(offset_of!(Format, width), 8);
        let offsets = [
            (offset_of!(Buffer, bytes_used), 8),
            (offset_of!(Buffer, flags), 12),
            (offset_of!(Buffer, seconds), 24),
            (offset_of!(Buffer, timecode), 40),
            (offset_of!(Buffer, sequence), 56),
            (offset_of!(Buffer, memory), 60),
            (offset_of!(Buffer, offset), 64),
            (offset_of!(Buffer, length), 72),
        ];
        for (ours, header) in offsets {
            assert_eq!(ours, header);
        }
    }

    #[test]
    fn a_file_that_is_no_device_is_no_camera() {
        let null = V4l2Device::open(Path::new("/dev/null")).unwrap();
        assert!(!null.is_camera().unwrap());
        assert!(V4l2Device::open(Path::new("/dev/no-such-device")).is_err());
    }

    #[test]
    fn the_kernels_time_of_a_picture_counts_if_it_is_plausible() {
        let clock = clock_gettime(ClockId::Monotonic);
        let mut buffer = Buffer {
            flags: TIMESTAMP_MONOTONIC,
            seconds: clock.tv_sec - 1,
            microseconds: clock.tv_nsec / 1000,
            ..Buffer::default()
        };
        let age = |buffer: &Buffer| taken_at(buffer).elapsed();
        assert!((900..1900).contains(&age(&buffer).as_millis()));
        buffer.flags = 0;
        assert!(age(&buffer) < Duration::from_millis(500));
        buffer.flags = TIMESTAMP_MONOTONIC;
        buffer.seconds -= 60;
        assert!(age(&buffer) < Duration::from_millis(500));
    }
}
