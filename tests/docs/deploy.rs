//! What `deploy/kubernetes` has is right as far as that can be known without an API server: kubectl builds each overlay, Kubernetes's own
//! schemas take the result, checkov finds nothing that is not explained, and each node reads the configuration that its pod gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;
use twinsight::config::{Config, Env, LeaseEngineConfig, ShareConfig};
use twinsight::http::routes::ROUTES;

use crate::{path, read};

pub(crate) const KUBERNETES: &str = "deploy/kubernetes";

/// Where the pods of the manifests find their secrets.
const SECRETS: &str = "/run/secrets/twinsight";

/// Kinds that come with other programs, for which there are no schemas.
const OTHERS: &[&str] = &["PodMonitor"];

/// The program of an environment that scripts/setup makes. `None` means that there is no Python for it, which is said.
fn tool(environment: &str, name: &str) -> Option<Command> {
    let python = path(".tools").join(environment).join("bin/python");
    if !python.exists() {
        println!(
            "not run: there is no {}: run scripts/setup --test with Python 3.11 or 3.12",
            python.display()
        );
        return None;
    }
    let mut command = Command::new(python.with_file_name(name));
    command.current_dir(path(""));
    Some(command)
}

fn output(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// What an overlay is called with the components that need other programs in the cluster.
const WATCHED: &str = "-watched";

/// The folders that are applied, which are all overlays and what measures the capacity, and in a folder beside the clone each overlay
/// with the components that need other programs in the cluster.
fn applied(beside: &Path) -> Vec<PathBuf> {
    let overlays = std::fs::read_dir(path(KUBERNETES).join("overlays")).unwrap();
    let mut folders: Vec<_> = overlays.map(|entry| entry.unwrap().path()).collect();
    for overlay in folders.clone() {
        let name = overlay.file_name().unwrap().to_str().unwrap();
        let site = beside.join(format!("{name}{WATCHED}"));
        let of_clone = format!("../twinsight/{KUBERNETES}");
        let mut text = format!(
            "namespace: twinsight\nresources: [{of_clone}/overlays/{name}]\ncomponents:\n- {of_clone}/components/monitoring\n"
        );
        if name == "pool" {
            text += &format!("- {of_clone}/components/autoscale\n");
        }
        std::fs::create_dir(&site).unwrap();
        std::fs::write(site.join("kustomization.yaml"), text).unwrap();
        folders.push(site);
    }
    folders.push(path(KUBERNETES).join("capacity"));
    folders.sort();
    folders
}

/// A folder that has the clone in it as `twinsight`, like the guide's commands take it.
pub(crate) fn folder_of_the_clone() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(path(""), folder.path().join("twinsight")).unwrap();
    folder
}

/// What kubectl makes of each folder, by the folder's name.
static BUILT: LazyLock<Option<BTreeMap<String, Overlay>>> = LazyLock::new(build);

pub(crate) struct Overlay {
    pub(crate) text: Vec<u8>,
    pub(crate) objects: Vec<Value>,
}

fn build() -> Option<BTreeMap<String, Overlay>> {
    let beside = folder_of_the_clone();
    let mut built = BTreeMap::new();
    for folder in applied(beside.path()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        built.insert(name.to_owned(), kustomize(&folder)?);
    }
    Some(built)
}

/// What kubectl makes of a folder.
pub(crate) fn kustomize(folder: &Path) -> Option<Overlay> {
    const READ: &str =
        "import json, sys, yaml; json.dump([*yaml.safe_load_all(sys.stdin)], sys.stdout)";
    let mut kubectl = tool("kubernetes", "kubectl")?;
    let made = output(kubectl.arg("kustomize").arg(folder));
    assert!(
        made.status.success() && made.stderr.is_empty(),
        "{}: {}",
        folder.display(),
        said(&made)
    );
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&made.stdout).unwrap();
    file.rewind().unwrap();
    let mut python = tool("kubernetes", "python")?;
    let read = output(python.arg("-c").arg(READ).stdin(file));
    assert!(read.status.success(), "{}", said(&read));
    Some(Overlay {
        objects: serde_json::from_slice(&read.stdout).unwrap(),
        text: made.stdout,
    })
}

