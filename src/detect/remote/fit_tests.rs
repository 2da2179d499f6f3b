use super::*;
use crate::detect::manifest::file::Extra;
use crate::detect::remote::shapers::Shapers;

const MANIFEST: &str = r#"licence = "MIT"
source = "made here"
labels = ["person", "car"]
nms_iou = 0.5
[input]
name = "images"
width = 32
height = 16
layout = "nchw"
color_order = "bgr"
scale = 0.5
mean = [1.0, 2.0, 3.0]
resize = "stretch"
[output]
kind = "yolo"
predictions = "out"
"#;

pub(in crate::detect::remote) fn manifest() -> Manifest {
    manifest_of(MANIFEST)
}

pub(in crate::detect::remote) fn manifest_of(text: &str) -> Manifest {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("net.toml"), text).unwrap();
    Manifest::load_remote(dir.path(), "net").unwrap().0
}

fn outlet(name: &str, element: Element, dims: &[i64]) -> Outlet {
    Outlet {
        name: name.to_owned(),
        element,
        dims: dims.to_vec(),
    }
}

fn bytes(name: &str, dims: &[i64]) -> Outlet {
    outlet(name, Element::Other("BYTES".to_owned()), dims)
}

fn fit(inputs: &[Outlet], outputs: &[Outlet]) -> Result<Fit, String> {
    let metadata = Metadata {
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
    };
    Fit::new(&manifest(), &metadata)
}

fn out() -> Vec<Outlet> {
    vec![outlet("out", Element::F32, &[1, 6, -1])]
}

/// A red picture, whose tensor is 16 rows of 32.
fn shaped(fit: Fit) -> Vec<InputTensor> {
    let rgb = [200, 0, 100].repeat(64 * 32);
    let size = PictureSize {
        width_px: 64,
        height_px: 32,
    };
    let picture = Picture::Rgb { data: &rgb, size };
    Shaper::new(Arc::new(fit)).shape(&picture).unwrap().0
}

#[test]
fn the_type_is_what_the_server_takes() {
    let dims = [-1, 3, 16, 32];
    let facts_of = |element| {
        fit(&[outlet("images", element, &dims)], &out())
            .unwrap()
            .facts(0)
    };
    let facts = facts_of(Element::F32);
    assert_eq!(
        (facts.datatype, facts.shape.as_slice(), facts.frame_bytes),
        ("FP32", &[1, 3, 16, 32][..], 6144)
    );
    let facts = facts_of(Element::F16);
    assert_eq!((facts.datatype, facts.frame_bytes), ("FP16", 3072));
    let facts = facts_of(Element::U8);
    assert_eq!((facts.datatype, facts.frame_bytes), ("UINT8", 1536));
    assert_eq!(facts.form, "pixels as they are, for the model to scale");
}

#[test]
fn numbers_are_scaled_by_the_manifest_and_bytes_are_pixels() {
    let of = |element, dims: &[i64]| {
        let mut inputs = shaped(fit(&[outlet("images", element, dims)], &out()).unwrap());
        assert_eq!(inputs.len(), 1);
        inputs.remove(0)
    };
    let tensor = of(Element::F32, &[-1, 3, -1, -1]);
    assert_eq!(
        (tensor.name.as_str(), tensor.datatype),
        ("images", Datatype::Fp32)
    );
    // Blue comes first: 100 halved, less 1.
    assert_eq!(tensor.data[..4], 49f32.to_le_bytes());
    let last = tensor.data.len() - 4;
    assert_eq!(tensor.data[last..], 97f32.to_le_bytes());
    let tensor = of(Element::F16, &[3, 16, 32]);
    assert_eq!(tensor.shape, [3, 16, 32]);
    assert_eq!(tensor.data[..2], half::f16::from_f32(49.0).to_le_bytes());
    let tensor = of(Element::U8, &[1, 3, 16, 32]);
    assert_eq!(
        (tensor.data[0], tensor.data[512], tensor.data[1535]),
        (100, 0, 200)
    );
}

#[test]
fn an_input_of_bytes_gets_a_jpeg_of_its_size() {
    for dims in [&[1][..], &[-1], &[-1, 1]] {
        let fit = fit(&[bytes("images", dims)], &out()).unwrap();
        assert_eq!(fit.facts(77).frame_bytes, 77);
        let tensor = shaped(fit).remove(0);
        assert_eq!(tensor.shape, vec![1; dims.len()]);
        assert_eq!(tensor.datatype, Datatype::Bytes);
        let (length, jpeg) = tensor.data.split_at(4);
        assert_eq!(
            u32::from_le_bytes(length.try_into().unwrap()) as usize,
            jpeg.len()
        );
        let picture = image::load_from_memory(jpeg).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (32, 16));
        let pixel = picture.get_pixel(5, 5).0;
        let near = pixel
            .iter()
            .zip([200u8, 0, 100])
            .all(|(a, b)| a.abs_diff(b) < 8);
        assert!(near, "{pixel:?}");
    }
    let error = fit(&[bytes("images", &[4])], &out()).unwrap_err();
    assert!(
        error.contains("or a BYTES for a JPEG, and is `images` BYTES [4]"),
        "{error}"
    );
}

#[test]
fn names_are_needed_only_where_there_are_several() {
    let input = outlet("input__0", Element::F32, &[1, 3, 16, 32]);
    let output = outlet("output__0", Element::F32, &[1, 6, -1]);
    let fitted = fit(std::slice::from_ref(&input), std::slice::from_ref(&output)).unwrap();
    assert_eq!(fitted.outputs(), ["output__0"]);
    assert_eq!(shaped(fitted)[0].name, "input__0");
    let more = outlet("more", Element::F32, &[1]);
    let error = fit(&[input], &[output, more]).unwrap_err();
    assert_eq!(
        error,
        "its model's output should be `out` of numbers and is `output__0` f32 [1, 6, N] and `more` f32 [1]: correct `output.predictions` in the manifest net, or serve the model that it describes"
    );
}

