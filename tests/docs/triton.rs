//! What `deploy/triton` has is right as far as that can be known without Triton's backend for ONNX: the real Triton takes the configuration
//! of each model and warms it up, with a backend of our own that runs the very model; and models that are laid out for it, which take
//! pixels and batches, give the same results as the shipped ones do one by one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, python};
use crate::{path, read};

/// Runs what lies beside it. Triton's stub knows nothing of the environment that it is in.
const BACKEND: &str = r#"
import os, sys
sys.path.insert(0, os.environ["SITE"])
import onnxruntime, triton_python_backend_utils as pb
class TritonPythonModel:
    def initialize(self, args):
        file = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
    def execute(self, requests):
        return [self.run(request) for request in requests]
    def run(self, request):
        images = pb.get_input_tensor_by_name(request, "images").as_numpy()
        outputs = self.session.run(self.names, {"images": images})
        return pb.InferenceResponse([pb.Tensor(name, output) for name, output in zip(self.names, outputs)])
"#;

const BATCHES: &str = r#"
import sys, cv2, numpy, onnxruntime
def pixels(side):
    picture = cv2.resize(cv2.imread("tests/data/pictures/messi5.jpg"), (side, side))[:, :, ::-1].transpose(2, 0, 1)
    return numpy.stack([picture, picture[:, ::-1], numpy.zeros_like(picture)])
for name, side, scale in ("nanodet_g_coco", 416, 255), ("nanodet_g_coco_int8", 416, 255), ("ssdlite_mobilenet_v2_coco", 300, 1):
    shipped = onnxruntime.InferenceSession(f"models/{name}.onnx")
    served = onnxruntime.InferenceSession(f"{sys.argv[1]}/{name}/1/model.onnx")
    bytes = pixels(side)
    numbers = (bytes / scale).astype(numpy.float32)
    one_by_one = [shipped.run(None, {"images": each[None]}) for each in numbers]
    if name.startswith("nanodet"):
        batches = [bytes]
        assert one_by_one[0][0][0, 4:].max() > 0.5, "the picture has something to see"
    else:
        batches = [each[None] for each in bytes]
    found = [served.run(None, {"images": batch}) for batch in batches]
    for n, output in enumerate(shipped.get_outputs()):
        expected = numpy.concatenate([outputs[n] for outputs in one_by_one])
        difference = abs(numpy.concatenate([outputs[n] for outputs in found]) - expected).max()
        print(name, output.name, "differs by", difference)
        assert difference < 2e-3, name
"#;

