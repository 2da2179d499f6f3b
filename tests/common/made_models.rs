//! Tiny ONNX files that tests write themselves, since no good model does what these do. All but [`identity`] have an output
//! of the kind `yolo`, with one class and one anchor.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "each program of tests uses a part of it"
)]

use std::path::Path;

use sha2::{Digest, Sha256};

/// Data types of ONNX.
const FLOAT: u64 = 1;
const INT64: u64 = 7;
const BOOL: u64 = 9;

const SIDE: u64 = 32;

/// Cx, cy, width, height in pixels of the tensor, and a score: a person in the middle.
pub const PERSON: [f32; 5] = [16.0, 16.0, 8.0, 8.0, 0.9];

/// A model that gives these five numbers, whatever it is shown.
pub fn constant(values: [f32; 5]) -> Vec<u8> {
    let nodes = [node("Identity", &["c"], &["output0"], &[])];
    model(&nodes, values)
}

/// A model that gives these five numbers for a picture with contrast, and sees a person on the others.
pub fn liar(lie: [f32; 5]) -> Vec<u8> {
    let numbers: Vec<u8> = lie.iter().flat_map(|n| n.to_le_bytes()).collect();
    let lie = value(&tensor("", FLOAT, &[1, 5, 1], &numbers));
    let to_bool = [text(1, "to"), number(3, BOOL), number(20, 2)].concat();
    let mut nodes = contrast(1000.0);
    nodes.extend([
        node("Constant", &[], &["lie"], &[lie]),
        node("Cast", &["many"], &["lies"], &[to_bool]),
        node("Where", &["lies", "lie", "c"], &["output0"], &[]),
    ]);
    model(&nodes, PERSON)
}

/// A model whose output `logits` is its picture of 8 x 8 pixels, written in this version of the format and of the operators.
pub fn identity(ir_version: u64, opset: u64) -> Vec<u8> {
    let picture = [1, 3, 8, 8];
    let graph = graph(
        &[node("Identity", &["images"], &["logits"], &[])],
        &[],
        &[
            outlet(11, "images", FLOAT, &picture),
            outlet(12, "logits", FLOAT, &picture),
        ],
    );
    file(&graph, ir_version, opset)
}

