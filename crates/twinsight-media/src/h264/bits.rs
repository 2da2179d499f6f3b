//! Reads and writes the bits of a raw byte sequence payload, exp-Golomb codes included (H.264 clauses 7.2 and 9.1). Reading
//! past the end is an error and no code is longer than 32 bits, so that every parse ends.

use thiserror::Error;

/// Reads bits from the front of a payload, which has no emulation prevention bytes any more.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    data: &'a [u8],
    position_bits: usize,
}

/// Why bits could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BitError {
    /// The payload ended within a syntax element.
    #[error("the payload ends within a syntax element")]
    End,
    /// An exp-Golomb code is longer than 32 bits.
    #[error("an exp-Golomb code exceeds 32 bits")]
    Golomb,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            position_bits: 0,
        }
    }

    /// How many bits were read or skipped so far.
    pub(super) fn position_bits(&self) -> usize {
        self.position_bits
    }

    /// Skips bits. It may go past the end: that is an error only once bits are read there.
    #[cfg_attr(
        not(feature = "openh264"),
        allow(dead_code, reason = "only the decoder openh264 needs it")
    )]
    pub(super) fn skip_bits(&mut self, count: usize) {
        self.position_bits = self.position_bits.saturating_add(count);
    }

    /// Reads one bit.
    pub fn flag(&mut self) -> Result<bool, BitError> {
        let byte = self.data.get(self.position_bits / 8).ok_or(BitError::End)?;
        let bit = byte >> (7 - self.position_bits % 8) & 1;
        self.position_bits += 1;
        Ok(bit == 1)
    }

    /// Reads `u(n)`, with n of at most 32.
    pub fn bits(&mut self, count: u32) -> Result<u32, BitError> {
        let mut value: u32 = 0;
        for _ in 0..count.min(32) {
            value = value << 1 | u32::from(self.flag()?);
        }
        Ok(value)
    }

    /// Reads `ue(v)`.
    pub fn ue(&mut self) -> Result<u32, BitError> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(BitError::Golomb);
            }
        }
        let suffix = self.bits(zeros)?;
        Ok(((1_u32 << zeros) - 1).saturating_add(suffix))
    }

    /// Reads `se(v)`.
    pub fn se(&mut self) -> Result<i32, BitError> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        let value = if code % 2 == 1 { magnitude } else { -magnitude };
        i32::try_from(value).map_err(|_| BitError::Golomb)
    }
}

/// Writes the bits of a NAL unit.
#[derive(Debug, Default)]
pub struct BitWriter {
    bits: Vec<bool>,
}

impl BitWriter {
    /// Writes `u(n)`, with n of at most 32.
    pub fn u(&mut self, count: u32, value: u32) -> &mut Self {
        self.bits
            .extend((0..count).rev().map(|shift| value >> shift & 1 == 1));
        self
    }

    /// Writes `ue(v)` of a value below 2^32 - 1.
    pub fn ue(&mut self, value: u32) -> &mut Self {
        let code = value.saturating_add(1);
        let length = u32::BITS - code.leading_zeros();
        self.u(length - 1, 0).u(length, code)
    }

    /// The NAL unit: the header byte, the bits and the stop bit, with emulation prevention.
    pub fn nal(&self, header: u8) -> Vec<u8> {
        let mut nal = vec![header];
        let mut zeros = 0;
        let bits: Vec<bool> = self.bits.iter().copied().chain([true]).collect();
        for chunk in bits.chunks(8) {
            let set = chunk.iter().enumerate();
            let byte = set.fold(0, |byte, (i, &bit)| byte | u8::from(bit) << (7 - i));
            if zeros >= 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golomb_codes_of_table_9_2() {
        // 1 010 011 00100 00101 and se: the same codes are 0 1 -1 2 -2.
        let data = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = BitReader::new(&data);
        let ue: Vec<u32> = (0..5).map(|_| reader.ue().unwrap()).collect();
        assert_eq!(ue, [0, 1, 2, 3, 4]);
        let mut reader = BitReader::new(&data);
        let se: Vec<i32> = (0..5).map(|_| reader.se().unwrap()).collect();
        assert_eq!(se, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn the_end_is_an_error() {
        let mut reader = BitReader::new(&[0xff]);
        assert_eq!(reader.bits(8), Ok(255));
        assert_eq!(reader.flag(), Err(BitError::End));
        assert_eq!(BitReader::new(&[0; 9]).ue(), Err(BitError::Golomb));
        assert_eq!(BitReader::new(&[0; 2]).ue(), Err(BitError::End));
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(data: Vec<u8>) {
            let mut reader = BitReader::new(&data);
            let mut steps = 0;
            while reader.ue().is_ok() && reader.se().is_ok() {
                steps += 1;
                prop_assert!(steps <= data.len() * 8);
            }
        }
    }
}
