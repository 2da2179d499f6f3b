#!/usr/bin/env python3
"""Lays out models for a real inference server in a folder, and becomes that server.

    .venv/bin/python tests/interop/serving/serve.py triton|mlserver|kserve FOLDER --http PORT --grpc PORT --models NAME...

The server's process is this one, and the leader of a group in which all of its processes are. What a model is to do wrong is written into
FOLDER/faults/MODEL at any time (network.py says which words there are). The environments of the servers are .tools/triton,
.tools/mlserver and .tools/kserve, which scripts/setup --test makes.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE))
from network import DATATYPES, STAND_IN

# The models by the name that the server has for them: the input's element, and more of Triton's configuration. Those that take batches are
# a copy of the network whose batch is free.
MODELS = {
    "nanodet": ("f32", ""),
    "nanodet_f16": ("f16", ""),
    "nanodet_u8": ("u8", ""),
    "nanodet_jpeg": ("jpeg", ""),
    # Its input is of another size than that of the manifest.
    "nanodet_wrong": ("f32", ""),
    # One request a run, and as many as have come together meanwhile.
    "nanodet_single": ("u8", "max_batch_size: 8"),
    "nanodet_dynamic": ("u8", "max_batch_size: 8\ndynamic_batching {}"),
    "stand_in_single": ("u8", "max_batch_size: 8"),
    "stand_in_dynamic": ("u8", "max_batch_size: 8\ndynamic_batching {}"),
}
ELEMENTS = {"f32": "TYPE_FP32", "f16": "TYPE_FP16", "u8": "TYPE_UINT8", "jpeg": "TYPE_STRING"}
BATCHED = "nanodet_g_coco_batched.onnx"


def site(environment):
    """The folder of an environment's packages."""
    return next(environment.glob("lib/python3*/site-packages"))


def free_batch(source, target):
    """Writes a copy of the network that takes any number of pictures at once."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for constant in model.graph.initializer:
        if constant.name in shapes:
            # 0 stands for what is there.
            shape = numpy_helper.to_array(constant).copy()
            shape[0] = 0
            constant.CopyFrom(numpy_helper.from_array(shape, constant.name))
    del model.graph.value_info[:]
    onnx.save(model, target)


def file_of(folder, name):
    """The file of a model's network, by its path or from the folder of the shipped models."""
    if name.startswith("stand_in_"):
        return STAND_IN
    if "max_batch_size" not in MODELS[name][1]:
        return "nanodet_g_coco.onnx"
    path = folder / BATCHED
    if not path.exists():
        free_batch(ROOT / "models/nanodet_g_coco.onnx", path)
    return str(path)


def lay_out_triton(environment, folder, names, instances):
    python = site(environment) / "pytriton/tritonserver"
    backend = folder / "backends/python"
    if not backend.exists():
        shutil.copytree(python / "backends/python", backend)
        # The stubs are named by the version of Python, as the folder of its packages is.
        version = site(environment).parent.name.removeprefix("python")
        shutil.copytree(python / "python_backend_stubs" / version, backend, dirs_exist_ok=True)
    for name in names:
        element, more = MODELS[name]
        side = 320 if name == "nanodet_wrong" else 416
        shape = "1" if element == "jpeg" else f"3, {side}, {side}"
        batch, output = ("", "84, 3549") if more else ("1, ", "1, 84, 3549")
        if element == "jpeg":
            batch = ""
        target = folder / "repository" / name
        (target / "1").mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "triton_model.py", target / "1/model.py")
        (target / "config.pbtxt").write_text(
            f'name: "{name}"\nbackend: "python"\n{more or "max_batch_size: 0"}\n'
            f'input [{{name: "images", data_type: {ELEMENTS[element]}, dims: [{batch}{shape}]}}]\n'
            f'output [{{name: "output0", data_type: TYPE_FP32, dims: [{output}]}}]\n'
            f"instance_group [{{kind: KIND_CPU, count: {instances}}}]\n"
            f'parameters [{{key: "element", value: {{string_value: "{element}"}}}}, '
            f'{{key: "file", value: {{string_value: "{file_of(folder, name)}"}}}}]\n'
        )


