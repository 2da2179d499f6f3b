//! An execution provider that was asked for and cannot run ends the node at its start, and `twinsight check` fails, with the
//! same sentence. `scripts/setup` installs an ONNX Runtime that has `cpu` alone. So a program that is built with a provider says
//! that the library lacks it, and one that is built without says which feature it lacks.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use crate::common::twinsight;

/// The providers beside `cpu`: the name, whether it is built in, and where an ONNX Runtime is found that has it.
const PROVIDERS: &[(&str, bool, &str)] = &[
    ("cuda", cfg!(feature = "cuda"), "onnxruntime-gpu"),
    ("tensorrt", cfg!(feature = "tensorrt"), "onnxruntime-gpu"),
    (
        "openvino",
        cfg!(feature = "openvino"),
        "onnxruntime-openvino",
    ),
    ("xnnpack", cfg!(feature = "xnnpack"), "--use_xnnpack"),
    ("coreml", cfg!(feature = "coreml"), "macOS"),
];

const SAID: &str = "execution provider `";

/// What a command says of execution providers, and its exit code.
fn said(command: &str, providers: &str) -> (String, Option<i32>) {
    let env = [
        ("TWIN_ID", "node-1"),
        ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9"),
        ("TWINSIGHT_HTTP__LISTEN", "127.0.0.1:0"),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ("TWINSIGHT_CAMERAS", "cam"),
        ("TWINSIGHT_RUNTIME__EXECUTION_PROVIDERS", providers),
    ];
    let outcome = twinsight(&[command], &env);
    let text = outcome.out + &outcome.log;
    let sentence = text
        .lines()
        .find_map(|line| line.find(SAID).map(|at| &line[at..]));
    let sentence = sentence.unwrap_or_else(|| panic!("{command} with {providers} says: {text}"));
    (sentence.to_owned(), outcome.code)
}

#[test]
fn one_that_cannot_run_is_an_error_at_the_start_and_in_check() {
    for (name, is_built_in, has_it) in PROVIDERS {
        let (checked, code) = said("check", &format!("{name},cpu"));
        assert_eq!(code, Some(1), "{checked}");
        assert!(checked.starts_with(&format!("{SAID}{name}` is not available: ")));
        assert!(checked.ends_with("; available here: cpu"), "{checked}");
        if *is_built_in {
            assert!(
                checked.contains("libonnxruntime.so is built without it; ")
                    && checked.contains(has_it)
                    && checked.contains("set `runtime.library`"),
                "{checked}"
            );
        } else {
            assert!(
                checked.contains(&format!(
                    "this program is built without it; build it with `--features {name}`"
                )),
                "{checked}"
            );
        }
        let (started, code) = said("run", name);
        assert_eq!((started, code), (checked, Some(1)));
    }
}
