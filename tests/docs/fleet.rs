//! What the guides about many nodes have the reader copy is right: each folder that `docs/guide/kubernetes.md` shows is built, with the lines
//! that it adds for some, and the files of `docs/guide/fleet.md` are read by the program's own configuration.

use twinsight::config::{Config, Env, LeaseEngineConfig, ShareConfig};

use crate::deploy::{KUBERNETES, Overlay, configuration, folder_of_the_clone, kustomize, object};
use crate::{path, read};

const GUIDE: &str = "docs/guide/kubernetes.md";

/// A file that a guide shows, by the comment with its name in the first line.
fn example(guide: &str, file: &str) -> String {
    let guide = read(guide);
    let (_, example) = guide.split_once(&format!("\n# {file}\n")).unwrap();
    example.split_once("```").unwrap().0.to_owned()
}

/// The folder `site` as the guide makes it, of the overlay `pool`; the text of its kustomization is changed first.
fn site(change: impl FnOnce(String) -> String, node: &str) -> Option<Overlay> {
    let folder = folder_of_the_clone();
    let site = folder.path().join("site");
    std::fs::create_dir(&site).unwrap();
    std::fs::copy(path(KUBERNETES).join(node), site.join("node.toml")).unwrap();
    let policy = example(GUIDE, "site/networkpolicy.yaml");
    std::fs::write(site.join("networkpolicy.yaml"), policy).unwrap();
    let text = change(example(GUIDE, "site/kustomization.yaml"));
    std::fs::write(site.join("kustomization.yaml"), text).unwrap();
    kustomize(&site)
}

/// Replaces what is there exactly once.
fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to)
}

