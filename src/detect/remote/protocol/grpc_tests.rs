use proptest::prelude::*;

use super::*;

/// The answers, as prost reads and writes them: another opinion than ours.
#[derive(Clone, PartialEq, Message)]
pub(in crate::detect::remote) struct ModelInferResponse {
    #[prost(string, tag = "1")]
    pub(in crate::detect::remote) model_name: String,
    #[prost(message, repeated, tag = "5")]
    pub(in crate::detect::remote) outputs: Vec<InferOutputTensor>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(in crate::detect::remote) raw_output_contents: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::detect::remote) struct InferOutputTensor {
    #[prost(string, tag = "1")]
    pub(in crate::detect::remote) name: String,
    #[prost(string, tag = "2")]
    pub(in crate::detect::remote) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(in crate::detect::remote) shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    pub(in crate::detect::remote) contents: Option<InferTensorContents>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::detect::remote) struct InferTensorContents {
    #[prost(bool, repeated, tag = "1")]
    pub(in crate::detect::remote) bool_contents: Vec<bool>,
    #[prost(int32, repeated, tag = "2")]
    pub(in crate::detect::remote) int_contents: Vec<i32>,
    #[prost(int64, repeated, tag = "3")]
    pub(in crate::detect::remote) int64_contents: Vec<i64>,
    #[prost(float, repeated, tag = "6")]
    pub(in crate::detect::remote) fp32_contents: Vec<f32>,
    #[prost(double, repeated, packed = "false", tag = "7")]
    pub(in crate::detect::remote) fp64_contents: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::detect::remote) struct ModelReadyResponse {
    #[prost(bool, tag = "1")]
    pub(in crate::detect::remote) ready: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::detect::remote) struct ModelMetadataResponse {
    #[prost(string, tag = "1")]
    pub(in crate::detect::remote) name: String,
    #[prost(message, repeated, tag = "4")]
    pub(in crate::detect::remote) inputs: Vec<InferOutputTensor>,
    #[prost(message, repeated, tag = "5")]
    pub(in crate::detect::remote) outputs: Vec<InferOutputTensor>,
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferOutputTensor {
    InferOutputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents: None,
    }
}

fn read(answer: &ModelInferResponse, names: &[&str]) -> Result<Vec<OutputTensor>, AnswerError> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    read_outputs(answer.encode_to_vec().into(), &names)
}

