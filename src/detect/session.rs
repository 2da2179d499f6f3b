//! A session of ONNX Runtime with all that a picture needs before and after it: a picture comes in, the outputs go out as arrays of
//! `f32`. The ONNX detector owns one, and `twinsight model add` looks at a model's outputs with it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynTensor, Tensor, TensorElementType, TensorRef, ValueType};

use super::detector::DetectError;
use super::manifest::{Element, ExtraInput, Manifest, ModelError, Outlet, Plug};
use super::postprocess::Array;
use super::providers::{Providers, SessionError};
use super::runtime::Runtime;
use crate::preprocess::{Elements, Former, Picture, Placement, Preprocessor};
use crate::telemetry::cpu::{Spent, Stopwatch};
use twinsight_client::thread::yielding;

/// What a model file says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inspected {
    pub(crate) inputs: Vec<Outlet>,
    pub(crate) outputs: Vec<Outlet>,
    /// The metadata that the exporter wrote.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The program that made the file, if it says so.
    pub(crate) producer: String,
}

/// A session that is ready for pictures.
pub(super) struct ModelSession {
    session: Session,
    run_options: Arc<RunOptions>,
    input: String,
    shape: Vec<i64>,
    /// The further inputs, which are the same for every picture.
    extra: Vec<(String, DynTensor)>,
    preprocessor: Preprocessor,
    former: Former,
}

/// The time that a picture took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Laps {
    pub(super) preprocess: Spent,
    pub(super) inference: Spent,
}

/// Builds a session of a model file, whose bytes these are, and says how much of it the preferred provider has.
pub(super) fn build(
    runtime: &Runtime,
    providers: &Providers,
    path: &Path,
    model: &[u8],
) -> Result<(Session, String), ModelError> {
    // The session's threads yield as the worker does, since the time that they take from receiving and decoding adds to the
    // age of every frame.
    yielding("infer-pool", || providers.session(runtime, model)).map_err(|error| {
        let reason = match error {
            SessionError::Provider(error) => return error,
            SessionError::Model(error) => error.to_string(),
        };
        match too_new(&reason) {
            Some((found, newest)) => ModelError::TooNew {
                path: path.to_owned(),
                found,
                newest,
            },
            None => ModelError::Session {
                path: path.to_owned(),
                reason,
            },
        }
    })
}

/// Reads the inputs, outputs and metadata of a session.
pub(super) fn inspect(session: &Session) -> Inspected {
    let mut metadata = BTreeMap::new();
    let mut producer = String::new();
    if let Ok(found) = session.metadata() {
        producer = found.producer().unwrap_or_default();
        for key in found.custom_keys().unwrap_or_default() {
            if let Some(value) = found.custom(&key) {
                metadata.insert(key, value);
            }
        }
    }
    Inspected {
        inputs: session.inputs().iter().map(outlet).collect(),
        outputs: session.outputs().iter().map(outlet).collect(),
        metadata,
        producer,
    }
}

impl ModelSession {
    /// Makes a session ready for a model of this manifest.
    ///
    /// # Errors
    /// If the inputs or outputs do not fit the manifest.
    pub(super) fn new(
        session: Session,
        manifest: &Manifest,
        path: &Path,
    ) -> Result<Self, ModelError> {
        let run_options = RunOptions::new().map_err(|error| refuse(path, &error))?;
        let plug = plug(&session, manifest, path)?;
        Ok(Self {
            extra: tensors(plug.extra, path)?,
            run_options: Arc::new(run_options),
            session,
            input: manifest.input.clone(),
            shape: plug.shape,
            preprocessor: Preprocessor::new(manifest.tensor),
            former: Former::new(plug.form),
        })
    }

    /// Makes the same session ready for another manifest of its model.
    ///
    /// # Errors
    /// If the inputs or outputs do not fit the manifest.
    pub(super) fn refit(&mut self, manifest: &Manifest, path: &Path) -> Result<(), ModelError> {
        let plug = plug(&self.session, manifest, path)?;
        self.extra = tensors(plug.extra, path)?;
        self.input.clone_from(&manifest.input);
        self.shape = plug.shape;
        self.preprocessor = Preprocessor::new(manifest.tensor);
        self.former = Former::new(plug.form);
        Ok(())
    }

    pub(super) fn run_options(&self) -> &Arc<RunOptions> {
        &self.run_options
    }

