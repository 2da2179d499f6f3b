//! The check of a session against its manifest: the inputs and outputs that ONNX Runtime found come in, and the first that does not
//! fit is refused. The detector runs it when it loads a model.

use std::path::Path;

use super::{Manifest, ModelError, OutputKind};

/// An input or output of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outlet {
    pub(crate) name: String,
    /// The type of its elements: `f32`, or ONNX Runtime's name of another.
    pub(crate) element: String,
    /// Its dimensions; a negative one stands for any length.
    pub(crate) dims: Vec<i64>,
}

impl Manifest {
    /// Checks the inputs and outputs of a session of the model file at `path`.
    ///
    /// # Errors
    /// If one is missing, has another type or shape, or there is a second input.
    pub(crate) fn check_outlets(
        &self,
        path: &Path,
        inputs: &[Outlet],
        outputs: &[Outlet],
    ) -> Result<(), ModelError> {
        let side = |length: usize| i64::try_from(length).ok();
        let classes = side(self.labels.len());
        let (width, height) = (side(self.tensor.width), side(self.tensor.height));
        let input = [&[Some(1), Some(3), height, width][..]];
        let fail = |what, key, expected, found| ModelError::Outlet {
            path: path.to_owned(),
            what,
            key,
            expected,
            found,
        };
        check(inputs, &self.input, &input)
            .map_err(|(expected, found)| fail("input", "input", expected, found))?;
        if inputs.len() > 1 {
            let expected = format!("only `{}`", self.input);
            return Err(fail("input", "input", expected, describe(inputs)));
        }
        let check_output = |name: &str, shapes: &[&[Option<i64>]]| {
            check(outputs, name, shapes)
                .map_err(|(expected, found)| fail("output", "output", expected, found))
        };
        match &self.output {
            OutputKind::Ssd { scores, boxes } => {
                check_output(scores, &[&[Some(1), None, classes]])?;
                check_output(
                    boxes,
                    &[
                        &[Some(1), None, Some(1), Some(4)],
                        &[Some(1), None, Some(4)],
                    ],
                )
            }
            OutputKind::Rows { rows } => check_output(rows, &[&[Some(1), None, Some(6)]]),
            OutputKind::Yolo { predictions } => {
                check_output(predictions, &[&[Some(1), classes.map(|n| n + 4), None]])
            }
        }
    }
}

/// Looks for an outlet of this name with elements of `f32` and one of the shapes, where `None` stands for any length. The error is
/// what was expected and what was found.
fn check(
    outlets: &[Outlet],
    name: &str,
    shapes: &[&[Option<i64>]],
) -> Result<(), (String, String)> {
    let fits = |outlet: &Outlet, shape: &[Option<i64>]| {
        outlet.dims.len() == shape.len()
            && outlet
                .dims
                .iter()
                .zip(shape)
                .all(|(&dim, &want)| dim < 0 || want.is_none_or(|want| want == dim))
    };
    let named = outlets.iter().find(|outlet| outlet.name == name);
    let fine = named.is_some_and(|outlet| {
        outlet.element == "f32" && shapes.iter().any(|shape| fits(outlet, shape))
    });
    if fine {
        return Ok(());
    }
    let shapes: Vec<String> = shapes.iter().map(|shape| shape_text(shape)).collect();
    let expected = format!("`{name}` f32 {}", shapes.join(" or "));
    Err((
        expected,
        named.map_or_else(|| describe(outlets), Outlet::text),
    ))
}

fn shape_text(shape: &[Option<i64>]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|dim| dim.map_or_else(|| "N".to_owned(), |dim| dim.to_string()))
        .collect();
    format!("[{}]", dims.join(", "))
}

fn describe(outlets: &[Outlet]) -> String {
    let all: Vec<String> = outlets.iter().map(Outlet::text).collect();
    all.join(" and ")
}

impl Outlet {
    fn text(&self) -> String {
        let dims: Vec<Option<i64>> = self
            .dims
            .iter()
            .map(|&dim| (dim >= 0).then_some(dim))
            .collect();
        format!("`{}` {} {}", self.name, self.element, shape_text(&dims))
    }
}
