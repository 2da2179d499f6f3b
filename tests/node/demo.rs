//! `twinsight demo` ends by itself, has seen persons with every camera, and its books are in order.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::process::Command;

use crate::common::{Program, root};

#[tokio::test(flavor = "multi_thread")]
async fn three_cameras_for_eight_seconds() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command
        .args(["demo", "--seconds", "8", "--cameras", "3"])
        .current_dir(root());
    let mut demo = Program::start(command, &[], false);
    demo.until("after ").await;
    let head = demo.until("ledger").await;
    let columns: Vec<&str> = head.split_whitespace().collect();
    assert_eq!(columns.last(), Some(&"ledger"));
    for camera in ["camera-1", "camera-2", "camera-3"] {
        let line = demo.line().await.expect("a line for each camera");
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells.first(), Some(&camera), "{line}");
        assert_eq!(cells.last(), Some(&"balances"), "{line}");
        let count = |name: &str| -> u64 {
            // "p50 ms" and "p99 ms" are two words of the head and one cell each.
            let at = columns
                .iter()
                .filter(|word| **word != "ms")
                .position(|word| *word == name)
                .unwrap();
            cells[at].parse().unwrap()
        };
        assert!(count("persons") > 0, "{head}\n{line}");
        assert!(count("decoded") >= count("inferred"), "{head}\n{line}");
        assert!(count("inferred") >= count("published"), "{head}\n{line}");
        assert!(count("published") >= count("received"), "{head}\n{line}");
        assert!(count("received") > 0, "{head}\n{line}");
    }
    assert_eq!(demo.line().await, None, "the summary is the last of it");
    assert_eq!(demo.ended().await.code(), Some(0));
}
