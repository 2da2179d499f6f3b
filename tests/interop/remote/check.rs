//! `twinsight check` beside a server that is well, one that is not there, one with another model and one that has none of this name: a
//! sentence each, with what to do.

use super::*;
use crate::common::ports::unused_address;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_wrong_with_a_server_in_a_sentence() {
    let models = ["nanodet_u8", "nanodet_wrong"];
    let Some(server) = InferenceServer::start(Make::Triton, &models).await else {
        return;
    };
    let (there, nowhere) = (server.grpc, unused_address());
    let models = [
        ("well", there, "nanodet_u8"),
        ("dead", nowhere, "nanodet_u8"),
        ("wrong", there, "nanodet_wrong"),
        ("missing", there, "somebody_elses"),
    ];
    let mut config = String::new();
    for (name, address, model) in models {
        config += &format!(
            "[models.{name}]\nbackend = \"kserve\"\nurl = \"grpc://{address}\"\nmodel = \"{model}\"\n\
             manifest = \"nanodet_g_coco\"\ndeadline_ms = 5000\n[[cameras]]\ntwin_id = \"cam-{name}\"\nmodel = \"{name}\"\n"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, config).unwrap();
    let url = start_hub(DevHubOptions::default()).await;
    let checked = tokio::task::spawn_blocking(move || {
        let args = ["check", "--json", "--config", file.to_str().unwrap()];
        let env = [
            ("PHYSTACK_SIMULATOR_URL", url.as_str()),
            ("TWIN_ID", "node-1"),
        ];
        twinsight(&args, &env)
    });
    let outcome = checked.await.unwrap();
    assert_eq!(outcome.code, Some(1), "{}", outcome.log);
    let findings: Vec<Value> = outcome
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| {
        let subject = format!("model {name}");
        let finding = findings.iter().find(|found| found["subject"] == subject);
        let finding = finding.unwrap_or_else(|| panic!("{subject}: {}", outcome.out));
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        println!(
            "{}: {} ({})",
            text("severity"),
            text("found"),
            text("remedy")
        );
        (text("severity"), text("found"), text("remedy"))
    };
    let (severity, found, _) = of("well");
    assert_eq!(severity, "ok", "{found}");
    assert!(found.contains("519168 bytes a frame"), "{found}");
    let (severity, found, remedy) = of("dead");
    assert_eq!(severity, "fail", "{found}");
    assert!(found.contains(&nowhere.to_string()), "{found}");
    assert!(remedy.contains("see that the server runs"), "{remedy}");
    let (severity, found, _) = of("wrong");
    assert_eq!(severity, "fail", "{found}");
    let sizes = found.contains("416") && found.contains("320");
    assert!(sizes, "what it should be, and what it is: {found}");
    let (severity, found, _) = of("missing");
    assert_eq!(severity, "fail", "{found}");
    assert!(found.contains("somebody_elses"), "{found}");
}
