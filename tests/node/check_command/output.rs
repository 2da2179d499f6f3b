//! What a check tells, in words and as JSON, and its exit code.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well() {
    let url = strict_hub(vec![
        twin(fake::NODE, "dev-node", "home"),
        twin("cam-a", "dev-a", "home"),
        twin("cam-b", "dev-b", "home"),
    ])
    .await;
    fake::camera(&url, "cam-a", "default", None, 10.0);
    let config = camera("cam-a", "") + &camera("cam-b", "connect = \"accept\"");
    let check = Check::run(&url, &config, &[("DEVICE_ID", "dev-node")]);
    check.fails(0);
    let address = url.trim_start_matches("http://");
    check.says(
        "ok",
        &format!("hub {url}"),
        &format!("a hub answers at {address}"),
    );
    check.says("ok", "clock", "agrees with the hub's");
    check.says("ok", "joining the hub", "joined as twin node-1");
    check.says(
        "ok",
        "own twin node-1",
        "the hub knows it, type Edge, tenant home, status Online",
    );
    check.begins("ok", "ONNX Runtime", "version 1.");
    check.begins(
        "ok",
        &format!("model {FAST}"),
        "loaded, and one inference ran on CPUExecutionProvider (all ",
    );
    check.says("ok", "ICE servers", "STUN: 0, TURN over UDP: 0, policy all");
    check.begins("ok", "camera cam-a/default", "answered after ");
    assert!(
        check
            .line("camera cam-a/default")
            .ends_with(" ms, H.264 video comes")
    );
    check.says(
        "ok",
        "camera cam-b/default",
        "it dials this node (connect = \"accept\"), so it was only looked up",
    );
    let last = check.0.out.lines().last().unwrap();
    assert!(
        last.ends_with(" things looked at: 0 failed, 0 to be aware of, 0 skipped"),
        "{last}"
    );
}

#[test]
fn findings_as_json() {
    let outcome = twinsight(
        &["check", "--json"],
        &[
            ("TWIN_ID", "node-1"),
            ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9"),
        ],
    );
    assert_eq!(outcome.code, Some(1));
    let findings: Vec<Value> = outcome
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let hub = findings
        .iter()
        .find(|finding| finding["subject"] == "hub http://127.0.0.1:9")
        .unwrap();
    assert_eq!(hub["severity"], "fail");
    assert_eq!(hub["found"], "nothing listens at 127.0.0.1:9");
    assert!(!hub["remedy"].as_str().unwrap().is_empty());
}

#[test]
fn a_failing_finding_counts_when_its_reader_has_gone() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_twinsight"))
        .arg("check")
        .env_clear()
        .env("TWIN_ID", fake::NODE)
        .env("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9")
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // As `grep -q` does at the first line that it looks for.
    let mut first = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut first).unwrap();
    drop(reader);
    let outcome = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1), "{first}{said}");
    assert!(
        said.ends_with("do what the lines that begin with `fail` say, and check again\n"),
        "{first}{said}"
    );
}

#[test]
fn a_bad_configuration() {
    let outcome = Check::run("http://127.0.0.1:9", "[defaults]\nmax_fsp = 5\n", &[]).0;
    assert_eq!(outcome.code, Some(78));
    assert!(
        outcome
            .log
            .contains("there is no key `defaults.max_fsp`, the nearest is `defaults.max_fps`"),
        "{}",
        outcome.log
    );
}