/// Writes what was built into a folder; gives its files.
fn written(built: &BTreeMap<String, Overlay>, folder: &Path) -> Vec<PathBuf> {
    let write = |(name, overlay): (&String, &Overlay)| {
        let file = folder.join(name).with_extension("yaml");
        std::fs::write(&file, &overlay.text).unwrap();
        file
    };
    built.iter().map(write).collect()
}

/// The object of a kind and name.
pub(crate) fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

#[test]
fn the_newest_kubernetes_takes_every_overlay() {
    let Some(built) = &*BUILT else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = written(built, folder.path());
    for version in ["1.37", "1.36"] {
        let mut validate = tool("kubernetes", "kubernetes-validate").unwrap();
        validate.args(["--strict", "-k", version]).args(&files);
        let output = output(&mut validate);
        let said = said(&output);
        assert!(output.status.success(), "{version}: {said}");
        for line in said.lines().filter(|line| line.contains("WARN")) {
            let may = OTHERS.iter().any(|kind| line.contains(kind));
            assert!(may, "{version}: {line}");
        }
        assert!(said.contains("pool.yaml passed"), "{version}: {said}");
    }
}

#[test]
fn every_object_is_in_the_namespace_of_the_nodes() {
    let Some(built) = &*BUILT else { return };
    for (overlay, Overlay { objects, .. }) in built {
        for object in objects {
            let kind = object["kind"].as_str().unwrap();
            let of_the_cluster = ["Namespace", "PriorityClass"].contains(&kind);
            let namespace = object["metadata"]["namespace"].as_str();
            let expected = (!of_the_cluster).then_some("twinsight");
            assert_eq!(namespace, expected, "{overlay}: {object:#}");
            for subject in object["subjects"].as_array().into_iter().flatten() {
                assert_eq!(subject["namespace"], "twinsight", "{overlay}: {object:#}");
            }
        }
    }
}

#[test]
fn checkov_finds_nothing_that_is_not_explained() {
    let Some(built) = &*BUILT else { return };
    let Some(mut checkov) = tool("checkov", "checkov") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    checkov.args(["--compact", "--skip-download", "--output", "json"]);
    checkov.args(["--framework", "kubernetes", "dockerfile", "--file"]);
    checkov.args(written(built, folder.path()));
    checkov.args(["deploy/triton/Dockerfile", "Dockerfile"]);
    let output = output(&mut checkov);
    let reports: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
    let mut used = BTreeSet::new();
    let mut passed = 0;
    for report in reports.as_array().unwrap() {
        let failed = report["results"]["failed_checks"].as_array().unwrap();
        let found: Vec<_> = failed
            .iter()
            .map(|each| {
                let part = ["check_id", "check_name", "resource", "file_path"];
                part.map(|key| each[key].to_string()).join(" ")
            })
            .collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
        assert_eq!(report["summary"]["parsing_errors"], 0, "{}", said(&output));
        passed += report["summary"]["passed"].as_u64().unwrap();
        for skipped in report["results"]["skipped_checks"].as_array().unwrap() {
            let file = Path::new(skipped["file_path"].as_str().unwrap());
            let overlay = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let id = skipped["check_id"].as_str().unwrap().to_owned();
            used.insert((overlay, id));
        }
    }
    assert!(passed > 500, "{passed} checks");

    // A reason that explains nothing any more is one too many.
    let mut explained = BTreeSet::new();
    for (overlay, Overlay { objects, .. }) in built {
        for object in objects {
            let annotations = object["metadata"]["annotations"].as_object();
            for (key, text) in annotations.into_iter().flatten() {
                if key.starts_with("checkov.io/skip") {
                    let (id, reason) = text.as_str().unwrap().split_once('=').unwrap();
                    assert!(reason.len() > 20 && reason.ends_with('.'), "{text}");
                    explained.insert((overlay.clone(), id.to_owned()));
                }
            }
        }
    }
    assert_eq!(used, explained);
}

