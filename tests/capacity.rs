//! `twinsight capacity`: its answer follows from its own rows, the file has what the table has, what cannot be
//! used is told before anything is measured, and whoever stops it keeps what was measured. How fast the
//! machine is does not matter here.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::{Program, root, twinsight};

/// Every frame of fast cameras, in short steps: few of them are enough for any machine.
const SHORT: &[&str] = &[
    "capacity",
    "--fps",
    "30",
    "--max-fps",
    "0",
    "--step-seconds",
    "1",
];

/// The rows of the CSV file by their columns' names.
fn rows(csv: &str) -> Vec<BTreeMap<&str, f64>> {
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            assert_eq!(cells.len(), names.len(), "{line}");
            names
                .iter()
                .zip(cells)
                .map(|(name, cell)| (*name, cell.parse().unwrap_or(f64::NAN)))
                .collect()
        })
        .collect()
}

#[test]
fn the_answer_follows_from_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("capacity.csv");
    let args: Vec<&str> = SHORT
        .iter()
        .copied()
        .chain(["--csv", csv.to_str().unwrap()])
        .collect();
    let outcome = twinsight(&args, &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.log);
    let csv = std::fs::read_to_string(&csv).unwrap();
    let rows = rows(&csv);
    let (out, whole) = (&outcome.out, format!("{}\n{csv}", outcome.out));

    let head = out.lines().next().unwrap();
    for part in [
        "model nanodet_g_coco_int8,",
        "media/pedestrians.h264 (768x576)",
        "30 frames a second",
    ] {
        assert!(head.contains(part), "{head}");
    }
    // The table: the same numbers of cameras, in the same order, with the same verdicts.
    let table: Vec<(f64, f64)> = out
        .lines()
        .skip(2)
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            let carried = match *cells.last().unwrap() {
                "yes" => 1.0,
                "no" => 0.0,
                other => panic!("{other}: {whole}"),
            };
            (cells[0].parse().unwrap(), carried)
        })
        .collect();
    let filed: Vec<(f64, f64)> = rows
        .iter()
        .map(|row| (row["cameras"], row["carried"]))
        .collect();
    assert_eq!(table, filed, "{whole}");
    assert!(
        filed.first().is_some_and(|(cameras, _)| *cameras == 1.0),
        "{whole}"
    );

    for row in &rows {
        let carried = row["worst_camera_share"] >= 0.95 && row["age_p99_ms"] <= 500.0;
        assert_eq!(carried, row["carried"] == 1.0, "{row:?}");
        assert!(
            row["inferred_share"] >= row["worst_camera_share"] - 1e-9,
            "{row:?}"
        );
        assert!(row["age_p99_ms"] >= row["age_p50_ms"], "{row:?}");
        // All of it was this program's, and was counted.
        assert!(
            row["node_cpu_share"] > 0.0 && row["cameras_cpu_share"] > 0.0,
            "{row:?}"
        );
        assert!(row["decoding_cpu_share"] < row["node_cpu_share"], "{row:?}");
    }
    let most = |verdict: f64| {
        filed
            .iter()
            .filter(move |row| row.1 == verdict)
            .map(|row| row.0)
    };
    let carried = most(1.0).fold(0.0, f64::max);
    let refused = most(0.0).fold(f64::INFINITY, f64::min);
    assert!(carried < refused, "{whole}");
    let answer = match (carried, refused) {
        (0.0, _) => {
            "This machine carries not even one such camera at 30 frames a second".to_owned()
        }
        (1.0, _) => "This machine carries 1 such camera at 30 frames a second".to_owned(),
        (carried, f64::INFINITY) => format!("This machine carries at least {carried} such cameras"),
        (carried, _) => {
            format!("This machine carries {carried} such cameras at 30 frames a second")
        }
    };
    assert!(
        out.contains(&answer),
        "`{answer}` is not what it says:\n{whole}"
    );
    if refused.is_finite() {
        assert!(out.contains(&format!(": with {refused}, ")), "{whole}");
        assert!(out.contains("limit"), "{whole}");
    }
}

#[test]
fn a_still_scene_is_hardly_inferred_under_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("capacity.csv");
    // The first looks of a step are over before it counts, and the next one of a camera is due after 5 s.
    let args: Vec<&str> = SHORT
        .iter()
        .copied()
        .chain(["--scene", "still", "--csv", csv.to_str().unwrap()])
        .collect();
    let outcome = twinsight(&args, &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.log);
    let csv = std::fs::read_to_string(&csv).unwrap();
    let rows = rows(&csv);
    let whole = format!("{}\n{csv}", outcome.out);
    assert!(rows[0]["unchanged_share"] >= 0.8, "{whole}");
    for part in [
        "the first picture of media/pedestrians.h264 (768x576)",
        "unless nothing moves",
        "This machine carries ",
        "% of their frames were not inferred, since nothing had moved.",
    ] {
        let told = whole.contains("carries not even one") || outcome.out.contains(part);
        assert!(told, "`{part}` is not there:\n{whole}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_it_keeps_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("capacity.csv");
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command
        .args(["capacity", "--step-seconds", "1", "--csv"])
        .arg(&csv)
        .current_dir(root());
    let mut program = Program::start(command, &[], false);
    program.until("age p99 ms").await;
    let first = program.line().await.unwrap();
    assert_eq!(first.split_whitespace().next(), Some("1"));
    program.signal("INT");
    program.until("This machine carries ").await;
    assert_eq!(program.ended().await.code(), Some(0));
    let csv = std::fs::read_to_string(csv).unwrap();
    assert_eq!(rows(&csv)[0]["cameras"], 1.0, "{csv}");
}

#[test]
fn what_cannot_be_used_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes.txt");
    std::fs::write(&notes, "hello").unwrap();
    let notes = notes.to_str().unwrap();
    for (args, start) in [
        (
            ["--clip", "nowhere.h264"],
            "cannot read the clip nowhere.h264 (",
        ),
        (
            ["--clip", notes],
            &format!("{notes} is neither an H.264 byte stream (Annex B) with a keyframe nor"),
        ),
        (
            ["--model", "nanodet"],
            "model `nanodet` is not installed: there is no ",
        ),
        (
            ["--csv", "no/such/folder.csv"],
            "no/such/folder.csv cannot be written (",
        ),
    ] {
        let outcome = twinsight(&[&["capacity"], &args[..]].concat(), &[]);
        let last = outcome.log.lines().last().unwrap_or_default();
        assert!(
            last.starts_with(&format!("twinsight: {start}")),
            "{args:?}: {}",
            outcome.log
        );
        assert_eq!(outcome.code, Some(1), "{args:?}");
        assert_eq!(outcome.out, "", "{args:?}");
    }
}