/// A model that gives lists as torchvision's detectors do, which do not say how many classes there are: one object, whatever it is shown.
pub fn lists() -> Vec<u8> {
    let floats = |all: &[f32]| -> Vec<u8> { all.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let constant = |name: &str, kind, dims: &[u64], raw: &[u8]| {
        let tensor = value(&tensor("", kind, dims, raw));
        node("Constant", &[], &[name], &[tensor])
    };
    let graph = graph(
        &[
            constant("boxes", FLOAT, &[1, 4], &floats(&[4.0, 4.0, 24.0, 28.0])),
            constant("labels", INT64, &[1], &1i64.to_le_bytes()),
            constant("scores", FLOAT, &[1], &floats(&[0.9])),
        ],
        &[],
        &[
            outlet(11, "images", FLOAT, &[1, 3, SIDE, SIDE]),
            outlet(12, "boxes", FLOAT, &[1, 4]),
            outlet(12, "labels", INT64, &[1]),
            outlet(12, "scores", FLOAT, &[1]),
        ],
    );
    file(&graph, 8, 17)
}

/// A model that loops for hours on a picture with contrast, and sees a person on the others.
pub fn endless() -> Vec<u8> {
    let body = graph(
        &[
            node("Identity", &["go_on"], &["goes_on"], &[]),
            node("Identity", &["v"], &["w"], &[]),
        ],
        &[],
        &[
            outlet(11, "n", INT64, &[]),
            outlet(11, "go_on", BOOL, &[]),
            outlet(11, "v", FLOAT, &[1, 5, 1]),
            outlet(12, "goes_on", BOOL, &[]),
            outlet(12, "w", FLOAT, &[1, 5, 1]),
        ],
    );
    let mut nodes = contrast(1e12);
    let body = [text(1, "body"), bytes(6, &body), number(20, 5)].concat();
    nodes.push(node("Loop", &["many", "yes", "c"], &["output0"], &[body]));
    model(&nodes, PERSON)
}

/// A model with one operator that takes minutes on a picture of full contrast and asks nobody whether to go on: the overlaps of
/// boxes, none of which overlaps another.
pub fn stuck() -> Vec<u8> {
    let mut nodes = contrast(400_000.0);
    let float = |n: f32| value(&tensor("", FLOAT, &[], &n.to_le_bytes()));
    let whole = |dims: &[i64]| {
        let raw: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        value(&tensor(
            "",
            INT64,
            &[u64::try_from(dims.len()).unwrap()],
            &raw,
        ))
    };
    let to = |kind| [text(1, "to"), number(3, kind), number(20, 2)].concat();
    let last = [text(1, "axis"), number(3, 2), number(20, 2)].concat();
    let all = [text(1, "keepdims"), number(3, 0), number(20, 2)].concat();
    for (name, n) in [("f0", 0.0), ("f1", 1.0), ("f2", 2.0)] {
        nodes.push(node("Constant", &[], &[name], &[float(n)]));
    }
    nodes.extend([
        node("Constant", &[], &["boxes_of"], &[whole(&[1, -1, 1])]),
        node("Constant", &[], &["scores_of"], &[whole(&[1, 1, -1])]),
        node("Cast", &["many"], &["end"], &[to(FLOAT)]),
        node("Range", &["f0", "end", "f1"], &["steps"], &[]),
        node("Mul", &["steps", "f2"], &["far"], &[]),
        node("Reshape", &["far", "boxes_of"], &["low"], &[]),
        node("Add", &["low", "f1"], &["high"], &[]),
        node("Mul", &["low", "f0"], &["left"], &[]),
        node("Add", &["left", "f1"], &["right"], &[]),
        node(
            "Concat",
            &["low", "left", "high", "right"],
            &["boxes"],
            &[last],
        ),
        node("Reshape", &["right", "scores_of"], &["scores"], &[]),
        node("Reshape", &["many", "one"], &["most_boxes"], &[]),
        node(
            "NonMaxSuppression",
            &["boxes", "scores", "most_boxes"],
            &["kept"],
            &[],
        ),
        node("Shape", &["kept"], &["shape"], &[]),
        node("ReduceMax", &["shape"], &["count"], &[all]),
        node("Cast", &["count"], &["counted"], &[to(FLOAT)]),
        node("Mul", &["counted", "f0"], &["nothing"], &[]),
        node("Add", &["c", "nothing"], &["output0"], &[]),
    ]);
    nodes.insert(0, node("Constant", &[], &["one"], &[whole(&[1])]));
    model(&nodes, PERSON)
}

/// Pictures of tests have more contrast than this, and the picture on which models are judged when they are loaded has less.
const CALM: f32 = 0.85;

/// Nodes that compute by how much the picture's contrast is over [`CALM`] as a whole number of at most `most`, in `many`.
fn contrast(most: f32) -> Vec<Vec<u8>> {
    let constant = |name: &str, number: f32| {
        let tensor = tensor("", FLOAT, &[], &number.to_le_bytes());
        node("Constant", &[], &[name], &[value(&tensor)])
    };
    let no_dims = || [text(1, "keepdims"), number(3, 0), number(20, 2)].concat();
    let to_int64 = [text(1, "to"), number(3, INT64), number(20, 2)].concat();
    vec![
        node("ReduceMax", &["images"], &["brightest"], &[no_dims()]),
        node("ReduceMin", &["images"], &["darkest"], &[no_dims()]),
        node("Sub", &["brightest", "darkest"], &["contrast"], &[]),
        constant("calm", CALM),
        node("Sub", &["contrast", "calm"], &["over"], &[]),
        node("Relu", &["over"], &["excess"], &[]),
        constant("most", most / (1.0 - CALM)),
        node("Mul", &["excess", "most"], &["wide"], &[]),
        node("Cast", &["wide"], &["many"], &[to_int64]),
        node(
            "Constant",
            &[],
            &["yes"],
            &[value(&tensor("", BOOL, &[], &[1]))],
        ),
    ]
}

/// Puts a model and its manifest into a folder.
pub fn install(folder: &Path, name: &str, model: &[u8]) {
    std::fs::write(folder.join(format!("{name}.onnx")), model).unwrap();
    let digest = Sha256::digest(model);
    let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = format!(
        r#"
        file = "{name}.onnx"
        sha256 = "{sha256}"
        licence = "MIT"
        source = "this test"
        labels = ["person"]
        nms_iou = 0.5
        [input]
        name = "images"
        width = {SIDE}
        height = {SIDE}
        layout = "nchw"
        color_order = "rgb"
        scale = 0.00392156862745098
        mean = [0.0, 0.0, 0.0]
        std = [1.0, 1.0, 1.0]
        resize = "stretch"
        [output]
        kind = "yolo"
        predictions = "output0"
        "#
    );
    std::fs::write(folder.join(format!("{name}.toml")), manifest).unwrap();
}

/// A model of these nodes, whose constant `c` has these numbers.
fn model(nodes: &[Vec<u8>], c: [f32; 5]) -> Vec<u8> {
    let numbers: Vec<u8> = c.iter().flat_map(|n| n.to_le_bytes()).collect();
    let graph = graph(
        nodes,
        &[tensor("c", FLOAT, &[1, 5, 1], &numbers)],
        &[
            outlet(11, "images", FLOAT, &[1, 3, SIDE, SIDE]),
            outlet(12, "output0", FLOAT, &[1, 5, 1]),
        ],
    );
    file(&graph, 8, 13)
}

/// The file of a graph (a `ModelProto`).
fn file(graph: &[u8], ir_version: u64, opset: u64) -> Vec<u8> {
    [
        number(1, ir_version),
        bytes(7, graph),
        bytes(8, &number(2, opset)),
    ]
    .concat()
}

fn graph(nodes: &[Vec<u8>], constants: &[Vec<u8>], outlets: &[Vec<u8>]) -> Vec<u8> {
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| bytes(1, node)).collect();
    let constants: Vec<u8> = constants.iter().flat_map(|c| bytes(5, c)).collect();
    [nodes, text(2, "g"), constants, outlets.concat()].concat()
}