    /// Runs the model on a picture, and gives what `read` makes of those outputs that are named.
    ///
    /// # Errors
    /// If the picture is not whole, or the run fails.
    pub(super) fn run<R>(
        &mut self,
        model: &Arc<str>,
        picture: &Picture<'_>,
        names: &[&str],
        read: impl FnOnce(&[Array<'_>], &Placement) -> R,
    ) -> Result<(R, Laps), DetectError> {
        let mut watch = Stopwatch::start();
        let placement = self.preprocessor.run(picture);
        let placement = placement.ok_or_else(|| DetectError::of_picture(picture))?;
        let elements = self.former.form(self.preprocessor.tensor());
        let preprocess = watch.lap();
        let failed = |error: ort::Error| DetectError::Run {
            model: Arc::clone(model),
            message: error.to_string(),
        };
        let shape = self.shape.as_slice();
        let tensor: SessionInputValue<'_> = match elements {
            Elements::F32(all) => TensorRef::from_array_view((shape, all))
                .map_err(failed)?
                .into(),
            Elements::F16(all) => TensorRef::from_array_view((shape, all))
                .map_err(failed)?
                .into(),
            Elements::U8(all) => TensorRef::from_array_view((shape, all))
                .map_err(failed)?
                .into(),
        };
        let mut inputs = vec![(Cow::Borrowed(self.input.as_str()), tensor)];
        for (name, tensor) in &self.extra {
            inputs.push((Cow::Borrowed(name.as_str()), tensor.into()));
        }
        let outputs = self
            .session
            .run_with_options(inputs, &*self.run_options)
            .map_err(failed)?;
        let inference = watch.lap();
        let numbers: Vec<_> = names
            .iter()
            .filter_map(|name| Some((*name, numbers(outputs.get(*name)?)?)))
            .collect();
        let arrays: Vec<Array<'_>> = numbers
            .iter()
            .map(|(name, (dims, values))| Array { name, dims, values })
            .collect();
        let laps = Laps {
            preprocess,
            inference,
        };
        Ok((read(&arrays, &placement), laps))
    }
}

fn refuse(path: &Path, error: &ort::Error) -> ModelError {
    ModelError::Session {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn plug(session: &Session, manifest: &Manifest, path: &Path) -> Result<Plug, ModelError> {
    let Inspected {
        inputs, outputs, ..
    } = inspect(session);
    manifest.check_outlets(path, &inputs, &outputs)
}

fn tensors(inputs: Vec<ExtraInput>, path: &Path) -> Result<Vec<(String, DynTensor)>, ModelError> {
    let one = |input: ExtraInput| {
        let tensor = tensor(&input).map_err(|error| refuse(path, &error))?;
        Ok((input.name, tensor))
    };
    inputs.into_iter().map(one).collect()
}

/// The shape and numbers of an output; `None` for one that holds no numbers.
fn numbers<'a>(value: &'a ort::value::DynValue) -> Option<(Vec<i64>, Cow<'a, [f32]>)> {
    macro_rules! converted {
        ($type:ty, $convert:expr) => {{
            let (shape, values) = value.try_extract_tensor::<$type>().ok()?;
            let convert: fn(&$type) -> f32 = $convert;
            (
                shape.to_vec(),
                Cow::Owned(values.iter().map(convert).collect()),
            )
        }};
    }
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return None;
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "numbers of classes and boxes are small, and scores and edges have no more digits"
    )]
    Some(match ty {
        TensorElementType::Float32 => {
            let (shape, values) = value.try_extract_tensor::<f32>().ok()?;
            (shape.to_vec(), Cow::Borrowed(values))
        }
        TensorElementType::Float16 => converted!(half::f16, |value| value.to_f32()),
        TensorElementType::Float64 => converted!(f64, |value| *value as f32),
        TensorElementType::Int64 => converted!(i64, |value| *value as f32),
        TensorElementType::Int32 => converted!(i32, |value| *value as f32),
        TensorElementType::Uint8 => converted!(u8, |value| f32::from(*value)),
        _ => return None,
    })
}

fn tensor(input: &ExtraInput) -> ort::Result<DynTensor> {
    let shape = input.shape.as_slice();
    let values = input.values.iter();
    Ok(match input.element {
        Element::I64 => {
            Tensor::from_array((shape, values.map(|&v| i64::from(v)).collect::<Vec<_>>()))?.upcast()
        }
        Element::I32 => {
            Tensor::from_array((shape, values.map(|&v| i32::from(v)).collect::<Vec<_>>()))?.upcast()
        }
        Element::F64 => {
            Tensor::from_array((shape, values.map(|&v| f64::from(v)).collect::<Vec<_>>()))?.upcast()
        }
        _ => {
            Tensor::from_array((shape, values.map(|&v| f32::from(v)).collect::<Vec<_>>()))?.upcast()
        }
    })
}

fn outlet(from: &ort::value::Outlet) -> Outlet {
    let (element, dims) = match from.dtype() {
        ValueType::Tensor { ty, shape, .. } => (element(*ty), shape.to_vec()),
        other => (Element::Other(other.to_string()), Vec::new()),
    };
    Outlet {
        name: from.name().to_owned(),
        element,
        dims,
    }
}

fn element(element: TensorElementType) -> Element {
    match element {
        TensorElementType::Float32 => Element::F32,
        TensorElementType::Float16 => Element::F16,
        TensorElementType::Float64 => Element::F64,
        TensorElementType::Uint8 => Element::U8,
        TensorElementType::Int32 => Element::I32,
        TensorElementType::Int64 => Element::I64,
        other => Element::Other(other.to_string()),
    }
}

/// Reads the version of a model and the newest version that is known out of an error message of ONNX Runtime, if the error is
/// that the model is too new.
fn too_new(reason: &str) -> Option<(String, String)> {
    let number = |before: &str| {
        let (_, rest) = reason.split_once(before)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit());
        let digits = &rest[..digits.unwrap_or(rest.len())];
        (!digits.is_empty()).then_some(digits)
    };
    let of = |kind: &str, found: &str, newest: &str| {
        Some((
            format!("{kind} {}", number(found)?),
            number(newest)?.to_owned(),
        ))
    };
    of(
        "IR version",
        "Unsupported model IR version: ",
        "max supported IR version: ",
    )
    .or_else(|| of("opset", "Opset ", "is till opset "))
}
