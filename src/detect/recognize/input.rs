//! The inputs of a model: what the file says of them comes in; which one takes the picture, in which layout and size, and what the others
//! take goes out. `twinsight model add` asks for it before the model has run.

use std::collections::BTreeMap;

use super::Unrecognized;
use super::family::Style;
use super::metadata::Metadata;
use crate::detect::manifest::file::{Extra, InputTable, Layout};
use crate::detect::manifest::{Element, Outlet};

/// Sizes that are tried in turn where a file leaves its size open: most exports take the first.
const SIZES: [usize; 5] = [640, 320, 416, 512, 300];

/// The inputs of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inputs {
    /// The name of the input that takes the picture.
    pub(crate) name: String,
    pub(crate) layout: Layout,
    pub(crate) is_bytes: bool,
    /// The width and the height; where the file leaves them open, several that are tried in turn.
    pub(crate) sizes: Vec<(usize, usize)>,
    /// Where the size comes from, a clause.
    pub(crate) size_from: &'static str,
    /// What the further inputs take.
    pub(crate) extra: BTreeMap<String, Extra>,
}

/// What the user says about the inputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct InputHints {
    pub(crate) name: Option<String>,
    pub(crate) layout: Option<Layout>,
    /// The width and the height.
    pub(crate) size: Option<(usize, usize)>,
    pub(crate) extra: BTreeMap<String, Extra>,
}

