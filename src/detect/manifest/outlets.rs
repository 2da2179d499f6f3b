//! The check of a session against its manifest: the inputs and outputs that ONNX Runtime found come in, and how the inputs are to be
//! filled goes out; the first that does not fit is refused. The detector runs it when it loads a model. The shapes of
//! outputs are looked at when the model has run, since files may leave them open.

use std::fmt;
use std::path::Path;

use super::file::{Extra, Layout};
use super::{Manifest, ModelError};
use crate::preprocess::affine::ChannelAffine;
use crate::preprocess::{FormElement, TensorForm};

/// The type of an outlet's elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F16,
    F64,
    U8,
    I32,
    I64,
    /// ONNX Runtime's name of another one.
    Other(String),
}

/// An input or output of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outlet {
    pub(crate) name: String,
    pub(crate) element: Element,
    /// Its dimensions; a negative one stands for any length.
    pub(crate) dims: Vec<i64>,
}

/// How the inputs of a session are filled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plug {
    /// The form of the picture's tensor.
    pub(crate) form: TensorForm,
    /// The shape of the picture's tensor.
    pub(crate) shape: Vec<i64>,
    /// The further inputs.
    pub(crate) extra: Vec<ExtraInput>,
}

/// A further input and its values, which are the same for every picture.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExtraInput {
    pub(crate) name: String,
    pub(crate) element: Element,
    pub(crate) shape: Vec<i64>,
    pub(crate) values: Vec<u16>,
}

/// An input or output that does not fit the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// `input`, `further input` or `output`.
    pub(crate) what: &'static str,
    /// The key of the manifest that says what is expected.
    pub(crate) key: &'static str,
    /// What the manifest says.
    pub(crate) expected: String,
    /// What the model has.
    pub(crate) found: String,
}

impl Manifest {
    /// Checks the inputs and outputs of a session of the model file at `path`, and says how its inputs are filled.
    ///
    /// # Errors
    /// If one is missing or has another type, or an input has another shape.
    pub(crate) fn check_outlets(
        &self,
        path: &Path,
        inputs: &[Outlet],
        outputs: &[Outlet],
    ) -> Result<Plug, ModelError> {
        let fail = |misfit: Misfit| ModelError::Outlet {
            path: path.to_owned(),
            what: misfit.what,
            key: misfit.key,
            expected: misfit.expected,
            found: misfit.found,
        };
        let plug = self.plug(inputs, outputs).map_err(fail)?;
        if plug.form.element == FormElement::U8 && self.tensor.affine != [ChannelAffine::PLAIN; 3] {
            let expected =
                "given bytes as they are, since it is u8 (`scale` 1, `mean` 0, `std` 1),"
                    .to_owned();
            return Err(fail(Misfit {
                what: "input",
                key: "input.scale",
                expected,
                found: "given others".to_owned(),
            }));
        }
        Ok(plug)
    }

    /// Says how the inputs of a model with these inputs and outputs are filled. An input of bytes takes pixels as they are, whatever
    /// the manifest says of their scale.
    ///
    /// # Errors
    /// If one is missing or has another type, or an input has another shape.
    pub(crate) fn plug(&self, inputs: &[Outlet], outputs: &[Outlet]) -> Result<Plug, Misfit> {
        let fail = |what, key, expected: String, found: String| Misfit {
            what,
            key,
            expected,
            found,
        };
        let side = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let (width, height) = (side(self.tensor.width), side(self.tensor.height));
        let is_channels_last = self.layout == Layout::Nhwc;
        let pixels = if is_channels_last {
            [height, width, 3]
        } else {
            [3, height, width]
        };
        let with_batch = [&[1], &pixels[..]].concat();
        let shapes = [with_batch, pixels.to_vec()];
        let input = inputs.iter().find(|outlet| outlet.name == self.input);
        let fitting = input.and_then(|outlet| {
            let element = match outlet.element {
                Element::F32 => FormElement::F32,
                Element::F16 => FormElement::F16,
                Element::U8 => FormElement::U8,
                _ => return None,
            };
            let shape = shapes.iter().find(|shape| outlet.takes(shape))?;
            Some((element, shape.clone()))
        });
        let Some((element, shape)) = fitting else {
            let expected = format!("`{}` f32, f16 or u8 {:?}", self.input, shapes[0]);
            let found = input.map_or_else(|| describe(inputs), Outlet::text);
            let key = input.map_or("input.name", |outlet| self.wrong_key(outlet));
            return Err(fail("input", key, expected, found));
        };
        let extra = self
            .extra_inputs(inputs)
            .map_err(|(expected, found)| fail("further input", "input.extra", expected, found))?;
        for (key, name) in self.output.keys() {
            let found = outputs.iter().find(|outlet| outlet.name == name);
            if found.is_none_or(|outlet| matches!(outlet.element, Element::Other(_))) {
                let expected = format!("`{name}` of numbers");
                let found = found.map_or_else(|| describe(outputs), Outlet::text);
                return Err(fail("output", key, expected, found));
            }
        }
        Ok(Plug {
            form: TensorForm {
                element,
                is_channels_last,
            },
            shape,
            extra,
        })
    }

