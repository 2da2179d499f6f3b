//! What is sent for a picture: the manifest and what a server says of its model come in, and a [`Fit`] goes out, or a sentence that says
//! what does not fit. A [`Shaper`] then makes the tensors of pictures.

use std::sync::Arc;

use bytes::Bytes;
use jpeg_encoder::{ColorType, Encoder, EncodingError};
use twinsight_media::picture::PictureSize;

use super::facts::InputFacts;
use super::protocol::{Datatype, InputTensor, MAX_ANSWER_BYTES, Metadata, OutputTensor};
use crate::detect::manifest::{Element, ExtraInput, Manifest, Misfit, Outlet};
use crate::preprocess::affine::ChannelAffine;
use crate::preprocess::tensor::ChannelOrder;
use crate::preprocess::{
    Elements, FormElement, Former, Picture, Placement, Preprocessor, TensorForm, TensorSpec,
};

/// The quality of JPEGs, from 1 to 100. At this one a detector sees what it sees in the picture itself, and it is a twentieth of the
/// bytes.
const JPEG_QUALITY: u8 = 90;

/// How a model on a server is fed and what it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fit {
    /// What the server calls the input of the picture.
    input: String,
    kind: InputKind,
    shape: Vec<i64>,
    spec: TensorSpec,
    /// The further inputs, which are the same for every picture.
    extra: Vec<InputTensor>,
    /// What the server calls the outputs that the manifest names, in the manifest's order.
    outputs: Vec<String>,
    /// What it says of them, as far as it says anything, in the same order.
    promised: Vec<Option<Outlet>>,
}

/// The form in which a picture goes to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputKind {
    /// As numbers.
    Tensor(TensorForm),
    /// As a JPEG of the input's size.
    Jpeg,
}

impl Fit {
    /// Compares what the server says with the manifest. The error is a sentence that begins with the server as "it".
    pub(super) fn new(manifest: &Manifest, metadata: &Metadata) -> Result<Self, String> {
        if metadata.inputs.is_empty() || metadata.outputs.is_empty() {
            return Err(
                "it does not say what the model takes and gives: say it in the model's settings there"
                    .to_owned(),
            );
        }
        let mut inputs = metadata.inputs.clone();
        let mut outputs = metadata.outputs.clone();
        // A name is not needed where there is only one, and exporters and servers call it as they like.
        let input = match inputs.as_mut_slice() {
            [one] => std::mem::replace(&mut one.name, manifest.input.clone()),
            _ => manifest.input.clone(),
        };
        let names = manifest.output.names();
        let names_there = match (outputs.as_mut_slice(), names.as_slice()) {
            ([one], [name]) => vec![std::mem::replace(&mut one.name, (*name).to_owned())],
            _ => names.iter().map(|&name| name.to_owned()).collect(),
        };
        let jpeg_shape = inputs
            .iter_mut()
            .find(|outlet| outlet.name == manifest.input)
            .and_then(|outlet| as_jpeg(outlet, manifest));
        let plug = manifest
            .plug(&inputs, &outputs)
            .map_err(|misfit| sentence(&misfit, manifest))?;
        let plain = TensorSpec {
            affine: [ChannelAffine::PLAIN; 3],
            ..manifest.tensor
        };
        let (kind, shape, spec) = match (jpeg_shape, plug.form.element) {
            (Some(shape), _) => {
                let spec = TensorSpec {
                    order: ChannelOrder::Rgb,
                    ..plain
                };
                (InputKind::Jpeg, shape, spec)
            }
            (None, FormElement::U8) => (InputKind::Tensor(plug.form), plug.shape, plain),
            (None, _) => (InputKind::Tensor(plug.form), plug.shape, manifest.tensor),
        };
        let promised = |name: &String| {
            let outputs = metadata.outputs.iter();
            outputs.clone().find(|outlet| outlet.name == *name).cloned()
        };
        Ok(Self {
            promised: names_there.iter().map(promised).collect(),
            input,
            kind,
            shape,
            spec,
            extra: plug.extra.iter().filter_map(extra_tensor).collect(),
            outputs: names_there,
        })
    }

