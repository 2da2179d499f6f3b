//! `twinsight demo` ends by itself, has seen persons with every camera, and its books are in order. It says first where its dashboard
//! is, and its table fits the terminal.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::common::{Program, python, root};

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

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command.arg("demo").args(args).current_dir(root());
    command
}

/// All that it writes to a terminal of this size, in lines.
async fn on_terminal(size: [&str; 2], variables: &[(&str, &str)], args: &[&str]) -> Vec<String> {
    let mut command = Command::new(python());
    command
        .arg(root().join("tests/common/terminal.py"))
        .args(size)
        .args([env!("CARGO_BIN_EXE_twinsight"), "demo"])
        .args(args)
        .env("TERM", "xterm")
        .current_dir(root());
    let mut demo = Program::start(command, variables, false);
    let mut lines = Vec::new();
    while let Some(line) = demo.line().await {
        lines.push(line.trim_end_matches('\r').to_owned());
    }
    assert_eq!(demo.ended().await.code(), Some(0), "{lines:?}");
    lines
}

/// A line without escape sequences, and by how many lines these moved the cursor up.
fn plain(line: &str) -> (String, usize) {
    let mut parts = line.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut up = 0;
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        if part[end..].starts_with('A') {
            up += part[..end].parse::<usize>().unwrap();
        }
        text += &part[end + 1..];
    }
    (text, up)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_fits_the_terminal() {
    for (columns, rows) in [(80, 24), (60, 20)] {
        let size = [columns.to_string(), rows.to_string()];
        let size = [size[0].as_str(), size[1].as_str()];
        let args = ["--cameras", "30", "--fps", "1", "--seconds", "4"];
        // A machine with other work makes the node warn, and lines of the log are none of the table.
        let lines = on_terminal(size, &[("RUST_LOG", "off")], &args).await;
        assert!(
            lines[0].starts_with("Dashboard: http://127.0.0.1:"),
            "{lines:?}"
        );
        let (mut drawn, mut since_drawn) = (0, 0);
        for line in &lines {
            let (text, up) = plain(line);
            assert!(text.chars().count() <= columns, "{columns}: {text:?}");
            if up > 0 {
                assert_eq!(
                    up, since_drawn,
                    "the cursor goes to the first line of the table"
                );
                assert!(up < rows, "{up} lines and the cursor's on {rows} rows");
                (drawn, since_drawn) = (drawn + 1, 0);
            }
            since_drawn += 1;
            if text.starts_with("Dashboard:") || text.contains("metrics under") {
                since_drawn = 0;
            }
        }
        assert!(drawn >= 2, "{lines:?}");
        let shown = rows - 3;
        let more = format!("and {} more", 30 - shown);
        assert!(lines.iter().any(|line| line.contains(&more)), "{lines:?}");
        assert!(
            lines.iter().any(|line| line.contains("\u{1b}[2m")),
            "{lines:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_decide_about_colours() {
    let args = ["--cameras", "1", "--seconds", "2"];
    let lines = on_terminal(["80", "24"], &[("NO_COLOR", "1")], &args).await;
    let painted = |line: &String| {
        line.replace("\u{1b}[J", "")
            .split("\u{1b}[")
            .skip(1)
            .any(|part| !part.contains('A'))
    };
    assert!(!lines.iter().any(painted), "{lines:?}");

    let mut demo = Program::start(demo(&args), &[("CLICOLOR_FORCE", "1")], false);
    let mut text = String::new();
    while let Some(line) = demo.line().await {
        text = text + &line + "\n";
    }
    assert!(text.contains("\u{1b}[2mcamera"), "{text:?}");
    assert!(
        !text.contains("\u{1b}[J"),
        "one table follows the other: {text:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_closes_ends_it_quietly() {
    let mut child = demo(&["--cameras", "1", "--seconds", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    // The pipe is closed with its reader.
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_said_and_another_one_taken() {
    // If that fails, somebody else has it.
    let _taken = TcpListener::bind("127.0.0.1:9464");
    let args = ["--cameras", "1", "--seconds", "1"];
    let mut demo = Program::start(demo(&args), &[], false);
    let line = demo.line().await.unwrap();
    let address = line
        .strip_prefix("Dashboard: http://127.0.0.1:")
        .and_then(|rest| rest.strip_suffix("/ (port 9464 is taken)"));
    assert!(address.is_some_and(|port| port != "9464"), "{line}");
    assert_eq!(demo.ended().await.code(), Some(0));
}
