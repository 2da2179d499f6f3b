//! The protocol over HTTP with its binary extension: JSON first, whose length the header `Inference-Header-Content-Length` says, then
//! the bytes of all tensors, one after the other. Paths and bodies go out; bodies of answers come in.

use std::fmt;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use twinsight_client::hub::text::brief;

use super::tensor::{Datatype, OutputTensor};
use super::{AnswerError, InputTensor, MAX_NUMBERS, MAX_RANK, MAX_TENSORS, Metadata, ModelName};
use crate::detect::manifest::Outlet;

/// The header that says how long the JSON before the bytes is.
pub(in crate::detect::remote) const JSON_LENGTH: &str = "inference-header-content-length";

/// What servers call the extension by which tensors are bytes.
pub(in crate::detect::remote) const BINARY: &str = "binary_tensor_data";

/// What each request is called. No answer is found by it, but KServe's own server fails where a request has no name and its answer is JSON.
const REQUEST_ID: &str = "twinsight";

/// What may stand in a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Numbers in an answer's JSON may be nested this deep.
const MAX_NESTED: usize = MAX_RANK + 1;

/// The path of a model, below which its readiness and inference are. `prefix` stands before it.
pub(in crate::detect::remote) fn model_path(prefix: &str, model: &ModelName) -> String {
    let name = utf8_percent_encode(&model.name, PLAIN);
    match &model.version {
        None => format!("{prefix}/v2/models/{name}"),
        Some(version) => {
            let version = utf8_percent_encode(version, PLAIN);
            format!("{prefix}/v2/models/{name}/versions/{version}")
        }
    }
}

#[derive(Serialize)]
struct RequestJson<'a> {
    id: &'static str,
    inputs: Vec<RequestInput<'a>>,
    outputs: Vec<RequestOutput<'a>>,
}

#[derive(Serialize)]
struct RequestInput<'a> {
    name: &'a str,
    shape: &'a [i64],
    datatype: &'static str,
    parameters: InputParameters,
}

#[derive(Serialize)]
struct InputParameters {
    binary_data_size: usize,
}

#[derive(Serialize)]
struct RequestOutput<'a> {
    name: &'a str,
    parameters: OutputParameters,
}

#[derive(Serialize)]
struct OutputParameters {
    binary_data: bool,
}

/// The body of a request for inference, and how long its JSON is.
pub(in crate::detect::remote) fn request(
    inputs: &[InputTensor],
    outputs: &[String],
) -> (Bytes, usize) {
    fn input(tensor: &InputTensor) -> RequestInput<'_> {
        RequestInput {
            name: &tensor.name,
            shape: &tensor.shape,
            datatype: tensor.datatype.word(),
            parameters: InputParameters {
                binary_data_size: tensor.data.len(),
            },
        }
    }
    let json = RequestJson {
        id: REQUEST_ID,
        inputs: inputs.iter().map(input).collect(),
        outputs: outputs
            .iter()
            .map(|name| RequestOutput {
                name,
                parameters: OutputParameters { binary_data: true },
            })
            .collect(),
    };
    let mut body = serde_json::to_vec(&json)
        .expect("it is written, because its keys are texts and it is in memory");
    let length = body.len();
    body.reserve_exact(inputs.iter().map(|tensor| tensor.data.len()).sum());
    for tensor in inputs {
        body.extend_from_slice(&tensor.data);
    }
    (body.into(), length)
}

#[derive(Deserialize)]
struct ReadyJson {
    ready: Option<serde_json::Value>,
}

/// Whether an answer to the question for readiness, with a status of success, says that the model is not. Most have no body.
pub(in crate::detect::remote) fn read_ready(body: &[u8]) -> bool {
    let Ok(ReadyJson { ready: Some(ready) }) = serde_json::from_slice(body) else {
        return true;
    };
    // One server says it as a text.
    !(ready == false
        || ready
            .as_str()
            .is_some_and(|text| text.eq_ignore_ascii_case("false")))
}

#[derive(Deserialize)]
struct ServerJson {
    extensions: Option<Vec<String>>,
}

/// Whether a server's answer to the question for itself lets tensors be bytes. One that lists no extensions at all may know it.
pub(in crate::detect::remote) fn read_takes_bytes(body: &[u8]) -> bool {
    match serde_json::from_slice(body) {
        Ok(ServerJson {
            extensions: Some(all),
        }) => all.iter().any(|extension| extension == BINARY),
        Ok(ServerJson { extensions: None }) | Err(_) => true,
    }
}

#[derive(Deserialize)]
struct MetadataJson {
    #[serde(default)]
    inputs: Limited<TensorJson, MAX_TENSORS>,
    #[serde(default)]
    outputs: Limited<TensorJson, MAX_TENSORS>,
}

#[derive(Deserialize)]
struct TensorJson {
    name: String,
    datatype: String,
    #[serde(default)]
    shape: Limited<i64, MAX_RANK>,
}