    /// What the server calls the outputs, in the manifest's order.
    pub(super) fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Compares an answer with what the server says of its model. One that differs is of another model, and what is read out of it may look
    /// like a picture with nothing in it. The error is a sentence.
    pub(super) fn check(&self, answer: &[OutputTensor]) -> Result<(), String> {
        for (promised, tensor) in self.promised.iter().zip(answer) {
            let Some(Outlet {
                name,
                element,
                dims,
            }) = promised
            else {
                continue;
            };
            let is_type = tensor.element == *element;
            // A single free dimension, or none at all, says nothing.
            let is_shape = matches!(dims.as_slice(), [] | [-1])
                || dims.len() == tensor.dims.len()
                    && dims
                        .iter()
                        .zip(&tensor.dims)
                        .all(|(promised, dim)| *promised < 0 || promised == dim);
            if !is_type || !is_shape {
                return Err(format!(
                    "its output `{name}` is {} {:?}, and it says that the model gives {element} {dims:?}",
                    tensor.element, tensor.dims
                ));
            }
        }
        Ok(())
    }

    /// The longest answer that is read: what the server says that its outputs have, as the longest numbers of a message, or the most that
    /// is read of any if it leaves that open.
    pub(super) fn most_answer_bytes(&self) -> usize {
        // Over gRPC a number has up to 10 bytes, and as text in JSON about 20, with what separates it from the next one.
        const LONGEST_NUMBER_BYTES: usize = 32;
        const AROUND_BYTES: usize = 64 << 10;
        let count = |promised: &Option<Outlet>| {
            // As in `check`, no dimensions at all say nothing.
            let dims = &promised
                .as_ref()
                .filter(|promised| !promised.dims.is_empty())?
                .dims;
            let dims = dims.iter();
            dims.map(|&dim| usize::try_from(dim).ok())
                .try_fold(1usize, |all, dim| all.checked_mul(dim?))
        };
        let numbers = self
            .promised
            .iter()
            .try_fold(0usize, |all, promised| all.checked_add(count(promised)?));
        numbers
            .and_then(|numbers| {
                numbers
                    .checked_mul(LONGEST_NUMBER_BYTES)?
                    .checked_add(AROUND_BYTES)
            })
            .map_or(MAX_ANSWER_BYTES, |bytes| bytes.min(MAX_ANSWER_BYTES))
    }

    fn datatype(&self) -> Datatype {
        match self.kind {
            InputKind::Tensor(form) => match form.element {
                FormElement::F32 => Datatype::Fp32,
                FormElement::F16 => Datatype::Fp16,
                FormElement::U8 => Datatype::Uint8,
            },
            InputKind::Jpeg => Datatype::Bytes,
        }
    }

    /// What is told of it. `last_bytes` are those of the last frame, which say how long a JPEG is.
    pub(super) fn facts(&self, last_bytes: usize) -> InputFacts {
        let (form, element_bytes) = match self.kind {
            InputKind::Tensor(form) => match form.element {
                FormElement::F32 => ("numbers, scaled by the manifest", 4),
                FormElement::F16 => ("half numbers, scaled by the manifest", 2),
                FormElement::U8 => ("pixels as they are, for the model to scale", 1),
            },
            InputKind::Jpeg => ("a JPEG of the input's size, for the model to decode", 0),
        };
        let extra: usize = self.extra.iter().map(|tensor| tensor.data.len()).sum();
        InputFacts {
            datatype: self.datatype().word(),
            shape: self.shape.clone(),
            form,
            frame_bytes: match self.kind {
                InputKind::Tensor(_) => {
                    element_bytes * 3 * self.spec.width * self.spec.height + extra
                }
                InputKind::Jpeg => last_bytes,
            },
        }
    }
}

/// The shape in which an input takes one picture as a file; `None` if it takes numbers. The manifest's check sees such an input as one
/// of numbers.
fn as_jpeg(outlet: &mut Outlet, manifest: &Manifest) -> Option<Vec<i64>> {
    let is_bytes = outlet.element == Element::Other(Datatype::Bytes.word().to_owned());
    let is_one = outlet.dims.iter().all(|&dim| dim < 0 || dim == 1);
    if !is_bytes || !is_one || outlet.dims.len() > 2 {
        return None;
    }
    let shape = vec![1; outlet.dims.len().max(1)];
    outlet.element = Element::F32;
    let side = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    let (width, height) = (side(manifest.tensor.width), side(manifest.tensor.height));
    outlet.dims = match manifest.layout {
        crate::detect::manifest::file::Layout::Nchw => vec![1, 3, height, width],
        crate::detect::manifest::file::Layout::Nhwc => vec![1, height, width, 3],
    };
    Some(shape)
}

fn sentence(misfit: &Misfit, manifest: &Manifest) -> String {
    let Misfit {
        what,
        key,
        expected,
        found,
    } = misfit;
    let or_file = match *what {
        "input" => ", or a BYTES for a JPEG,",
        _ => "",
    };
    format!(
        "its model's {what} should be {expected}{or_file} and is {found}: correct `{key}` in the manifest {}, or serve the model that it describes",
        manifest.name
    )
}