#[test]
fn the_overlay_of_the_guide_builds_and_the_guide_has_all_overlays() {
    let guide = read(GUIDE);
    for overlay in std::fs::read_dir(path(KUBERNETES).join("overlays")).unwrap() {
        let name = overlay.unwrap().file_name();
        let row = format!("\n| `{}` | ", name.to_str().unwrap());
        assert!(guide.contains(&row), "{GUIDE} has no row{row}");
    }
    let Some(site) = site(|text| text, "base/config/node.toml") else {
        return;
    };
    configuration(&site.objects);
    let said = String::from_utf8(site.text).unwrap();
    for expected in [
        "image: registry.example/twinsight:0.1.0",
        "nodeSelector:",
        "  name: twinsight\n",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn the_lines_that_the_guide_adds_for_triton_and_prometheus_are_right() {
    let change = |text: String| {
        let mut text = replace(&text, "overlays/pool", "overlays/triton");
        for line in [
            "components:",
            "  - ../twinsight/deploy/kubernetes/components/monitoring",
        ] {
            text = replace(&text, &format!("\n# {line}\n"), &format!("\n{line}\n"));
        }
        for line in [
            "- name: twinsight-triton",
            "  newName: registry.example/twinsight-triton",
            "  newTag: 0.1.0",
        ] {
            text = replace(&text, &format!("\n  # {line}\n"), &format!("\n  {line}\n"));
        }
        text
    };
    let Some(site) = site(change, "components/triton/config/node.toml") else {
        return;
    };
    let servers = object(&site.objects, "StatefulSet", "triton").unwrap();
    assert_eq!(
        servers["spec"]["template"]["spec"]["containers"][0]["image"],
        "registry.example/twinsight-triton:0.1.0"
    );
    assert!(object(&site.objects, "PodMonitor", "twinsight").is_some());
    let config = configuration(&site.objects);
    assert!(config.models.iter().all(|model| !model.servers.is_empty()));
    assert!(!config.models.is_empty());
}

#[test]
fn a_development_hub_is_set_and_reached_as_the_guide_says() {
    let guide = read(GUIDE);
    let (_, twin) = guide.split_once("`{name: TWIN_ID, ").unwrap();
    let (twin, _) = twin.split_once('`').unwrap();
    let change = |text: String| {
        let text = replace(
            &text,
            "{name: TWINSIGHT_HUB__REGION, value: eu}",
            &format!(
                "{{name: TWINSIGHT_HUB__MODE, value: simulator}}
                  - {{name: TWINSIGHT_HUB__URL, value: 'http://192.168.1.10:55000'}}
                  - {{name: TWIN_ID, {twin}"
            ),
        );
        let pool = "overlays/pool\n";
        replace(&text, pool, &format!("{pool}  - networkpolicy.yaml\n"))
    };
    let Some(site) = site(change, "base/config/node.toml") else {
        return;
    };
    let config = configuration(&site.objects);
    assert!(
        format!("{:?}", config.hub).contains("twinsight-0"),
        "{:?}",
        config.hub
    );
    let policy = object(&site.objects, "NetworkPolicy", "twinsight-site").unwrap();
    let hub = &policy["spec"]["egress"][0];
    assert_eq!(hub["to"][0]["ipBlock"]["cidr"], "192.168.1.10/32");
    assert_eq!(hub["ports"][0]["port"], 55000);
}

#[test]
fn the_job_of_the_guide_that_measures_has_an_image() {
    let folder = folder_of_the_clone();
    let capacity = folder.path().join("capacity");
    std::fs::create_dir(&capacity).unwrap();
    let text = example(GUIDE, "capacity/kustomization.yaml");
    std::fs::write(capacity.join("kustomization.yaml"), text).unwrap();
    let Some(built) = kustomize(&capacity) else {
        return;
    };
    let job = object(&built.objects, "Job", "twinsight-capacity").unwrap();
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["image"],
        "registry.example/twinsight:0.1.0"
    );
    assert!(pod["nodeSelector"].is_object(), "{job}");
}

#[test]
fn there_may_be_as_many_nodes_as_the_guide_has_keys_for() {
    let scaler = read("deploy/kubernetes/components/autoscale/horizontalpodautoscaler.yaml");
    let set = read("deploy/kubernetes/base/statefulset.yaml");
    assert!(set.contains("\n  replicas: 3\n") && scaler.contains("\n  maxReplicas: 10\n"));
    assert!(read(GUIDE).contains("three, or ten with `autoscale`, which is its `maxReplicas`."));
}

#[test]
fn the_files_of_a_fleet_without_kubernetes_make_a_node_of_a_pool() {
    const FLEET: &str = "docs/guide/fleet.md";
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_str().unwrap();
    let secrets = "/run/credentials/twinsight.service";
    let text = example(FLEET, "/etc/twinsight/node.toml").replace(secrets, inside);
    for secret in ["access-key", "http-token"] {
        assert!(text.contains(&format!("{inside}/{secret}\"")), "{text}");
        let loaded = format!("\nLoadCredential={secret}:/etc/twinsight/{secret}\n");
        assert!(read(FLEET).contains(&loaded), "{loaded}");
        std::fs::write(folder.path().join(secret), "secret").unwrap();
    }
    let file = folder.path().join("node.toml");
    std::fs::write(&file, text).unwrap();
    let environment = example(FLEET, "/etc/twinsight/environment");
    let lines = environment.lines().filter(|line| !line.starts_with('#'));
    let env: Env = lines.map(|line| line.split_once('=').unwrap()).collect();
    let config = Config::load(Some(&file), &env).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.node.name, "node-1");
    let ShareConfig::Pool(pool) = &config.node.share else {
        panic!("{:?}", config.node.share);
    };
    let LeaseEngineConfig::Etcd(_) = &pool.engine else {
        panic!("{:?}", pool.engine);
    };
    // The members that the nodes are given are those that etcd is told of.
    let etcd = example(FLEET, "/etc/default/etcd");
    for member in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        assert!(etcd.contains(&format!("=http://{member}:2380")), "{etcd}");
        let url = format!("\"http://{member}:2379\"");
        assert!(std::fs::read_to_string(&file).unwrap().contains(&url));
    }
}

#[test]
fn the_nodes_of_the_pool_to_try_are_named_by_their_twins() {
    let guide = read("docs/guide/fleet.md");
    let (_, text) = guide.split_once("cat > node.toml <<'END'\n").unwrap();
    let (text, _) = text.split_once("END\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, text).unwrap();
    for node in ["node-1", "node-2"] {
        let env: Env = [
            ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:55000"),
            ("TWIN_ID", node),
        ]
        .into_iter()
        .collect();
        let config = Config::load(Some(&file), &env).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.node.name, node);
        assert!(matches!(config.node.share, ShareConfig::Pool(_)));
        assert_eq!(config.cameras.len(), 2);
    }
}
