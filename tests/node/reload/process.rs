//! A node that is a process of its own follows its file and its signal.

use std::path::Path;

use super::*;
use crate::common::{NodeProcess, http_get};

/// Puts a file in the place of another, as editors do.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// `twin model` of each camera, as the node's API has it.
fn cameras(node: &NodeProcess) -> Vec<String> {
    let list: Value = serde_json::from_str(&http_get(node.http, "/api/cameras")).unwrap();
    let list = list.as_array().or_else(|| list["cameras"].as_array());
    list.unwrap()
        .iter()
        .map(|camera| {
            let text = |key: &str| camera[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("twinId"), text("model"))
        })
        .collect()
}

async fn until_cameras(node: &NodeProcess, expected: &[&str]) {
    let deadline = Instant::now() + DEADLINE;
    while cameras(node) != expected {
        assert!(Instant::now() < deadline, "{:?}", cameras(node));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_follows_its_file_and_its_signal() {
    const FAST: &str = "ssdlite_mobilenet_v2_coco";
    let base =
        "[http]\nlisten = \"127.0.0.1:0\"\n[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\n";
    let camera = |twin: &str| format!("[[cameras]]\ntwin_id = \"{twin}\"\n");
    let hub = [
        ("TWIN_ID", "node-1"),
        ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9"),
    ];
    let text = format!("[defaults]\nmodel = \"{FAST}\"\n{}", camera("cam-a"));
    let mut node = NodeProcess::start(&text, &hub).await;
    let on = |twin: &str| format!("{twin} {FAST}");
    let (a, b, c) = (on("cam-a"), on("cam-b"), on("cam-c"));
    until_cameras(&node, &[&a]).await;

    node.program.signal("HUP");
    node.program.until("no camera changes").await;
    // Replaced by a rename, noticed without a signal.
    let two = format!("{base}{}{}", camera("cam-a"), camera("cam-b"));
    replace(&node.config, &two);
    let line = node
        .program
        .until("the cameras are as configured now")
        .await;
    assert!(
        line.contains("\"added\":1") && line.contains("\"by\":\"file\""),
        "{line}"
    );
    until_cameras(&node, &[&a, &b]).await;

    // What is wrong is told once, with its place, and changes nothing.
    replace(
        &node.config,
        &format!("{base}{}max_fsp = 5\n", camera("cam-c")),
    );
    let sentence = format!(
        "{} line 7: there is no key `cameras.max_fsp`, the nearest is `cameras.max_fps`: correct or remove it",
        node.config.display()
    );
    let line = node.program.until("the last good one stays").await;
    assert!(line.contains(&sentence) && line.contains("ERROR"), "{line}");
    assert_eq!(cameras(&node), [a.as_str(), &b]);

    // A file that is taken away is told too; the rest is applied when it is back, but for what needs a restart.
    std::fs::remove_file(&node.config).unwrap();
    let line = node.program.until("the last good one stays").await;
    assert!(
        line.contains("cannot be read"),
        "told once, and this is next: {line}"
    );
    let listen = two.replace("127.0.0.1:0", "127.0.0.1:9465") + &camera("cam-c");
    std::fs::write(&node.config, listen).unwrap();
    node.program.signal("HUP");
    let line = node.program.until("these keys hold until a restart").await;
    assert!(line.contains("\"keys\":\"http.listen\""), "{line}");
    until_cameras(&node, &[&a, &b, &c]).await;

    // A symlink behind the file's own turns, as ConfigMaps do it.
    let folder = node.config.parent().unwrap().to_owned();
    for (version, text) in [("1", &two), ("2", &format!("{base}{}", camera("cam-b")))] {
        std::fs::create_dir(folder.join(version)).unwrap();
        std::fs::write(folder.join(version).join("node.toml"), text).unwrap();
    }
    let turn = |version: &str| {
        std::os::unix::fs::symlink(version, folder.join("turning")).unwrap();
        std::fs::rename(folder.join("turning"), folder.join("data")).unwrap();
    };
    turn("1");
    std::os::unix::fs::symlink("data/node.toml", folder.join("link")).unwrap();
    std::fs::rename(folder.join("link"), &node.config).unwrap();
    until_cameras(&node, &[&a, &b]).await;
    turn("2");
    until_cameras(&node, &[&b]).await;

    // A model that no camera used is loaded beside the others; one that is not there is refused.
    let with = |model: &str| format!("{base}{}model = \"{model}\"\n", camera("cam-b"));
    replace(&node.config, &with("nanodet_g_coco"));
    until_cameras(&node, &["cam-b nanodet_g_coco"]).await;
    replace(&node.config, &with("yolo99"));
    node.program
        .until("model `yolo99` is not installed: there is no models/yolo99.toml; installed are")
        .await;
    assert_eq!(cameras(&node), ["cam-b nanodet_g_coco"]);
    node.program.signal("TERM");
    assert!(node.program.ended().await.success());
}