/// A further input as it is sent.
fn extra_tensor(extra: &ExtraInput) -> Option<InputTensor> {
    let values = extra.values.iter();
    let (datatype, data): (_, Vec<u8>) = match extra.element {
        Element::I64 => (
            Datatype::Int64,
            values.flat_map(|&v| i64::from(v).to_le_bytes()).collect(),
        ),
        Element::I32 => (
            Datatype::Int32,
            values.flat_map(|&v| i32::from(v).to_le_bytes()).collect(),
        ),
        Element::F64 => (
            Datatype::Fp64,
            values.flat_map(|&v| f64::from(v).to_le_bytes()).collect(),
        ),
        Element::F32 => (
            Datatype::Fp32,
            values.flat_map(|&v| f32::from(v).to_le_bytes()).collect(),
        ),
        // The manifest's check lets no others pass.
        Element::F16 | Element::U8 | Element::Other(_) => return None,
    };
    Some(InputTensor {
        name: extra.name.clone(),
        datatype,
        shape: extra.shape.clone(),
        data: data.into(),
    })
}

/// Makes the tensors of pictures. It owns the buffers for that, of megabytes.
pub(super) struct Shaper {
    fit: Arc<Fit>,
    preprocessor: Preprocessor,
    former: Former,
}

/// Why a picture has no tensors.
#[derive(Debug)]
pub(super) enum ShapeError {
    /// It has no pixels, or fewer than its size says.
    Picture,
    /// No JPEG can be made of it.
    Jpeg(EncodingError),
}

impl Shaper {
    pub(super) fn new(fit: Arc<Fit>) -> Self {
        let form = match fit.kind {
            InputKind::Tensor(form) => form,
            InputKind::Jpeg => TensorForm {
                element: FormElement::U8,
                is_channels_last: true,
            },
        };
        Self {
            preprocessor: Preprocessor::new(fit.spec),
            former: Former::new(form),
            fit,
        }
    }

    pub(super) fn fit(&self) -> &Arc<Fit> {
        &self.fit
    }

    /// Makes all inputs of a request for a picture of nothing.
    pub(super) fn blank(&mut self) -> Result<(Vec<InputTensor>, Placement), ShapeError> {
        let size = PictureSize {
            width_px: self.fit.spec.width,
            height_px: self.fit.spec.height,
        };
        let grey = vec![114; 3 * size.width_px * size.height_px];
        self.shape(&Picture::Rgb { data: &grey, size })
    }

    /// Makes all inputs of a request, and says where the picture lies in the tensor.
    pub(super) fn shape(
        &mut self,
        picture: &Picture<'_>,
    ) -> Result<(Vec<InputTensor>, Placement), ShapeError> {
        let placement = self.preprocessor.run(picture).ok_or(ShapeError::Picture)?;
        let elements = self.former.form(self.preprocessor.tensor());
        let data = match (self.fit.kind, elements) {
            (InputKind::Jpeg, Elements::U8(rgb)) => jpeg(rgb, &self.fit.spec)?,
            (_, elements) => little_endian(elements),
        };
        let mut inputs = vec![InputTensor {
            name: self.fit.input.clone(),
            datatype: self.fit.datatype(),
            shape: self.fit.shape.clone(),
            data,
        }];
        inputs.extend(self.fit.extra.iter().cloned());
        Ok((inputs, placement))
    }
}

fn little_endian(elements: Elements<'_>) -> Bytes {
    fn each<T: Copy, const N: usize>(all: &[T], convert: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        let mut bytes = vec![0; N * all.len()];
        let chunks = bytes.as_chunks_mut::<N>().0.iter_mut();
        chunks.zip(all).for_each(|(to, &from)| *to = convert(from));
        bytes
    }
    match elements {
        Elements::F32(all) => each(all, f32::to_le_bytes),
        Elements::F16(all) => each(all, half::f16::to_le_bytes),
        Elements::U8(all) => all.to_vec(),
    }
    .into()
}

/// The one element of a tensor of BYTES: its length, then the JPEG.
fn jpeg(rgb: &[u8], spec: &TensorSpec) -> Result<Bytes, ShapeError> {
    const LENGTH_BYTES: usize = 4;
    let side = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
    let mut element = vec![0; LENGTH_BYTES];
    Encoder::new(&mut element, JPEG_QUALITY)
        .encode(rgb, side(spec.width), side(spec.height), ColorType::Rgb)
        .map_err(ShapeError::Jpeg)?;
    let length = u32::try_from(element.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    element[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(element.into())
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