    /// The key that is likely wrong where the input's shape does not fit.
    fn wrong_key(&self, outlet: &Outlet) -> &'static str {
        let known = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let dims = match outlet.dims.as_slice() {
            [_, dims @ ..] if dims.len() == 3 => dims,
            dims => dims,
        };
        let (layout, height, width) = match *dims {
            [3, height, width] if self.layout == Layout::Nchw => (true, height, width),
            [height, width, 3] if self.layout == Layout::Nhwc => (true, height, width),
            _ => (false, 0, 0),
        };
        match layout {
            false => "input.layout",
            true if height >= 0 && height != known(self.tensor.height) => "input.height",
            true if width >= 0 && width != known(self.tensor.width) => "input.width",
            true => "input",
        }
    }

    /// What the further inputs take. The error is what was expected and what was found.
    fn extra_inputs(&self, inputs: &[Outlet]) -> Result<Vec<ExtraInput>, (String, String)> {
        let further: Vec<&Outlet> = inputs
            .iter()
            .filter(|outlet| outlet.name != self.input)
            .collect();
        if let Some(name) = self
            .extra
            .keys()
            .find(|name| further.iter().all(|outlet| outlet.name != **name))
        {
            return Err((
                format!("`{name}`"),
                format!("not there: its inputs are {}", describe(inputs)),
            ));
        }
        let side = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        let (width, height) = (side(self.tensor.width), side(self.tensor.height));
        let plug = |outlet: &Outlet| {
            let Some(extra) = self.extra.get(&outlet.name) else {
                let wanted = format!(
                    "named in `input.extra` with what it takes, as in `extra = {{ {:?} = \"height_width\" }}`,",
                    outlet.name
                );
                return Err((wanted, outlet.text()));
            };
            let shape: Vec<i64> = outlet
                .dims
                .iter()
                .map(|&dim| if dim < 0 { 1 } else { dim })
                .collect();
            // An input that leaves its last length open takes the two numbers of a size.
            let shape = match (*extra, outlet.dims.last()) {
                (_, Some(&last)) if last < 0 => [&shape[..shape.len() - 1], &[2]].concat(),
                _ => shape,
            };
            let count = shape.iter().try_fold(1usize, |all, &dim| {
                all.checked_mul(usize::try_from(dim).ok()?)
            });
            let values = match (*extra, count) {
                (Extra::WidthHeight, Some(2)) => vec![width, height],
                (Extra::HeightWidth, Some(2)) => vec![height, width],
                (Extra::Ones, Some(count @ 1..=16)) => vec![1; count],
                _ => return Err(("of two numbers".to_owned(), outlet.text())),
            };
            if matches!(
                outlet.element,
                Element::Other(_) | Element::U8 | Element::F16
            ) {
                return Err(("of i64, i32, f32 or f64".to_owned(), outlet.text()));
            }
            Ok(ExtraInput {
                name: outlet.name.clone(),
                element: outlet.element.clone(),
                shape,
                values,
            })
        };
        further.into_iter().map(plug).collect()
    }
}

fn describe(outlets: &[Outlet]) -> String {
    let all: Vec<String> = outlets.iter().map(Outlet::text).collect();
    all.join(" and ")
}

impl Outlet {
    /// True if a tensor of this shape goes in or comes out.
    pub(crate) fn takes(&self, shape: &[i64]) -> bool {
        self.dims.len() == shape.len()
            && self
                .dims
                .iter()
                .zip(shape)
                .all(|(&dim, &want)| dim < 0 || want == dim)
    }

    /// Its name, type and shape for people.
    pub(crate) fn text(&self) -> String {
        let dims: Vec<String> = self
            .dims
            .iter()
            .map(|&dim| {
                if dim < 0 {
                    "N".to_owned()
                } else {
                    dim.to_string()
                }
            })
            .collect();
        format!("`{}` {} [{}]", self.name, self.element, dims.join(", "))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::F64 => "f64",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Other(name) => name,
        })
    }
}
