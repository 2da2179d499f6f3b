//! The boxes of ISO/IEC 14496-12 (section 4.2) in memory: bytes come in, boxes and their fields go out. A box can be
//! skipped without knowing its kind, so that what is inside of boxes that nobody asks for cannot be an error.

/// A box.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boxed<'a> {
    /// Its four letters.
    pub(super) kind: [u8; 4],
    /// The bytes behind its header.
    pub(super) body: &'a [u8],
    /// Where its header begins, in bytes from the beginning of the box or file around it.
    pub(super) at: usize,
    /// False if the box or file around it ends before it does.
    pub(super) whole: bool,
}

/// The boxes that `bytes` consists of, as far as their sizes make sense.
pub(super) fn boxes(bytes: &[u8]) -> impl Iterator<Item = Boxed<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..)?;
        let mut fields = Fields(rest);
        let (size, kind) = (fields.u32()?, fields.kind()?);
        let size = match size {
            // It goes up to the end of the file.
            0 => rest.len(),
            1 => usize::try_from(fields.u64()?).unwrap_or(usize::MAX),
            size => usize::try_from(size).unwrap_or(usize::MAX),
        };
        let header = rest.len() - fields.0.len();
        if size < header {
            at = bytes.len();
            return None;
        }
        let found = Boxed {
            kind,
            body: &rest[header..size.min(rest.len())],
            at,
            whole: size <= rest.len(),
        };
        at += size.min(rest.len());
        Some(found)
    })
}

/// The body of the first box of a kind in `bytes`.
pub(super) fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes)
        .find(|found| found.kind == *kind)
        .map(|found| found.body)
}

/// The body of the box that is reached by taking the first box of each kind inside the one before.
pub(super) fn find_in<'a>(bytes: &'a [u8], way: &[&[u8; 4]]) -> Option<&'a [u8]> {
    way.iter().try_fold(bytes, |body, kind| find(body, kind))
}

/// Reads fields one after the other, none beyond the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn kind(&mut self) -> Option<[u8; 4]> {
        self.array()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }

    /// The version and the flags that full boxes begin with.
    pub(super) fn version(&mut self) -> Option<(u8, u32)> {
        let word = self.u32()?;
        let [version, ..] = word.to_be_bytes();
        Some((version, word & 0x00ff_ffff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_all_kinds() {
        let bytes = [
            &[0, 0, 0, 9][..],
            b"freex",
            &[0, 0, 0, 1],
            b"mdat",
            &[0, 0, 0, 0, 0, 0, 0, 18, 7, 8],
            &[0, 0, 0, 0],
            b"moovto the end",
        ]
        .concat();
        let found: Vec<_> = boxes(&bytes).map(|b| (b.kind, b.body, b.at)).collect();
        assert_eq!(
            found,
            [
                (*b"free", &b"x"[..], 0),
                (*b"mdat", &[7, 8], 9),
                (*b"moov", b"to the end", 27)
            ]
        );
        assert!(boxes(&bytes).all(|found| found.whole));
        let cut: Vec<_> = boxes(&bytes[..26]).map(|b| (b.body, b.whole)).collect();
        assert_eq!(cut, [(&b"x"[..], true), (&[7][..], false)]);
        // A size that does not even hold the header is the end of all.
        assert_eq!(boxes(b"\0\0\0\x07free\0\0\0\x08free").count(), 0);
        assert_eq!(boxes(&[0, 0, 0, 1, 1, 1, 1, 1, 0, 0]).count(), 0);
    }
}