fn node(kind: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
    let outputs: Vec<u8> = outputs.iter().flat_map(|name| text(2, name)).collect();
    let attributes: Vec<u8> = attributes.iter().flat_map(|each| bytes(5, each)).collect();
    [inputs, outputs, text(4, kind), attributes].concat()
}

/// The attribute `value` of a constant.
fn value(tensor: &[u8]) -> Vec<u8> {
    [text(1, "value"), bytes(5, tensor), number(20, 4)].concat()
}

fn tensor(name: &str, kind: u64, dims: &[u64], raw: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
    [dims, number(2, kind), text(8, name), bytes(9, raw)].concat()
}

/// An input (field 11) or an output (12) of a graph.
fn outlet(field: u64, name: &str, kind: u64, dims: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = dims
        .iter()
        .flat_map(|dim| bytes(1, &number(1, *dim)))
        .collect();
    let tensor = [number(1, kind), bytes(2, &dims)].concat();
    bytes(
        field,
        &[text(1, name), bytes(2, &bytes(1, &tensor))].concat(),
    )
}

fn text(field: u64, text: &str) -> Vec<u8> {
    bytes(field, text.as_bytes())
}

fn bytes(field: u64, inside: &[u8]) -> Vec<u8> {
    let length = varint(u64::try_from(inside.len()).unwrap());
    [varint(field << 3 | 2), length, inside.to_vec()].concat()
}

fn number(field: u64, number: u64) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}
