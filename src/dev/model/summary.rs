//! What a manifest says, in lines for people.

use crate::detect::manifest::file::{InputTable, ManifestFile, Resize};

/// How a picture becomes the input, as `640x640, rgb, 1/255, letterbox (center, pad 114)`.
pub(super) fn input(input: &InputTable) -> String {
    let mut parts = vec![
        format!("{}x{}", input.width, input.height),
        input.layout.word().to_owned(),
        input.color_order.word().to_owned(),
        if (input.scale * 255.0 - 1.0).abs() < 1e-4 {
            "1/255".to_owned()
        } else if (input.scale - 1.0).abs() < 1e-6 {
            "0..255".to_owned()
        } else {
            format!("scale {}", input.scale)
        },
    ];
    if input.mean != [0.0; 3] {
        parts.push(format!("mean {:?}", input.mean));
    }
    if input.std != [1.0; 3] {
        parts.push(format!("std {:?}", input.std));
    }
    parts.push(match (input.resize, input.align, input.pad) {
        (Resize::Letterbox, align, pad) => {
            let align = align.map_or("center", |align| align.word());
            format!("letterbox ({align}, pad {})", pad.unwrap_or(0))
        }
        (Resize::Stretch, ..) => "stretch".to_owned(),
    });
    for (name, extra) in &input.extra {
        parts.push(format!("`{name}` takes {extra}"));
    }
    parts.join(", ")
}

/// What boxes and scores are, as `cxcywh, pixels, activation none`.
pub(super) fn boxes(file: &ManifestFile) -> String {
    let table = file.output.clone().filled_in();
    let mut parts = Vec::new();
    parts.extend(table.box_format.map(|format| format.word().to_owned()));
    parts.extend(table.box_units.map(|units| units.word().to_owned()));
    parts.extend(
        table
            .activation
            .map(|activation| format!("activation {activation}")),
    );
    parts.extend(
        table
            .background
            .filter(|background| background.word() != "none")
            .map(|background| format!("background {background}")),
    );
    parts.join(", ")
}
