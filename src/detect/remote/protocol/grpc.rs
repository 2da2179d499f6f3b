//! The messages of the service `inference.GRPCInferenceService`, with the field numbers of KServe's `open_inference_grpc.proto`.
//! Requests are written by prost. Answers are read by hand: a few megabytes of a message's smallest fields would be gigabytes once they
//! are structs, and here nothing is kept but what was asked for.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use twinsight_client::hub::text::brief;

use super::tensor::{Datatype, OutputTensor, count};
use super::{AnswerError, InputTensor, MAX_NUMBERS, MAX_RANK, MAX_TENSORS, Metadata, ModelName};
use crate::detect::manifest::Outlet;

/// The paths of the methods.
pub(in crate::detect::remote) const MODEL_READY: &str =
    "/inference.GRPCInferenceService/ModelReady";
pub(in crate::detect::remote) const MODEL_METADATA: &str =
    "/inference.GRPCInferenceService/ModelMetadata";
pub(in crate::detect::remote) const MODEL_INFER: &str =
    "/inference.GRPCInferenceService/ModelInfer";

/// `ModelReadyRequest` and `ModelMetadataRequest`, which have the same fields.
#[derive(Clone, PartialEq, Message)]
pub(in crate::detect::remote) struct ModelRequest {
    #[prost(string, tag = "1")]
    pub(in crate::detect::remote) name: String,
    #[prost(string, tag = "2")]
    pub(in crate::detect::remote) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::detect::remote) struct ModelInferRequest {
    #[prost(string, tag = "1")]
    pub(in crate::detect::remote) model_name: String,
    #[prost(string, tag = "2")]
    pub(in crate::detect::remote) model_version: String,
    #[prost(message, repeated, tag = "5")]
    pub(in crate::detect::remote) inputs: Vec<InferInputTensor>,
    #[prost(message, repeated, tag = "6")]
    pub(in crate::detect::remote) outputs: Vec<InferRequestedOutputTensor>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(in crate::detect::remote) raw_input_contents: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::detect::remote) struct InferInputTensor {
    #[prost(string, tag = "1")]
    pub(in crate::detect::remote) name: String,
    #[prost(string, tag = "2")]
    pub(in crate::detect::remote) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(in crate::detect::remote) shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::detect::remote) struct InferRequestedOutputTensor {
    #[prost(string, tag = "1")]
    pub(in crate::detect::remote) name: String,
}

impl ModelRequest {
    pub(in crate::detect::remote) fn of(model: &ModelName) -> Self {
        Self {
            name: model.name.clone(),
            version: model.version.clone().unwrap_or_default(),
        }
    }
}

impl ModelInferRequest {
    pub(in crate::detect::remote) fn new(
        model: &ModelName,
        inputs: &[InputTensor],
        outputs: &[String],
    ) -> Self {
        let input = |tensor: &InputTensor| InferInputTensor {
            name: tensor.name.clone(),
            datatype: tensor.datatype.word().to_owned(),
            shape: tensor.shape.clone(),
        };
        let output = |name: &String| InferRequestedOutputTensor { name: name.clone() };
        Self {
            model_name: model.name.clone(),
            model_version: model.version.clone().unwrap_or_default(),
            inputs: inputs.iter().map(input).collect(),
            outputs: outputs.iter().map(output).collect(),
            raw_input_contents: inputs.iter().map(|tensor| tensor.data.clone()).collect(),
        }
    }
}

/// Reads a `ModelReadyResponse`.
pub(in crate::detect::remote) fn read_ready(message: Bytes) -> Result<bool, AnswerError> {
    let mut ready = false;
    fields(message, |number, value| {
        if let (1, Value::Number(number)) = (number, value) {
            ready = number != 0;
        }
        Ok(())
    })?;
    Ok(ready)
}