fn raw(values: &[f32]) -> Bytes {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[test]
fn raw_outputs_are_found_by_their_names() {
    let answer = ModelInferResponse {
        model_name: "net".to_owned(),
        outputs: vec![
            tensor("boxes", "FP32", &[1, 2]),
            tensor("scores", "FP32", &[1]),
        ],
        raw_output_contents: vec![raw(&[1.0, 2.0]), raw(&[0.5])],
    };
    let found = read(&answer, &["scores", "boxes"]).unwrap();
    assert_eq!(found[0].values, [0.5]);
    assert_eq!(
        (found[1].dims.as_slice(), found[1].values.as_slice()),
        (&[1, 2][..], &[1.0, 2.0][..])
    );
    assert_eq!(
        read(&answer, &["labels"]).unwrap_err().to_string(),
        "its answer has no output `labels`"
    );
    let short = ModelInferResponse {
        raw_output_contents: vec![raw(&[1.0, 2.0])],
        ..answer
    };
    assert_eq!(
        read(&short, &["scores"]).unwrap_err().to_string(),
        "its answer is none of the protocol: it has 2 outputs and the bytes of 1"
    );
}

#[test]
fn outputs_may_come_as_numbers_packed_or_one_by_one() {
    let contents = [
        InferTensorContents {
            bool_contents: vec![false, true],
            ..Default::default()
        },
        InferTensorContents {
            int_contents: vec![-3, 1],
            ..Default::default()
        },
        InferTensorContents {
            int64_contents: vec![-3, 1],
            ..Default::default()
        },
        InferTensorContents {
            fp32_contents: vec![0.5, 1.0],
            ..Default::default()
        },
        InferTensorContents {
            fp64_contents: vec![0.25, 1.0],
            ..Default::default()
        },
    ];
    let firsts = [0.0, -3.0, -3.0, 0.5, 0.25];
    for (contents, first) in contents.into_iter().zip(firsts) {
        let output = InferOutputTensor {
            contents: Some(contents),
            ..tensor("out", "FP32", &[2])
        };
        let answer = ModelInferResponse {
            outputs: vec![output],
            ..Default::default()
        };
        assert_eq!(read(&answer, &["out"]).unwrap()[0].values, [first, 1.0]);
    }
    let more = InferOutputTensor {
        contents: Some(InferTensorContents {
            fp32_contents: vec![0.0; 5000],
            ..Default::default()
        }),
        ..tensor("out", "FP32", &[2])
    };
    let answer = ModelInferResponse {
        outputs: vec![more],
        ..Default::default()
    };
    assert_eq!(
        read(&answer, &["out"]).unwrap_err().to_string(),
        "its output `out` has the shape [2], and its data are 3 numbers"
    );
}

#[test]
fn what_would_grow_without_bound_is_refused() {
    // Two bytes each, which would be a struct each.
    let many: Vec<u8> = [0x2a, 0].repeat(1 << 20);
    let names = ["out".to_owned()];
    assert_eq!(
        read_outputs(many.into(), &names).unwrap_err().to_string(),
        "its answer has more outputs than the 64 that are read"
    );
    let many: Vec<u8> = [0x22, 0].repeat(1 << 18);
    assert!(matches!(
        read_metadata(many.into()),
        Err(AnswerError::TooMuch { .. })
    ));
    let ranks = ModelMetadataResponse {
        inputs: vec![tensor("in", "FP32", &[1; 1000])],
        ..Default::default()
    };
    assert!(read_metadata(ranks.encode_to_vec().into()).is_err());
}

#[test]
fn metadata_and_readiness_are_read() {
    let answer = ModelMetadataResponse {
        name: "net".to_owned(),
        inputs: vec![
            tensor("images", "UINT8", &[-1, 3, 16, 32]),
            tensor("jpeg", "BYTES", &[-1]),
        ],
        outputs: vec![tensor("out", "FP16", &[1, 6])],
    };
    let found = read_metadata(answer.encode_to_vec().into()).unwrap();
    assert_eq!(found.inputs[0].text(), "`images` u8 [N, 3, 16, 32]");
    assert_eq!(found.inputs[1].text(), "`jpeg` BYTES [N]");
    assert_eq!(found.outputs[0].text(), "`out` f16 [1, 6]");
    assert!(read_ready(ModelReadyResponse { ready: true }.encode_to_vec().into()).unwrap());
    assert!(!read_ready(Bytes::new()).unwrap());
}

#[test]
fn a_request_has_its_tensors_as_bytes() {
    let model = ModelName {
        name: "net".to_owned(),
        version: Some("3".to_owned()),
    };
    let input = InputTensor {
        name: "images".to_owned(),
        datatype: Datatype::Uint8,
        shape: vec![1, 2],
        data: Bytes::from_static(&[7, 8]),
    };
    let request = ModelInferRequest::new(&model, &[input], &["out".to_owned()]);
    let again = ModelInferRequest::decode(Bytes::from(request.encode_to_vec())).unwrap();
    assert_eq!(again.raw_input_contents, [Bytes::from_static(&[7, 8])]);
    assert_eq!(again.inputs[0].datatype, "UINT8");
    assert_eq!(
        (again.model_version.as_str(), again.outputs[0].name.as_str()),
        ("3", "out")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let names = ["out".to_owned(), String::new()];
        let _ = read_outputs(bytes.clone().into(), &names);
        let _ = read_metadata(bytes.clone().into());
        let _ = read_ready(bytes.into());
    }

    #[test]
    fn an_answer_that_is_broken_anywhere_is_an_answer_or_an_error(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        shape in proptest::collection::vec(any::<i64>(), 0..10),
        numbers in proptest::collection::vec(any::<f32>(), 0..30),
    ) {
        let contents = InferTensorContents { fp32_contents: numbers.clone(), ..Default::default() };
        let output = InferOutputTensor { contents: Some(contents), ..tensor("out", "FP32", &shape) };
        let good = ModelInferResponse {
            outputs: vec![output, tensor("more", "INT64", &[1, 2])],
            raw_output_contents: vec![raw(&numbers)],
            ..Default::default()
        };
        let mut bytes = good.encode_to_vec();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        bytes.truncate(1 + cut.index(bytes.len()));
        let names = ["out".to_owned(), "more".to_owned()];
        for tensor in read_outputs(bytes.into(), &names).into_iter().flatten() {
            let product: i64 = tensor.dims.iter().product();
            prop_assert_eq!(usize::try_from(product).unwrap(), tensor.values.len());
        }
    }
}
