//! The dashboard in Debian's Chromium, with a node that runs the shipped model on the shipped clip. What is clicked, read and
//! measured there is in `dashboard.mjs`; here are the node, its cameras, and what befalls them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{NodeProcess, Program, root, start_hub};
use twinsight::dev::hub::DevHubOptions;

/// Where pictures of the page go: into the documents if they are to be renewed.
fn screens(folder: &Path) -> PathBuf {
    if std::env::var_os("DOCS_RENEW").is_some_and(|value| value == "1") {
        let screens = root().join("docs/screens");
        std::fs::create_dir_all(&screens).unwrap();
        return screens;
    }
    folder.to_owned()
}

/// Pictures for the documents have 256 colours, since a repository keeps all versions of them.
fn shrink(screens: &Path, names: &[&str]) {
    for name in names {
        let (file, small) = (screens.join(name), screens.join(format!("small-{name}")));
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-i"])
            .arg(&file)
            .args([
                "-vf",
                "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=dither=sierra2_4a",
            ])
            .arg(&small)
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::rename(&small, &file).unwrap();
        let size = std::fs::metadata(&file).unwrap().len();
        assert!(size < 400 * 1024, "{name} has {size} bytes");
    }
}

/// A camera that is a process, so that it can lose its power.
fn camera(url: &str, twin: &str) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command
        .args(["camera", "--twin", twin, "--clip", "media/pedestrians.h264"])
        .current_dir(root());
    Program::start(command, &[("PHYSTACK_SIMULATOR_URL", url)], true)
}

/// Runs a part of a script against a node; `seen` is called with each of its lines.
async fn run(script: &str, args: &[&str], node: &NodeProcess, mut seen: impl FnMut(&str)) {
    let base = format!("http://{}", node.http);
    let args: Vec<_> = args[..1]
        .iter()
        .chain(&[base.as_str()])
        .chain(&args[1..])
        .copied()
        .collect();
    let mut script = Program::npm(script, &args, &base, "");
    while let Some(line) = script.line().await {
        eprintln!("{line}");
        assert!(!line.starts_with("failed"), "{line}");
        if line == "done" {
            return;
        }
        seen(&line);
    }
    panic!("the script ended before its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_what_the_node_sees_and_says_what_is_wrong() {
    let url = start_hub(DevHubOptions::default()).await;
    let config = "[defaults]\nmax_fps = 5.0\n\
        [[cameras]]\ntwin_id = \"front-door\"\nname = \"Front door\"\n\
        [[cameras.zones]]\nname = \"yard\"\nlabels = [\"person\"]\n\
        points = [[0.0, 0.34], [0.45, 0.34], [0.72, 0.4], [0.62, 0.6], [0.43, 0.56], [0.24, 0.47], [0.0, 0.42]]\n\
        [[cameras.lines]]\nname = \"gate\"\nfrom = [0.76, 0.36]\nto = [0.62, 0.68]\nlabels = [\"person\"]\n\
        [[cameras.masks]]\npoints = [[0.0, 0.0], [0.3, 0.0], [0.3, 0.1], [0.0, 0.14]]\n\
        [[cameras]]\ntwin_id = \"car-park\"\nname = \"Car park\"\nmax_fps = 2.0\n\
        [[cameras]]\ntwin_id = \"loading-dock\"\nname = \"Loading dock\"\nmax_fps = 2.0\n";
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "node-1"),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let node = NodeProcess::start(config, &env).await;
    let _cameras = [camera(&url, "front-door"), camera(&url, "car-park")];
    let mut dock = camera(&url, "loading-dock");
    let folder = tempfile::tempdir().unwrap();
    let screens = screens(folder.path());
    let args = ["look", screens.to_str().unwrap()];
    run("dashboard.mjs", &args, &node, |line| match line {
        "do: kill the camera" => dock.signal("KILL"),
        "do: start the camera" => dock = camera(&url, "loading-dock"),
        _ => {}
    })
    .await;
    shrink(
        &screens,
        &[
            "overview.png",
            "camera.png",
            "node.png",
            "trouble.png",
            "phone.png",
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_let_in_by_the_right_token_alone() {
    let url = start_hub(DevHubOptions::default()).await;
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "node-1"),
        ("TWINSIGHT_HTTP__TOKEN", "correct-horse-battery"),
    ];
    let node = NodeProcess::start("", &env).await;
    let folder = tempfile::tempdir().unwrap();
    let screens = screens(folder.path());
    let args = [
        "sign_in",
        screens.to_str().unwrap(),
        "correct-horse-battery",
    ];
    run("dashboard.mjs", &args, &node, |_| {}).await;
    shrink(&screens, &["login.png"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_and_lines_are_drawn_by_mouse_touch_and_keyboard_and_are_in_force_when_saved() {
    let url = start_hub(DevHubOptions::default()).await;
    let config = "edit = true\n\
        # How fast it looks.\n[defaults]\nmax_fps = 5.0\n\
        [[cameras]]\ntwin_id = \"other\"\n\
        [[cameras]]\ntwin_id = \"front-door\" # beside the bell\nname = \"Front door\"\n";
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "node-1"),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ("TWINSIGHT_HTTP__TOKEN", "correct-horse-battery"),
    ];
    let node = NodeProcess::start(config, &env).await;
    let _camera = camera(&url, "front-door");
    let folder = tempfile::tempdir().unwrap();
    let screens = screens(folder.path());
    let args = ["edit", screens.to_str().unwrap(), "correct-horse-battery"];
    run("dashboard_editor.mjs", &args, &node, |_| {}).await;
    let file = std::fs::read_to_string(&node.config).unwrap();
    for kept in [
        "# How fast it looks.",
        "# beside the bell",
        "name = \"path\"",
    ] {
        assert!(file.contains(kept), "{kept} is not in {file}");
    }
    shrink(&screens, &["editor.png"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_are_drawn_for_the_file_where_a_node_takes_no_changes() {
    let url = start_hub(DevHubOptions::default()).await;
    let config = "[[cameras]]\ntwin_id = \"front-door\"\nname = \"Front door\"\n";
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "node-1"),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let node = NodeProcess::start(config, &env).await;
    let _camera = camera(&url, "front-door");
    let folder = tempfile::tempdir().unwrap();
    let args = ["read", folder.path().to_str().unwrap()];
    run("dashboard_editor.mjs", &args, &node, |_| {}).await;
}

/// Multipart, pairing, the event log, the words for each state, and the editor's steps, without a browser.
#[test]
fn the_parts_of_the_dashboard_that_know_no_page_work() {
    let scripts = ["dashboard_units.mjs", "dashboard_scene_units.mjs"];
    let output = Command::new("node")
        .arg("--test")
        .args(scripts.map(|script| root().join("tests/interop").join(script)))
        .output()
        .expect("node runs: scripts/setup --test installs it");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
}
