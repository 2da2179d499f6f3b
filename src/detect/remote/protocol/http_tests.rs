use proptest::prelude::*;

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// An answer of these bytes behind this JSON.
fn answer(json: &str, bytes: &[u8]) -> (Vec<u8>, Option<usize>) {
    ([json.as_bytes(), bytes].concat(), Some(json.len()))
}

#[test]
fn paths_say_the_model_and_its_version() {
    let model = |version: Option<&str>| ModelName {
        name: "my net/2".to_owned(),
        version: version.map(str::to_owned),
    };
    assert_eq!(model_path("", &model(None)), "/v2/models/my%20net%2F2");
    assert_eq!(
        model_path("/a", &model(Some("1"))),
        "/a/v2/models/my%20net%2F2/versions/1"
    );
}

#[test]
fn a_request_is_json_and_then_bytes() {
    let input = |name: &str, data: &'static [u8]| InputTensor {
        name: name.to_owned(),
        datatype: Datatype::Uint8,
        shape: vec![1, 2],
        data: Bytes::from_static(data),
    };
    let (body, length) = request(
        &[input("a", &[1, 2]), input("b", &[3, 4])],
        &names(&["out"]),
    );
    let (json, bytes) = body.split_at(length);
    assert_eq!(bytes, [1, 2, 3, 4]);
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let of = |name: &str| serde_json::json!({"name": name, "shape": [1, 2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}});
    let expected = serde_json::json!({
        "id": "twinsight",
        "inputs": [of("a"), of("b")],
        "outputs": [{"name": "out", "parameters": {"binary_data": true}}],
    });
    assert_eq!(json, expected);
}

#[test]
fn outputs_are_taken_out_of_the_bytes_in_their_order() {
    let json = r#"{"model_name":"net","model_version":"1","outputs":[
        {"name":"a","datatype":"UINT8","shape":[2],"parameters":{"binary_data_size":2}},
        {"name":"b","datatype":"FP32","shape":[1],"data":[0.5]},
        {"name":"c","datatype":"INT32","shape":[1],"parameters":{"binary_data_size":4}}]}"#;
    let (body, length) = answer(json, &[1, 2, 9, 0, 0, 0]);
    let found = read_outputs(&body, length, &names(&["c", "b", "a"])).unwrap();
    assert_eq!(found[0].values, [9.0]);
    assert_eq!(found[1].values, [0.5]);
    assert_eq!(found[2].values, [1.0, 2.0]);
    let short = read_outputs(&body[..body.len() - 1], length, &names(&["a"]));
    assert_eq!(
        short.unwrap_err().to_string(),
        "its answer is none of the protocol: the bytes of its outputs are cut short"
    );
    let missing = read_outputs(&body, length, &names(&["d"])).unwrap_err();
    assert_eq!(missing, AnswerError::Missing("d".to_owned()));
    assert!(read_outputs(&body, Some(body.len() + 1), &names(&["a"])).is_err());
}

#[test]
fn numbers_in_json_may_be_nested() {
    let json =
        r#"{"outputs":[{"name":"a","datatype":"FP32","shape":[2,2],"data":[[1,2.5],[true,-4]]}]}"#;
    let found = read_outputs(json.as_bytes(), None, &names(&["a"])).unwrap();
    assert_eq!(found[0].values, [1.0, 2.5, 1.0, -4.0]);
    for data in [
        "\"text\"",
        "[\"a\"]",
        "[null]",
        "{}",
        "[[[[[[[[[[[[1]]]]]]]]]]]]",
    ] {
        let json = format!(
            r#"{{"outputs":[{{"name":"a","datatype":"FP32","shape":[1],"data":{data}}}]}}"#
        );
        assert!(
            read_outputs(json.as_bytes(), None, &names(&["a"])).is_err(),
            "{data}"
        );
    }
}

#[test]
fn metadata_readiness_and_errors_are_read() {
    let json = br#"{"name":"net","versions":["1"],"platform":"onnx","inputs":[{"name":"in","datatype":"FP32","shape":[-1,3,2,2]}],
        "outputs":[{"name":"out","datatype":"FP16","shape":[1,6],"parameters":{}}]}"#;
    let found = read_metadata(json).unwrap();
    assert_eq!(found.inputs[0].text(), "`in` f32 [N, 3, 2, 2]");
    assert_eq!(found.outputs[0].text(), "`out` f16 [1, 6]");
    assert!(read_metadata(b"<html>").is_err());
    let many = format!(
        r#"{{"inputs":[{{"name":"in","datatype":"FP32","shape":[{}1]}}]}}"#,
        "1,".repeat(100)
    );
    assert!(read_metadata(many.as_bytes()).is_err());
    assert!(read_takes_bytes(
        br#"{"name":"triton","extensions":["sequence","binary_tensor_data"]}"#
    ));
    assert!(read_takes_bytes(br#"{"name":"other"}"#) && read_takes_bytes(b""));
    assert!(!read_takes_bytes(br#"{"name":"mlserver","extensions":[]}"#));
    assert!(read_ready(b""));
    assert!(read_ready(br#"{"name":"net","ready":true}"#));
    assert!(!read_ready(br#"{"ready":false}"#));
    assert!(!read_ready(br#"{"name":"net","ready":"False"}"#));
    assert_eq!(
        read_error(br#"{"error":"no such model"}"#).unwrap(),
        "no such model"
    );
    assert_eq!(read_error(b"nginx says no\n").unwrap(), "nginx says no");
    assert_eq!(read_error(b""), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes_are_an_answer_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        length in proptest::option::of(0usize..400),
    ) {
        let _ = read_outputs(&bytes, length, &names(&["a"]));
        let _ = read_metadata(&bytes);
        let _ = read_ready(&bytes);
        let _ = read_takes_bytes(&bytes);
        let _ = read_error(&bytes);
    }

    #[test]
    fn an_answer_with_any_sizes_is_an_answer_or_an_error(
        shape in proptest::collection::vec(any::<i64>(), 0..10),
        datatype in "(FP32|FP16|UINT8|INT64|BYTES|X)",
        size in proptest::option::of(any::<usize>()),
        small in proptest::option::of(0usize..40),
        length in proptest::option::of(0usize..400),
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let size = small.or(size);
        let json = serde_json::json!({"outputs": [
            {"name": "a", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}},
        ]}).to_string();
        let (body, whole) = answer(&json, &bytes);
        for length in [whole, length] {
            for tensor in read_outputs(&body, length, &names(&["a"])).into_iter().flatten() {
                let product: i64 = tensor.dims.iter().product();
                prop_assert_eq!(usize::try_from(product).unwrap(), tensor.values.len());
            }
        }
    }
}