/// The variables of the first pod of a StatefulSet, as its container gets them, with its secrets in a folder of the test.
fn variables(container: &Value, secrets: &Path) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::<String, String>::new();
    for each in container["env"].as_array().unwrap() {
        let name = each["name"].as_str().unwrap().to_owned();
        let field = each["valueFrom"]["fieldRef"]["fieldPath"].as_str();
        let value = match field {
            Some("metadata.name") => "twinsight-0".to_owned(),
            Some("metadata.labels['apps.kubernetes.io/pod-index']") => "0".to_owned(),
            Some(other) => panic!("what is {other} of a pod?"),
            None if each["valueFrom"]["secretKeyRef"].is_object() => "secret".to_owned(),
            None => {
                // Only what stands before is known.
                let mut value = each["value"].as_str().unwrap().to_owned();
                for (name, known) in &variables {
                    value = value.replace(&format!("$({name})"), known);
                }
                assert!(!value.contains("$("), "{name} is {value}");
                value.replace(SECRETS, secrets.to_str().unwrap())
            }
        };
        assert!(
            variables.insert(name.clone(), value).is_none(),
            "{name} is there twice"
        );
    }
    variables
}

/// The configuration of the first node of an overlay.
pub(crate) fn configuration(objects: &[Value]) -> Config {
    let folder = tempfile::tempdir().unwrap();
    for name in ["access-key-twinsight-0", "http-token", "etcd-password"] {
        std::fs::write(folder.path().join(name), "secret").unwrap();
    }
    let pod = &object(objects, "StatefulSet", "twinsight").unwrap()["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mount = |name: &str| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap();
        // What is mounted by itself never changes.
        assert!(mount["subPath"].is_null(), "{mount}");
        mount["mountPath"].as_str().unwrap()
    };
    assert_eq!(mount("secrets"), SECRETS);
    // The argument of `--config` leads into the folder that is mounted over the image's.
    let arguments = container["args"].as_array().unwrap();
    let file = arguments.last().unwrap().as_str().unwrap();
    assert_eq!(
        Path::new("/opt/twinsight").join(file),
        Path::new(mount("config")).join("node.toml")
    );
    let text = object(objects, "ConfigMap", "twinsight").unwrap()["data"]["node.toml"].as_str();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, text.unwrap()).unwrap();
    let env: Env = variables(container, folder.path()).into_iter().collect();
    Config::load(Some(&file), &env).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_node_reads_the_configuration_that_its_pod_gives_it() {
    let Some(built) = &*BUILT else { return };
    for (overlay, Overlay { objects, .. }) in built {
        let Some(set) = object(objects, "StatefulSet", "twinsight") else {
            assert_eq!(overlay.as_str(), "capacity");
            continue;
        };
        let config = configuration(objects);
        let overlay = overlay.trim_end_matches(WATCHED);
        assert_eq!(config.node.name, "twinsight-0", "{overlay}");
        assert_eq!(config.node.capacity, 10, "{overlay}");
        assert_eq!(config.cameras.len(), 3, "{overlay}");
        assert_eq!(config.http.listen.to_string(), "0.0.0.0:9464", "{overlay}");
        let share = match &config.node.share {
            ShareConfig::All => "all",
            ShareConfig::Shard { index: 0, count } => {
                assert_eq!(set["spec"]["replicas"], *count, "{overlay}");
                "shard"
            }
            ShareConfig::Shard { .. } => panic!("{overlay}: the first pod has the number 0"),
            ShareConfig::Pool(pool) => match &pool.engine {
                LeaseEngineConfig::Etcd(_) => "etcd",
                LeaseEngineConfig::Kubernetes { namespace: None } => "kubernetes",
                LeaseEngineConfig::Kubernetes { .. } => panic!("{overlay}: the pod's own is right"),
            },
        };
        let expected = match overlay {
            "static-shards" => "shard",
            "etcd" => "etcd",
            _ => "kubernetes",
        };
        assert_eq!(share, expected, "{overlay}");
        // The token of the API server is for who needs it, and so is the right to leases.
        let needs_it = share == "kubernetes";
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], needs_it, "{overlay}");
        let role = object(objects, "Role", "twinsight-leases");
        assert_eq!(role.is_some(), needs_it, "{overlay}");

        let models: Vec<_> = config.models.iter().collect();
        assert_eq!(models.is_empty(), overlay != "triton", "{overlay}");
        for model in models {
            let servers = object(objects, "StatefulSet", "triton").unwrap();
            let replicas = servers["spec"]["replicas"].as_u64().unwrap();
            let names: Vec<_> = (0..replicas)
                .map(|n| format!("grpc://triton-{n}.triton:8001"))
                .collect();
            let urls: Vec<_> = model.servers.iter().map(ToString::to_string).collect();
            assert_eq!(urls, names);
            assert!(
                path("deploy/triton/model_repository")
                    .join(&model.model)
                    .exists()
            );
            assert_eq!(model.model, model.manifest);
            assert!(
                config
                    .cameras
                    .iter()
                    .all(|camera| camera.model == model.name),
                "{overlay}"
            );
        }
    }
}