impl Inputs {
    /// Finds the input for the picture, and what the others take.
    ///
    /// # Errors
    /// If no input, or more than one, can take a picture, or it is not known what another one takes.
    pub(crate) fn find(
        inputs: &[Outlet],
        metadata: &Metadata,
        hints: &InputHints,
    ) -> Result<Self, Unrecognized> {
        let described = || {
            let lines = inputs.iter().map(|outlet| {
                let line = super::describe(std::slice::from_ref(outlet));
                if is_grey(outlet) {
                    line + ", which is grey: it has one channel and not three"
                } else {
                    line
                }
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        let pictures: Vec<(&Outlet, Layout, [i64; 2])> = inputs
            .iter()
            .filter(|outlet| hints.name.as_ref().is_none_or(|name| *name == outlet.name))
            .filter_map(|outlet| {
                let (layout, sides) = as_picture(outlet, hints.layout)?;
                Some((outlet, layout, sides))
            })
            .collect();
        if let (Some(layout), []) = (hints.layout, pictures.as_slice())
            && let Some((outlet, (found, _))) = inputs
                .iter()
                .find_map(|outlet| Some((outlet, as_picture(outlet, None)?)))
        {
            return Err(Unrecognized::Layout {
                layout,
                found,
                input: outlet.text(),
            });
        }
        let [(outlet, layout, [height, width])] = pictures.as_slice() else {
            return Err(Unrecognized::Picture {
                inputs: described(),
            });
        };
        if let [batch, ..] = outlet.dims.as_slice()
            && outlet.dims.len() == 4
            && *batch > 1
        {
            return Err(Unrecognized::Batch {
                batch: *batch,
                input: outlet.text(),
            });
        }
        let is_other =
            |of_file: i64, wanted: usize| of_file > 0 && usize::try_from(of_file) != Ok(wanted);
        if let Some((wanted_width, wanted_height)) = hints.size
            && (is_other(*width, wanted_width) || is_other(*height, wanted_height))
        {
            return Err(Unrecognized::FixedSize {
                input: outlet.text(),
                size: format!("{wanted_width}x{wanted_height}"),
            });
        }
        let (sizes, size_from) = sizes(*width, *height, metadata, hints.size);
        let mut extra = hints.extra.clone();
        for other in inputs.iter().filter(|other| other.name != outlet.name) {
            if extra.contains_key(&other.name) {
                continue;
            }
            let taken = extra_by_name(&other.name).ok_or_else(|| Unrecognized::Extra {
                input: other.text(),
                name: other.name.clone(),
            })?;
            extra.insert(other.name.clone(), taken);
        }
        Ok(Self {
            name: outlet.name.clone(),
            layout: *layout,
            is_bytes: outlet.element == Element::U8,
            sizes,
            size_from,
            extra,
        })
    }

    /// The input's table for a size and a way to prepare the picture.
    pub(crate) fn table(&self, (width, height): (usize, usize), style: &Style) -> InputTable {
        InputTable {
            name: self.name.clone(),
            width,
            height,
            layout: self.layout,
            color_order: style.color_order,
            scale: if self.is_bytes { 1.0 } else { style.scale },
            mean: if self.is_bytes { [0.0; 3] } else { style.mean },
            std: if self.is_bytes { [1.0; 3] } else { style.std },
            resize: style.resize,
            align: style.align,
            pad: style.pad,
            extra: self.extra.clone(),
        }
    }
}

/// True for an input that takes a picture of one channel.
fn is_grey(outlet: &Outlet) -> bool {
    let is_of_numbers = matches!(outlet.element, Element::F32 | Element::F16 | Element::U8);
    is_of_numbers && matches!(*outlet.dims.as_slice(), [_, 1, _, _] | [_, _, _, 1])
}

/// The layout, height and width of an input that can take a picture.
fn as_picture(outlet: &Outlet, wanted: Option<Layout>) -> Option<(Layout, [i64; 2])> {
    if !matches!(outlet.element, Element::F32 | Element::F16 | Element::U8) {
        return None;
    }
    let dims: [i64; 3] = match *outlet.dims.as_slice() {
        [_, a, b, c] | [a, b, c] => [a, b, c],
        _ => return None,
    };
    let is_channels = |dim: i64| dim == 3 || dim < 0;
    // A file that leaves its channels open too is taken for the usual layout, unless the last dimension says otherwise.
    let found = match dims {
        [3, _, _] => Layout::Nchw,
        [_, _, 3] => Layout::Nhwc,
        [first, _, _] if first < 0 => Layout::Nchw,
        // One channel is that of a grey picture, in which a line of text may be open in its width.
        [first, .., last] if last < 0 && first != 1 => Layout::Nhwc,
        _ => return None,
    };
    match wanted.unwrap_or(found) {
        Layout::Nchw if is_channels(dims[0]) => Some((Layout::Nchw, [dims[1], dims[2]])),
        Layout::Nhwc if is_channels(dims[2]) && (dims[0] != 3 || dims[2] == 3) => {
            Some((Layout::Nhwc, [dims[0], dims[1]]))
        }
        _ => None,
    }
}

/// The sizes that are tried, as width and height, and where they come from.
fn sizes(
    width: i64,
    height: i64,
    metadata: &Metadata,
    hint: Option<(usize, usize)>,
) -> (Vec<(usize, usize)>, &'static str) {
    let fixed = |side: i64| usize::try_from(side).ok().filter(|&side| side > 0);
    let fill = |(w, h): (usize, usize)| (fixed(width).unwrap_or(w), fixed(height).unwrap_or(h));
    if let (Some(width), Some(height)) = (fixed(width), fixed(height)) {
        return (vec![(width, height)], "as the file says");
    }
    if let Some(size) = hint {
        return (vec![fill(size)], "as you say");
    }
    if let Some((height, width)) = metadata.size {
        return (vec![fill((width, height))], "as the file's metadata says");
    }
    let sizes = SIZES.iter().map(|&side| fill((side, side))).collect();
    (
        sizes,
        "the usual size; the file takes any, and `--size WxH` sets another",
    )
}

/// What a further input of this name takes.
fn extra_by_name(name: &str) -> Option<Extra> {
    let name = name.to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if is(&["scale_factor", "im_scale"]) {
        Some(Extra::Ones)
    } else if is(&["orig_target_size", "target_size"]) {
        Some(Extra::WidthHeight)
    } else if is(&[
        "im_shape",
        "image_shape",
        "img_size",
        "image_size",
        "img_shape",
        "orig_size",
    ]) {
        Some(Extra::HeightWidth)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::recognize::testing::outlet;

    fn find(inputs: &[Outlet], hints: &InputHints) -> Result<Inputs, Unrecognized> {
        Inputs::find(inputs, &Metadata::default(), hints)
    }

    #[test]
    fn layout_and_size_are_the_files() {
        let none = InputHints::default();
        let input = |dims: &[i64]| find(&[outlet("x", Element::F32, dims)], &none);
        let found = input(&[1, 3, 384, 640]).unwrap();
        assert_eq!(
            (found.layout, &found.sizes[..]),
            (Layout::Nchw, &[(640, 384)][..])
        );
        let found = input(&[-1, 320, 300, 3]).unwrap();
        assert_eq!(
            (found.layout, &found.sizes[..]),
            (Layout::Nhwc, &[(300, 320)][..])
        );
        let found = input(&[3, -1, -1]).unwrap();
        assert_eq!((found.layout, found.sizes[0]), (Layout::Nchw, (640, 640)));
        assert_eq!(input(&[-1, -1, -1, -1]).unwrap().layout, Layout::Nchw);
        assert!(matches!(
            input(&[1, 1, 28, 28]),
            Err(Unrecognized::Picture { .. })
        ));
        let grey = input(&[1, 1, 64, -1]).unwrap_err().to_string();
        assert!(grey.contains("one channel and not three"), "{grey}");
        assert!(matches!(
            input(&[8, 3, 32, 32]),
            Err(Unrecognized::Batch { batch: 8, .. })
        ));
    }

    #[test]
    fn an_open_size_is_the_users_or_the_metadatas() {
        let dynamic = [outlet("images", Element::F32, &[-1, 3, -1, -1])];
        let hints = InputHints {
            size: Some((320, 256)),
            ..InputHints::default()
        };
        assert_eq!(find(&dynamic, &hints).unwrap().sizes, [(320, 256)]);
        let metadata = Metadata {
            size: Some((384, 640)),
            ..Metadata::default()
        };
        let found = Inputs::find(&dynamic, &metadata, &InputHints::default()).unwrap();
        assert_eq!(found.sizes, [(640, 384)]);
    }

    #[test]
    fn what_contradicts_the_file_is_refused() {
        let fixed = [outlet("images", Element::F32, &[1, 3, 384, 640])];
        let sized = |size| InputHints {
            size: Some(size),
            ..InputHints::default()
        };
        assert!(find(&fixed, &sized((640, 384))).is_ok());
        let error = find(&fixed, &sized((320, 320))).unwrap_err().to_string();
        assert!(
            error.contains("[1, 3, 384, 640]") && error.contains("320x320"),
            "{error}"
        );
        let nhwc = InputHints {
            layout: Some(Layout::Nhwc),
            ..InputHints::default()
        };
        for dims in [[1, 3, 384, 640], [1, 3, -1, -1]] {
            let error = find(&[outlet("images", Element::F32, &dims)], &nhwc).unwrap_err();
            assert!(matches!(error, Unrecognized::Layout { .. }), "{error}");
        }
    }

    #[test]
    fn further_inputs_are_known_by_their_names() {
        let images = outlet("images", Element::F32, &[1, 3, 640, 640]);
        let none = InputHints::default();
        let with = |name| {
            find(
                &[images.clone(), outlet(name, Element::I64, &[1, 2])],
                &none,
            )
        };
        assert_eq!(
            with("orig_target_sizes").unwrap().extra["orig_target_sizes"],
            Extra::WidthHeight
        );
        assert_eq!(
            with("im_shape").unwrap().extra["im_shape"],
            Extra::HeightWidth
        );
        assert_eq!(
            with("scale_factor").unwrap().extra["scale_factor"],
            Extra::Ones
        );
        assert!(matches!(with("threshold"), Err(Unrecognized::Extra { .. })));
    }
}