/// Reads a `ModelMetadataResponse`.
pub(in crate::detect::remote) fn read_metadata(message: Bytes) -> Result<Metadata, AnswerError> {
    let mut metadata = Metadata::default();
    fields(message, |number, value| {
        let list = match number {
            4 => &mut metadata.inputs,
            5 => &mut metadata.outputs,
            _ => return Ok(()),
        };
        let tensor = Head::read(value.message()?)?;
        limited(list.len(), MAX_TENSORS, "tensors")?;
        list.push(Outlet {
            element: Datatype::element(&tensor.datatype),
            name: tensor.name,
            dims: tensor.shape,
        });
        Ok(())
    })?;
    Ok(metadata)
}

/// Reads the named outputs of a `ModelInferResponse`, in the order of the names.
pub(in crate::detect::remote) fn read_outputs(
    message: Bytes,
    names: &[String],
) -> Result<Vec<OutputTensor>, AnswerError> {
    let (mut heads, mut raw) = (Vec::new(), Vec::new());
    fields(message, |number, value| {
        match number {
            5 => {
                limited(heads.len(), MAX_TENSORS, "outputs")?;
                heads.push(Head::read(value.message()?)?);
            }
            6 => {
                limited(raw.len(), MAX_TENSORS, "outputs")?;
                raw.push(value.message()?);
            }
            _ => {}
        }
        Ok(())
    })?;
    let one = |name: &String| {
        let at = heads.iter().position(|head| head.name == *name);
        let (index, head) = at
            .and_then(|index| Some((index, heads.get(index)?)))
            .ok_or_else(|| AnswerError::Missing(name.clone()))?;
        match (&head.contents, raw.get(index)) {
            (None, None) if raw.is_empty() => {
                OutputTensor::of_numbers(name, &head.datatype, head.shape.clone(), Vec::new())
            }
            (_, Some(bytes)) => {
                OutputTensor::of_bytes(name, &head.datatype, head.shape.clone(), bytes)
            }
            (Some(contents), None) => {
                let most = count(name, &head.shape)?;
                let values = typed_contents(contents.clone(), most)?;
                OutputTensor::of_numbers(name, &head.datatype, head.shape.clone(), values)
            }
            (None, None) => Err(AnswerError::malformed(format!(
                "it has {} outputs and the bytes of {}",
                heads.len(),
                raw.len()
            ))),
        }
    };
    names.iter().map(one).collect()
}

/// What a tensor's message says beside its elements.
struct Head {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    /// The message with its elements, if they are in it.
    contents: Option<Bytes>,
}