#[test]
fn what_manifests_name_is_there() {
    let Some(built) = &*BUILT else { return };
    let metrics = read("docs/reference/metrics.md");
    let adapter = read("deploy/kubernetes/components/autoscale/prometheus-adapter.yaml");
    let is_route = |path: &str| ROUTES.iter().any(|route| route.path == path);
    for (overlay, Overlay { objects, .. }) in built {
        // A cluster knows these kinds only with other programs in it, so `kubectl apply` of an overlay alone is not to need them.
        let of_others: &[_] = match overlay.strip_suffix(WATCHED) {
            None => &[],
            Some("pool") => &["HorizontalPodAutoscaler", "PodMonitor"],
            Some(_) => &["PodMonitor"],
        };
        for kind in ["HorizontalPodAutoscaler", "PodMonitor"] {
            let is_there = object(objects, kind, "twinsight").is_some();
            assert_eq!(is_there, of_others.contains(&kind), "{overlay}: {kind}");
        }
        if let Some(scaler) = object(objects, "HorizontalPodAutoscaler", "twinsight") {
            let metric = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"].as_str();
            let metric = metric.unwrap();
            assert!(
                metrics.contains(&format!("| `{metric}` | gauge |")),
                "{metric}"
            );
            assert!(adapter.contains(&format!("seriesQuery: {metric}{{")));
            // A number of pods beside a scaler is set back by each `kubectl apply`.
            let set = object(objects, "StatefulSet", "twinsight").unwrap();
            assert!(set["spec"]["replicas"].is_null(), "{overlay}");
        }
        if let Some(monitor) = object(objects, "PodMonitor", "twinsight") {
            let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
            assert!(is_route(endpoint["path"].as_str().unwrap()));
            // Rules and dashboard look for this job.
            let label = monitor["spec"]["jobLabel"].as_str().unwrap();
            let set = object(objects, "StatefulSet", "twinsight").unwrap();
            let labels = &set["spec"]["template"]["metadata"]["labels"];
            assert_eq!(labels[label], "twinsight");
        }
        let Some(set) = object(objects, "StatefulSet", "twinsight") else {
            continue;
        };
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let asked = container[probe]["httpGet"]["path"].as_str().unwrap();
            assert!(is_route(asked), "{overlay}: {asked}");
        }
        // Cameras are let in by the ports that the node has.
        let policy = object(objects, "NetworkPolicy", "twinsight").unwrap();
        let port = &policy["spec"]["ingress"][0]["ports"][0];
        let env = container["env"].as_array().unwrap();
        let ports = env
            .iter()
            .find(|each| each["name"] == "TWINSIGHT_ICE__UDP_PORTS");
        let range = format!("{}-{}", port["port"], port["endPort"]);
        assert_eq!(ports.unwrap()["value"], range, "{overlay}");
    }
}
