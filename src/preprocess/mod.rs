//! Turns pictures into tensors. Decoded planes or RGB bytes come in; a CHW `f32` tensor and the
//! [`Placement`](tensor::Placement) that maps boxes back go out. The inference worker runs it.

pub mod affine;
pub mod form;
pub(crate) mod resize;
mod sample;
pub mod tensor;

pub use form::{Elements, FormElement, Former, TensorForm};
pub use tensor::{Picture, Placement, Preprocessor, TensorBox, TensorSpec};