impl Head {
    fn read(message: Bytes) -> Result<Self, AnswerError> {
        let mut head = Self {
            name: String::new(),
            datatype: String::new(),
            shape: Vec::new(),
            contents: None,
        };
        fields(message, |number, value| {
            match (number, value) {
                (1, value) => head.name = value.text()?,
                (2, value) => head.datatype = value.text()?,
                // Numbers of a list may come one by one, or all in one field.
                (3, Value::Number(dim)) => push_dim(&mut head.shape, dim)?,
                (3, Value::Message(mut packed)) => {
                    while packed.has_remaining() {
                        push_dim(&mut head.shape, varint(&mut packed)?)?;
                    }
                }
                (5, value) => head.contents = Some(value.message()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(head)
    }
}

fn push_dim(shape: &mut Vec<i64>, dim: u64) -> Result<(), AnswerError> {
    limited(shape.len(), MAX_RANK, "dimensions")?;
    shape.push(dim.cast_signed());
    Ok(())
}

/// Reads the elements of an `InferTensorContents`, of which there should be `most`.
fn typed_contents(message: Bytes, most: usize) -> Result<Vec<f32>, AnswerError> {
    let most = most.min(MAX_NUMBERS);
    // What is beyond the shape is not kept, and that there was something makes the count wrong.
    let mut values = Vec::new();
    let mut push = |value: f32| {
        if values.len() <= most {
            values.push(value);
        }
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "numbers of classes and boxes are small, and scores and edges have no more digits"
    )]
    fields(message, |number, value| {
        let signed = |raw: u64| raw.cast_signed() as f32;
        let unsigned = |raw: u64| raw as f32;
        let convert: &dyn Fn(u64) -> f32 = match number {
            1 | 4 | 5 => &unsigned,
            2 | 3 => &signed,
            6 | 7 => &|_| 0.0,
            _ => return Err(AnswerError::malformed("its numbers are of no known type")),
        };
        match (number, value) {
            (6, Value::Fixed32(bits)) => push(f32::from_bits(bits)),
            (6, Value::Message(packed)) => {
                let (all, rest) = packed.as_chunks::<4>();
                whole(rest)?;
                all.iter().for_each(|raw| push(f32::from_le_bytes(*raw)));
            }
            (7, Value::Fixed64(bits)) => push(f64::from_bits(bits) as f32),
            (7, Value::Message(packed)) => {
                let (all, rest) = packed.as_chunks::<8>();
                whole(rest)?;
                all.iter()
                    .for_each(|raw| push(f64::from_le_bytes(*raw) as f32));
            }
            (1..=5, Value::Number(raw)) => push(convert(raw)),
            (1..=5, Value::Message(mut packed)) => {
                while packed.has_remaining() {
                    push(convert(varint(&mut packed)?));
                }
            }
            _ => return Err(AnswerError::malformed("its numbers are of the wrong type")),
        }
        Ok(())
    })?;
    Ok(values)
}

fn whole(rest: &[u8]) -> Result<(), AnswerError> {
    match rest {
        [] => Ok(()),
        _ => Err(AnswerError::malformed("a list of numbers is cut short")),
    }
}

fn limited(have: usize, most: usize, what: &'static str) -> Result<(), AnswerError> {
    match have < most {
        true => Ok(()),
        false => Err(AnswerError::TooMuch { what, most }),
    }
}

/// The value of a field.
enum Value {
    Number(u64),
    Fixed32(u32),
    Fixed64(u64),
    /// A text, bytes, a message, or a list of numbers.
    Message(Bytes),
}

impl Value {
    fn message(self) -> Result<Bytes, AnswerError> {
        match self {
            Self::Message(bytes) => Ok(bytes),
            _ => Err(AnswerError::malformed("a field has the wrong type")),
        }
    }

    fn text(self) -> Result<String, AnswerError> {
        let bytes = self.message()?;
        // Names that are longer are none that a manifest has, and are only told of.
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| AnswerError::malformed("a name is no UTF-8 text"))?;
        Ok(match text.len() {
            ..=1024 => text.to_owned(),
            _ => brief(text),
        })
    }
}

/// Gives each field of a message to `take`.
fn fields(
    mut message: Bytes,
    mut take: impl FnMut(u32, Value) -> Result<(), AnswerError>,
) -> Result<(), AnswerError> {
    let short = || AnswerError::malformed("it is cut short");
    while message.has_remaining() {
        let (number, wire_type) =
            decode_key(&mut message).map_err(|error| AnswerError::malformed(error.to_string()))?;
        let value = match wire_type {
            WireType::Varint => Value::Number(varint(&mut message)?),
            WireType::ThirtyTwoBit => {
                Value::Fixed32(message.try_get_u32_le().map_err(|_| short())?)
            }
            WireType::SixtyFourBit => {
                Value::Fixed64(message.try_get_u64_le().map_err(|_| short())?)
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(varint(&mut message)?).map_err(|_| short())?;
                if length > message.remaining() {
                    return Err(short());
                }
                Value::Message(message.split_to(length))
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err(AnswerError::malformed("it has a group"));
            }
        };
        take(number, value)?;
    }
    Ok(())
}

fn varint(bytes: &mut Bytes) -> Result<u64, AnswerError> {
    decode_varint(bytes).map_err(|error| AnswerError::malformed(error.to_string()))
}

#[cfg(test)]
#[path = "grpc_tests.rs"]
pub(in crate::detect::remote) mod tests;
