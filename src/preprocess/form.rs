//! The form in which a model takes its tensor: the planes of `f32` that the preprocessor made come in, the same numbers go out in the
//! model's type and order. The detector runs it for models that do not take planes of `f32`.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormElement {
    /// Single floats.
    F32,
    /// Half floats.
    F16,
    /// Bytes.
    U8,
}

/// The form of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorForm {
    /// The type of its elements.
    pub element: FormElement,
    /// Whether the channels of a pixel follow each other.
    pub is_channels_last: bool,
}

/// A tensor's elements.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// Single floats.
    F32(&'a [f32]),
    /// Half floats.
    F16(&'a [f16]),
    /// Bytes.
    U8(&'a [u8]),
}

/// Brings tensors into a form. It owns the buffers for that.
#[derive(Debug)]
pub struct Former {
    form: TensorForm,
    interleaved: Vec<f32>,
    halves: Vec<f16>,
    bytes: Vec<u8>,
}

impl Former {
    /// A former for this form.
    pub fn new(form: TensorForm) -> Self {
        Self {
            form,
            interleaved: Vec::new(),
            halves: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Brings three planes, one after the other, into the form. Planes of single floats are not copied.
    pub fn form<'a>(&'a mut self, planes: &'a [f32]) -> Elements<'a> {
        let numbers = if self.form.is_channels_last {
            interleave(planes, &mut self.interleaved);
            &self.interleaved
        } else {
            planes
        };
        match self.form.element {
            FormElement::F32 => Elements::F32(numbers),
            FormElement::F16 => {
                self.halves.resize(numbers.len(), f16::ZERO);
                self.halves.convert_from_f32_slice(numbers);
                Elements::F16(&self.halves)
            }
            FormElement::U8 => {
                self.bytes.clear();
                self.bytes
                    .extend(numbers.iter().map(|&number| byte(number)));
                Elements::U8(&self.bytes)
            }
        }
    }
}

fn interleave(planes: &[f32], out: &mut Vec<f32>) {
    let plane = planes.len() / 3;
    let (first, rest) = planes.split_at(plane);
    let (second, third) = rest.split_at(plane);
    out.resize(3 * plane, 0.0);
    let pixels = out.as_chunks_mut::<3>().0.iter_mut();
    for (pixel, ((&a, &b), &c)) in pixels.zip(first.iter().zip(second).zip(third)) {
        *pixel = [a, b, c];
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast of a rounded number is what is wanted"
)]
fn byte(number: f32) -> u8 {
    (number + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formed(element: FormElement, is_channels_last: bool) -> Vec<f32> {
        let mut former = Former::new(TensorForm {
            element,
            is_channels_last,
        });
        // Two pixels: red 1 and 2, green 10 and 20, blue 100 and 200.6.
        match former.form(&[1.0, 2.0, 10.0, 20.0, 100.0, 200.6]) {
            Elements::F32(all) => all.to_vec(),
            Elements::F16(all) => all.iter().map(|half| half.to_f32()).collect(),
            Elements::U8(all) => all.iter().map(|&byte| f32::from(byte)).collect(),
        }
    }

    #[test]
    fn every_form_has_the_same_numbers() {
        use FormElement::{F16, F32, U8};
        assert_eq!(formed(F32, false), [1.0, 2.0, 10.0, 20.0, 100.0, 200.6]);
        assert_eq!(formed(F32, true), [1.0, 10.0, 100.0, 2.0, 20.0, 200.6]);
        assert_eq!(formed(U8, true), [1.0, 10.0, 100.0, 2.0, 20.0, 201.0]);
        assert_eq!(formed(F16, false), [1.0, 2.0, 10.0, 20.0, 100.0, 200.625]);
        assert_eq!(byte(-3.0), 0);
        assert_eq!(byte(300.0), 255);
    }
}
