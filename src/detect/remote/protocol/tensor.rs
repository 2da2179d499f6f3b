//! The elements of tensors: bytes or numbers of an answer come in, with their type and shape, and arrays of `f32` go out. The same for
//! gRPC and HTTP.

use std::fmt;

use twinsight_client::hub::text::brief;

use super::{AnswerError, MAX_NUMBERS, MAX_RANK};
use crate::detect::manifest::Element;

/// The type of a tensor's elements, as far as this node sends or reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::detect::remote) enum Datatype {
    Fp32,
    Fp16,
    Fp64,
    Uint8,
    Int32,
    Int64,
    /// Strings of bytes, each with a length of its own.
    Bytes,
}

/// An output of an answer, as the postprocessor reads it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::detect::remote) struct OutputTensor {
    /// What its elements were, before numbers were made of them.
    pub(in crate::detect::remote) element: Element,
    pub(in crate::detect::remote) dims: Vec<i64>,
    pub(in crate::detect::remote) values: Vec<f32>,
}

impl Datatype {
    const ALL: [Self; 7] = [
        Self::Fp32,
        Self::Fp16,
        Self::Fp64,
        Self::Uint8,
        Self::Int32,
        Self::Int64,
        Self::Bytes,
    ];

    /// The protocol's word for it.
    pub(in crate::detect::remote) const fn word(self) -> &'static str {
        match self {
            Self::Fp32 => "FP32",
            Self::Fp16 => "FP16",
            Self::Fp64 => "FP64",
            Self::Uint8 => "UINT8",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Bytes => "BYTES",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.word() == word)
    }

    /// How long an element is; strings have no length in common.
    fn size(self) -> Option<usize> {
        Some(match self {
            Self::Uint8 => 1,
            Self::Fp16 => 2,
            Self::Fp32 | Self::Int32 => 4,
            Self::Fp64 | Self::Int64 => 8,
            Self::Bytes => return None,
        })
    }

    /// What the manifest's check calls the type of this word.
    pub(in crate::detect::remote) fn element(word: &str) -> Element {
        match Self::of_word(word) {
            Some(Self::Fp32) => Element::F32,
            Some(Self::Fp16) => Element::F16,
            Some(Self::Fp64) => Element::F64,
            Some(Self::Uint8) => Element::U8,
            Some(Self::Int32) => Element::I32,
            Some(Self::Int64) => Element::I64,
            Some(Self::Bytes) | None => Element::Other(brief(word)),
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How many elements a shape has, if it is one of an output that can be read.
pub(super) fn count(name: &str, shape: &[i64]) -> Result<usize, AnswerError> {
    let product = shape.iter().try_fold(1usize, |all, &dim| {
        all.checked_mul(usize::try_from(dim).ok()?)
    });
    match product {
        Some(_) if shape.len() > MAX_RANK => Err(AnswerError::TooMuch {
            what: "dimensions of an output",
            most: MAX_RANK,
        }),
        Some(count) if count <= MAX_NUMBERS => Ok(count),
        Some(_) => Err(AnswerError::TooMuch {
            what: "numbers in an output",
            most: MAX_NUMBERS,
        }),
        None => Err(AnswerError::Shape {
            name: brief(name),
            shape: shape.iter().take(MAX_RANK).copied().collect(),
        }),
    }
}

impl OutputTensor {
    /// An output whose elements came as bytes.
    pub(super) fn of_bytes(
        name: &str,
        datatype: &str,
        shape: Vec<i64>,
        bytes: &[u8],
    ) -> Result<Self, AnswerError> {
        let count = count(name, &shape)?;
        let known = Datatype::of_word(datatype);
        let Some((known, size)) = known.and_then(|known| Some((known, known.size()?))) else {
            return Err(AnswerError::Datatype {
                name: brief(name),
                datatype: brief(datatype),
            });
        };
        if count * size != bytes.len() {
            return Err(AnswerError::Data {
                name: brief(name),
                shape,
                found: format!("{} bytes of {known}", bytes.len()),
            });
        }
        Ok(Self {
            element: Datatype::element(datatype),
            dims: shape,
            values: numbers(known, bytes),
        })
    }

    /// An output whose elements came as numbers.
    pub(super) fn of_numbers(
        name: &str,
        datatype: &str,
        shape: Vec<i64>,
        values: Vec<f32>,
    ) -> Result<Self, AnswerError> {
        if count(name, &shape)? != values.len() {
            return Err(AnswerError::Data {
                name: brief(name),
                shape,
                found: format!("{} numbers", values.len()),
            });
        }
        Ok(Self {
            element: Datatype::element(datatype),
            dims: shape,
            values,
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "numbers of classes and boxes are small, and scores and edges have no more digits"
)]
fn numbers(datatype: Datatype, bytes: &[u8]) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|&raw| convert(raw))
            .collect()
    }
    match datatype {
        Datatype::Fp32 => each(bytes, f32::from_le_bytes),
        Datatype::Fp16 => each(bytes, |raw| half::f16::from_le_bytes(raw).to_f32()),
        Datatype::Fp64 => each(bytes, |raw| f64::from_le_bytes(raw) as f32),
        Datatype::Uint8 => bytes.iter().map(|&byte| f32::from(byte)).collect(),
        Datatype::Int32 => each(bytes, |raw| i32::from_le_bytes(raw) as f32),
        Datatype::Int64 => each(bytes, |raw| i64::from_le_bytes(raw) as f32),
        Datatype::Bytes => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_gives_its_numbers() {
        let read = |datatype: &str, bytes: &[u8]| {
            let shape = vec![1, 2];
            OutputTensor::of_bytes("out", datatype, shape, bytes).map(|tensor| tensor.values)
        };
        let joined = |halves: [&[u8]; 2]| halves.concat();
        let [a, b] = [1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()];
        assert_eq!(read("FP32", &joined([&a, &b])).unwrap(), [1.5, -2.0]);
        let [a, b] =
            [half::f16::from_f32(0.5), half::f16::from_f32(3.0)].map(half::f16::to_le_bytes);
        assert_eq!(read("FP16", &joined([&a, &b])).unwrap(), [0.5, 3.0]);
        let [a, b] = [0.25f64.to_le_bytes(), 8f64.to_le_bytes()];
        assert_eq!(read("FP64", &joined([&a, &b])).unwrap(), [0.25, 8.0]);
        let [a, b] = [7i64.to_le_bytes(), (-1i64).to_le_bytes()];
        assert_eq!(read("INT64", &joined([&a, &b])).unwrap(), [7.0, -1.0]);
        let [a, b] = [7i32.to_le_bytes(), (-1i32).to_le_bytes()];
        assert_eq!(read("INT32", &joined([&a, &b])).unwrap(), [7.0, -1.0]);
        assert_eq!(read("UINT8", &[0, 255]).unwrap(), [0.0, 255.0]);
        assert_eq!(
            read("BYTES", &[0, 0]).unwrap_err().to_string(),
            "its output `out` is BYTES, of which no numbers can be made"
        );
        assert_eq!(
            read("FP32", &[0; 7]).unwrap_err().to_string(),
            "its output `out` has the shape [1, 2], and its data are 7 bytes of FP32"
        );
    }

    #[test]
    fn shapes_that_are_none_or_far_too_large_are_refused_before_anything_is_made_of_them() {
        for shape in [
            vec![-1, 4],
            vec![i64::MAX, i64::MAX],
            vec![1 << 40],
            vec![1; 9],
        ] {
            let error = OutputTensor::of_bytes("out", "FP32", shape.clone(), &[0; 16]);
            assert!(error.is_err(), "{shape:?}");
        }
        let empty = OutputTensor::of_bytes("out", "FP32", vec![1, 0, 6], &[]).unwrap();
        assert_eq!(empty.values, [0.0; 0]);
        assert!(OutputTensor::of_numbers("out", "FP32", vec![2, 2], vec![0.0; 3]).is_err());
    }
}