#[test]
fn each_misfit_says_what_was_expected_and_found() {
    let of = |inputs: &[Outlet]| fit(inputs, &out()).unwrap_err();
    assert_eq!(
        of(&[outlet("images", Element::F32, &[1, 3, 64, 32])]),
        "its model's input should be `images` f32, f16 or u8 [1, 3, 16, 32], or a BYTES for a JPEG, and is `images` f32 [1, 3, 64, 32]: correct `input.height` in the manifest net, or serve the model that it describes"
    );
    assert!(of(&[outlet("images", Element::F32, &[8, 3, 16, 32])]).contains("[8, 3, 16, 32]"));
    assert!(of(&[outlet("images", Element::I64, &[1, 3, 16, 32])]).contains("i64"));
    assert!(of(&[]).starts_with("it does not say what the model takes and gives"));
    let error = fit(
        &[outlet("images", Element::F32, &[1, 3, 16, 32])],
        &[bytes("out", &[1])],
    );
    assert!(error.unwrap_err().contains("`out` BYTES [1]"));
}

#[test]
fn further_inputs_are_sent_with_every_picture() {
    let mut manifest = manifest();
    manifest
        .extra
        .insert("sizes".to_owned(), Extra::HeightWidth);
    let metadata = Metadata {
        inputs: vec![
            outlet("images", Element::U8, &[1, 3, 16, 32]),
            outlet("sizes", Element::I64, &[-1, 2]),
        ],
        outputs: out(),
    };
    let fit = Fit::new(&manifest, &metadata).unwrap();
    assert_eq!(fit.facts(0).frame_bytes, 1536 + 16);
    let inputs = shaped(fit);
    assert_eq!(
        (inputs[1].name.as_str(), inputs[1].shape.as_slice()),
        ("sizes", &[1, 2][..])
    );
    assert_eq!(
        inputs[1].data,
        [16i64.to_le_bytes(), 32i64.to_le_bytes()].concat()
    );
}

#[test]
fn an_answer_that_is_not_what_the_server_promised_is_of_another_model() {
    let side = [1, 3, 16, 32];
    let fit = fit(&[outlet("images", Element::F32, &side)], &out()).unwrap();
    let answer = |element: Element, dims: &[i64]| {
        fit.check(&[OutputTensor {
            element,
            dims: dims.to_vec(),
            values: Vec::new(),
        }])
    };
    assert_eq!(answer(Element::F32, &[1, 6, 10]), Ok(()));
    let promised = "and it says that the model gives f32 [1, 6, -1]";
    // Scores that were cut to whole numbers are none: it would look like a picture with nothing in it.
    assert_eq!(
        answer(Element::I32, &[1, 6, 10]),
        Err(format!("its output `out` is i32 [1, 6, 10], {promised}"))
    );
    for dims in [&[1, 5, 10][..], &[1, 6], &[1, 6, 10, 1]] {
        let error = answer(Element::F32, dims).unwrap_err();
        assert!(error.ends_with(promised), "{error}");
    }
}

#[test]
fn an_answer_may_be_as_long_as_what_the_server_promised() {
    let side = [1, 3, 16, 32];
    let images = [outlet("images", Element::F32, &side)];
    let open = fit(&images, &out()).unwrap();
    assert_eq!(open.most_answer_bytes(), MAX_ANSWER_BYTES);
    let fixed = fit(&images, &[outlet("out", Element::F32, &[1, 6, 100])]).unwrap();
    assert_eq!(fixed.most_answer_bytes(), 600 * 32 + (64 << 10));
    let endless = fit(
        &images,
        &[outlet("out", Element::F32, &[i64::MAX, 6, i64::MAX])],
    )
    .unwrap();
    assert_eq!(endless.most_answer_bytes(), MAX_ANSWER_BYTES);
    // One that says nothing of a shape may give anything, and is believed to.
    let silent = fit(&images, &[outlet("out", Element::F32, &[])]).unwrap();
    assert_eq!(silent.most_answer_bytes(), MAX_ANSWER_BYTES);
    let json = serde_json::to_string(&vec![-f32::MIN_POSITIVE; 600]).unwrap();
    let as_doubles = serde_json::to_string(&vec![f64::from(f32::MIN_POSITIVE).sqrt(); 600]);
    for text in [json, as_doubles.unwrap()] {
        assert!(
            text.len() < fixed.most_answer_bytes() - (64 << 10),
            "{text}"
        );
    }
}

#[test]
fn there_are_as_many_shapers_as_are_used_at_once() {
    let fit_of = |element| {
        let images = [outlet("images", element, &[1, 3, 16, 32])];
        Arc::new(fit(&images, &out()).unwrap())
    };
    let (numbers, pixels) = (fit_of(Element::F32), fit_of(Element::U8));
    let shapers = Shapers::default();
    for _ in 0..5 {
        let shaper = shapers.take(&numbers);
        shapers.give(shaper, 4);
    }
    assert_eq!(shapers.count(), 1);
    let (first, second) = (shapers.take(&numbers), shapers.take(&pixels));
    assert!(*first.fit() == numbers && *second.fit() == pixels);
    shapers.give(first, 4);
    shapers.give(second, 4);
    assert_eq!(shapers.count(), 2);
    // With fewer slots there are fewer, and the one that was used last stays.
    let first = shapers.take(&numbers);
    shapers.give(first, 1);
    assert_eq!(shapers.count(), 1);
    let kept = shapers.take(&numbers);
    assert_eq!(shapers.count(), 0);
    assert!(*kept.fit() == numbers);
}