def lay_out_mlserver(folder, names):
    for name in names:
        element, _ = MODELS[name]
        side = 320 if name == "nanodet_wrong" else 416
        target = folder / "repository" / name
        target.mkdir(parents=True, exist_ok=True)
        settings = {
            "name": name,
            "implementation": "mlserver_model.NanoDet",
            "inputs": [{"name": "images", "datatype": DATATYPES[element], "shape": [1, 3, side, side]}],
            "outputs": [{"name": "output0", "datatype": "FP32", "shape": [1, 84, 3549]}],
            "parameters": {"version": "1", "extra": {"element": element, "file": "nanodet_g_coco.onnx"}},
        }
        (target / "model-settings.json").write_text(json.dumps(settings))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", choices=["triton", "mlserver", "kserve"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--http", required=True)
    parser.add_argument("--grpc", required=True)
    parser.add_argument("--models", nargs="+", default=["nanodet"], choices=MODELS)
    parser.add_argument("--environment", type=Path, help="where the server is installed; its folder of .tools unless given")
    parser.add_argument("--instances", type=int, default=1, help="of each model of Triton")
    args = parser.parse_args()
    path = args.environment or ROOT / ".tools" / args.server
    if not (path / "bin/python").exists():
        sys.exit(f"there is no {path}: run scripts/setup --test, which installs the server")
    folder = args.folder.resolve()
    (folder / "faults").mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "MODELS": str(ROOT / "models"), "FAULTS": str(folder / "faults")}
    env["ORT_DISABLE_TELEMETRY"] = "1"
    if args.server == "triton":
        lay_out_triton(path, folder, args.models, args.instances)
        env["SITE"] = f"{HERE}{os.pathsep}{site(path)}"
        # The stubs link the library of that Python, which need not be where the system looks.
        ask = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
        python_library = subprocess.check_output([path / "bin/python", "-c", ask], text=True).strip()
        env["LD_LIBRARY_PATH"] = f"{site(path)}/nvidia_pytriton.libs:{python_library}"
        # Its stubs are not to write into the clone.
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        command = [
            str(site(path) / "pytriton/tritonserver/bin/tritonserver"),
            f"--model-repository={folder}/repository",
            f"--backend-directory={folder}/backends",
            # What it leaves in shared memory when it is killed is found by this name.
            f"--backend-config=python,shm-region-prefix-name={folder.name}-",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in args.models),
            "--http-address=127.0.0.1",
            f"--http-port={args.http}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={args.grpc}",
            "--allow-metrics=false",
            "--exit-timeout-secs=3",
        ]
    elif args.server == "kserve":
        # Compiling its modules takes seconds, so it is done once and for all.
        env["PYTHONPYCACHEPREFIX"] = str(path / "pycache")
        env["PYTHONPATH"] = str(HERE)
        side = lambda name: 320 if name == "nanodet_wrong" else 416
        models = [f"{name}:{MODELS[name][0]}:{side(name)}:{file_of(folder, name)}" for name in args.models]
        command = [str(path / "bin/python"), str(HERE / "kserve_model.py")]
        command += [f"--http_port={args.http}", f"--grpc_port={args.grpc}", *models]
    else:
        lay_out_mlserver(folder, args.models)
        env["PYTHONPATH"] = str(HERE)
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        # Its own processes for inference are as many as this; none means that its one process does all.
        env |= {"MLSERVER_PARALLEL_WORKERS": "0", "MLSERVER_HOST": "127.0.0.1", "MLSERVER_METRICS_ENDPOINT": ""}
        env |= {"MLSERVER_HTTP_PORT": args.http, "MLSERVER_GRPC_PORT": args.grpc}
        command = [str(path / "bin/mlserver"), "start", str(folder / "repository")]
    if os.getpid() != os.getpgrp():
        os.setpgid(0, 0)
    os.execve(command[0], command, env)


if __name__ == "__main__":
    main()