fn lay_out(folder: &Path) -> Vec<PathBuf> {
    let mut command = Command::new(python());
    command.arg(path("deploy/triton/lay_out.py")).arg(folder);
    let output = command.args(["--instances", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let models = std::fs::read_dir(folder).unwrap();
    models.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn models_that_are_laid_out_give_what_the_shipped_ones_give() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    let mut command = Command::new(python());
    command.arg("-c").arg(BATCHES).arg(folder.path());
    let output = command.current_dir(path("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("{said}");
}

#[test]
fn the_real_triton_takes_the_configuration_of_each_model() {
    let folder = tempfile::Builder::new()
        .prefix("twinsight-triton-")
        .tempdir()
        .unwrap();
    let models = lay_out(&folder.path().join("models"));
    for model in &models {
        let file = model.join("config.pbtxt");
        let text = std::fs::read_to_string(&file).unwrap();
        let ours = text.replace("backend: \"onnxruntime\"", "backend: \"python\"");
        assert_ne!(ours, text);
        std::fs::write(&file, ours).unwrap();
        std::fs::write(model.join("1/model.py"), BACKEND).unwrap();
    }
    let Some(mut triton) = Triton::start(folder) else {
        return;
    };
    triton.until_ready();
    for model in &models {
        let name = model.file_name().unwrap().to_str().unwrap();
        let config = get(triton.http, &format!("/v2/models/{name}/config"));
        let batches = config.contains("\"dynamic_batching\"");
        assert_eq!(batches, name.starts_with("nanodet"), "{config}");
        let warm_up = "\"model_warmup\":[{\"name\":\"one picture\"";
        assert!(config.contains(warm_up), "{config}");
    }
    a_node_fits(&triton, &models);
}

/// `twinsight check` has each model look at a picture, by both protocols.
fn a_node_fits(triton: &Triton, models: &[PathBuf]) {
    let mut config = "[hub]\nmode = \"none\"\n".to_owned();
    for (n, model) in models.iter().enumerate() {
        let name = model.file_name().unwrap().to_str().unwrap();
        let url = match n % 2 {
            0 => format!("grpc://{}", triton.grpc),
            _ => format!("http://{}", triton.http),
        };
        // Nobody answers for the cameras, which is not what is looked at here.
        let camera =
            format!("twin_id = \"{name}\"\nmodel = \"{name}\"\nrtsp = \"rtsp://127.0.0.1:1/\"");
        // The machine may be busy with other tests.
        let section =
            format!("[models.{name}]\nbackend = \"kserve\"\nurl = \"{url}\"\ndeadline_ms = 15000");
        config += &format!("{section}\n[[cameras]]\n{camera}\n");
    }
    let file = triton.folder.path().join("node.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command.env_remove("PHYHUB_DIRECT");
    command.env_remove("PHYSTACK_SIMULATOR_URL");
    command.arg("check").arg("--config").arg(file);
    let output = command.current_dir(path("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    for model in models {
        let name = model.file_name().unwrap().to_str().unwrap();
        let start = format!("ok    model {name}: a server answered for a picture");
        let line = said.lines().find(|line| line.starts_with(&start));
        assert!(line.is_some_and(|line| line.contains("as UINT8")), "{said}");
    }
}

#[test]
fn the_image_is_made_of_what_is_there() {
    let compose = read("deploy/triton/compose.yaml");
    let file = compose.split("dockerfile: ").nth(1).unwrap();
    let image = read(file.lines().next().unwrap());
    // What lays the models out in the image is what the test above tried.
    let pinned = read("tests/interop/requirements.txt");
    let onnx = pinned.lines().find(|line| line.starts_with("onnx=="));
    assert!(image.contains(onnx.unwrap()), "{image}");
    for copied in image.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let from = copied.split(' ').next().unwrap();
        assert!(
            from.starts_with("--from") || path(from).exists(),
            "{copied}"
        );
    }
}

/// Triton with the models of a folder, which it has for itself.
struct Triton {
    http: SocketAddr,
    grpc: SocketAddr,
    folder: TempDir,
    process: Child,
}

impl Triton {
    /// `None` means that it is not installed.
    fn start(folder: TempDir) -> Option<Self> {
        let Ok(mut versions) = std::fs::read_dir(path(".tools/triton/lib")) else {
            println!(
                "not run: there is no .tools/triton: run scripts/setup --test with Python 3.11 or 3.12"
            );
            return None;
        };
        let python = versions.next().unwrap().unwrap();
        let site = python.path().join("site-packages");
        let server = site.join("pytriton/tritonserver");
        let version = python.file_name().into_string().unwrap();
        let stub = version.trim_start_matches("python");
        let backend = folder.path().join("backends/python");
        copy(&server.join("backends/python"), &backend);
        copy(&server.join("python_backend_stubs").join(stub), &backend);
        let output = Command::new(path(".tools/triton/bin/python"))
            .arg("-c")
            .arg("import sysconfig; print(sysconfig.get_config_var('LIBDIR'), end='')")
            .output();
        let libraries = String::from_utf8(output.unwrap().stdout).unwrap();
        let libraries = format!(
            "{}:{libraries}",
            site.join("nvidia_pytriton.libs").display()
        );
        let inside = |name: &str| folder.path().join(name).display().to_string();
        let shared_memory = folder.path().file_name().unwrap().to_str().unwrap();
        let [http, grpc, metrics] = [(); 3].map(|()| unused_address());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        // It ends by itself where a configuration cannot be read or a first run fails.
        let process = Command::new(server.join("bin/tritonserver"))
            .args(["--disable-auto-complete-config", "--exit-on-error=true"])
            .arg("--strict-readiness=true")
            .arg(format!("--model-repository={}", inside("models")))
            .arg(format!("--backend-directory={}", inside("backends")))
            .arg(format!(
                "--backend-config=python,shm-region-prefix-name={shared_memory}-"
            ))
            .args(["--http-address=127.0.0.1", "--grpc-address=127.0.0.1"])
            .arg("--metrics-address=127.0.0.1")
            .arg(format!("--http-port={}", http.port()))
            .arg(format!("--grpc-port={}", grpc.port()))
            .arg(format!("--metrics-port={}", metrics.port()))
            .env("LD_LIBRARY_PATH", libraries)
            .env("SITE", site)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self {
            http,
            grpc,
            folder,
            process,
        })
    }

    fn until_ready(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while !get(self.http, "/v2/health/ready").starts_with("HTTP/1.1 200") {
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                panic!(
                    "Triton does not take the configurations: {}",
                    log.unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Triton {
    /// Ends it, and with it the processes of its backend. Those of a server that was killed leave their shared memory behind.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let name = self.folder.path().file_name().unwrap().to_owned();
        let entries = std::fs::read_dir("/dev/shm").into_iter().flatten();
        for entry in entries.flatten() {
            let entry = entry.path();
            let found = entry.file_name().unwrap().to_string_lossy();
            if found.starts_with(&*name.to_string_lossy()) {
                let _ = std::fs::remove_file(entry);
            }
        }
    }
}

/// The answer to a request, or nothing where nobody listens yet.
fn get(address: SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        let asked = stream.write_all(request.as_bytes());
        if asked.is_ok() && stream.read_to_string(&mut answer).is_err() {
            answer.clear();
        }
    }
    answer
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