/// Reads the answer to the question for a model.
pub(in crate::detect::remote) fn read_metadata(body: &[u8]) -> Result<Metadata, AnswerError> {
    let json: MetadataJson = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let outlet = |tensor: TensorJson| Outlet {
        element: Datatype::element(&tensor.datatype),
        name: tensor.name,
        dims: tensor.shape.0,
    };
    Ok(Metadata {
        inputs: json.inputs.0.into_iter().map(outlet).collect(),
        outputs: json.outputs.0.into_iter().map(outlet).collect(),
    })
}

#[derive(Deserialize)]
struct AnswerJson {
    outputs: Limited<OutputJson, MAX_TENSORS>,
}

#[derive(Deserialize)]
struct OutputJson {
    name: String,
    datatype: String,
    shape: Limited<i64, MAX_RANK>,
    #[serde(default)]
    parameters: ParametersJson,
    data: Option<Numbers>,
}

#[derive(Deserialize, Default)]
struct ParametersJson {
    binary_data_size: Option<usize>,
}

/// Reads the named outputs of an answer, in the order of the names. `json_length` is what the header says; without it all is JSON.
pub(in crate::detect::remote) fn read_outputs(
    body: &[u8],
    json_length: Option<usize>,
    names: &[String],
) -> Result<Vec<OutputTensor>, AnswerError> {
    let (json, mut bytes) = body
        .split_at_checked(json_length.unwrap_or(body.len()))
        .ok_or_else(|| AnswerError::malformed("it is shorter than its header says"))?;
    let answer: AnswerJson = serde_json::from_slice(json).map_err(|error| malformed(&error))?;
    let mut found: Vec<Option<OutputTensor>> = names.iter().map(|_| None).collect();
    for output in answer.outputs.0 {
        // Bytes of all outputs follow each other, so those of outputs that nobody asked for are stepped over.
        let raw = match output.parameters.binary_data_size {
            None => None,
            Some(size) => {
                let (own, rest) = bytes.split_at_checked(size).ok_or_else(|| {
                    AnswerError::malformed("the bytes of its outputs are cut short")
                })?;
                bytes = rest;
                Some(own)
            }
        };
        let Some(index) = names.iter().position(|name| *name == output.name) else {
            continue;
        };
        let shape = output.shape.0;
        let tensor = match (raw, output.data) {
            (Some(raw), _) => OutputTensor::of_bytes(&output.name, &output.datatype, shape, raw),
            (None, data) => {
                let values = data.map_or_else(Vec::new, |numbers| numbers.0);
                OutputTensor::of_numbers(&output.name, &output.datatype, shape, values)
            }
        };
        found[index] = Some(tensor?);
    }
    let missing = |(tensor, name): (Option<OutputTensor>, &String)| {
        tensor.ok_or_else(|| AnswerError::Missing(name.clone()))
    };
    found.into_iter().zip(names).map(missing).collect()
}

#[derive(Deserialize)]
struct ErrorJson {
    error: Option<String>,
    detail: Option<String>,
}

/// What an answer that is an error says, as far as it says anything.
pub(in crate::detect::remote) fn read_error(body: &[u8]) -> Option<String> {
    match serde_json::from_slice(body) {
        Ok(ErrorJson { error, detail }) => error.or(detail),
        Err(_) => Some(String::from_utf8_lossy(body.get(..400).unwrap_or(body)).into_owned()),
    }
    .map(|text| text.trim().to_owned())
    .filter(|text| !text.is_empty())
}

fn malformed(error: &serde_json::Error) -> AnswerError {
    AnswerError::malformed(brief(&error.to_string()))
}

/// A list of `MOST` elements at most.
struct Limited<T, const MOST: usize>(Vec<T>);

impl<T, const MOST: usize> Default for Limited<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Limited<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MOST: usize>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of {MOST} at most")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    if all.len() == MOST {
                        return Err(serde::de::Error::invalid_length(MOST + 1, &self));
                    }
                    all.push(one);
                }
                Ok(all)
            }
        }
        let list = List::<T, MOST>(std::marker::PhantomData);
        deserializer.deserialize_seq(list).map(Limited)
    }
}

/// The elements of a tensor, which may be nested as its shape is, flattened.
struct Numbers(Vec<f32>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = Vec::new();
        let into = NumbersInto {
            all: &mut all,
            depth: 0,
        };
        into.deserialize(deserializer)?;
        Ok(Self(all))
    }
}

struct NumbersInto<'a> {
    all: &'a mut Vec<f32>,
    depth: usize,
}

impl NumbersInto<'_> {
    fn push<E: serde::de::Error>(self, value: f32) -> Result<(), E> {
        if self.all.len() == MAX_NUMBERS {
            return Err(E::custom(format_args!("more than {MAX_NUMBERS} numbers")));
        }
        self.all.push(value);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for NumbersInto<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "numbers of classes and boxes are small, and scores and edges have no more digits"
)]
impl<'de> Visitor<'de> for NumbersInto<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or lists of them")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.push(value as f32)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.push(value as f32)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.push(value as f32)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.push(f32::from(u8::from(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.depth == MAX_NESTED {
            return Err(serde::de::Error::custom("numbers are nested too deep"));
        }
        loop {
            let inner = NumbersInto {
                all: self.all,
                depth: self.depth + 1,
            };
            if list.next_element_seed(inner)?.is_none() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
