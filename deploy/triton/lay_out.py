#!/usr/bin/env python3
"""Lays out a model repository for Triton from the models of this clone: the config.pbtxt of model_repository/ with the model beside it.

    deploy/triton/lay_out.py OUT [--gpu] [--instances N] [MODEL…]

The models are changed in two ways. They take pixels as bytes and scale them themselves, which is a quarter of what goes over the
network otherwise. And where the configuration allows batches, the batch is set free: the shipped files take one picture, and all that
keeps NanoDet to it are seven constants. Needs the package onnx.
"""

import argparse
import pathlib
import re
import sys
import tomllib

import numpy
import onnx

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "models"


def free_batch(model):
    """Lets a graph for one picture take many. Every other size stays as it is."""
    graph = model.graph
    constants = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        constant = constants[node.input[1]]
        shape = onnx.numpy_helper.to_array(constant)
        if shape[0] == 1:
            # 0 means: as many as come in.
            shape = numpy.concatenate([[0], shape[1:]]).astype(numpy.int64)
            constant.CopyFrom(onnx.numpy_helper.from_array(shape, constant.name))
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def take_pixels(model, manifest):
    """Puts before the graph what the manifest says of the picture: (pixel * scale - mean) / std."""
    graph, (picture,) = model.graph, model.graph.input
    name = picture.name
    scaled = f"{name}_scaled"
    for node in graph.node:
        for at, each in enumerate(node.input):
            if each == name:
                node.input[at] = scaled
    steps = [("Cast", None)]
    for operator, key, default in ("Mul", "scale", 1.0), ("Sub", "mean", 0.0), ("Div", "std", 1.0):
        values = numpy.atleast_1d(manifest["input"].get(key, default)).astype(numpy.float32)
        if (values != default).any():
            steps.append((operator, values.reshape(1, -1, 1, 1)))
    nodes, before = [], name
    for number, (operator, values) in enumerate(steps):
        after = scaled if number + 1 == len(steps) else f"{scaled}_{number}"
        if values is None:
            nodes.append(onnx.helper.make_node(operator, [before], [after], to=onnx.TensorProto.FLOAT))
        else:
            constant = f"{name}_{operator.lower()}"
            graph.initializer.append(onnx.numpy_helper.from_array(values, constant))
            nodes.append(onnx.helper.make_node(operator, [before, constant], [after]))
        before = after
    for at, node in enumerate(nodes):
        graph.node.insert(at, node)
    picture.type.tensor_type.elem_type = onnx.TensorProto.UINT8


def configuration(text, gpu, instances):
    if gpu:
        text = re.sub(r"kind: KIND_CPU count: \d+", f"kind: KIND_GPU count: {instances or 1}", text)
        # They say how many threads of a processor a run takes.
        text = re.sub(r"(?m)^parameters .*thread_count.*\n", "", text)
    elif instances:
        text = re.sub(r"kind: KIND_CPU count: \d+", f"kind: KIND_CPU count: {instances}", text)
    return text


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=pathlib.Path, help="the folder of the repository; it is made")
    arguments.add_argument("models", nargs="*", metavar="MODEL", help="some of them; all unless given")
    arguments.add_argument("--gpu", action="store_true", help="run them on the GPUs of the server")
    arguments.add_argument("--instances", type=int, help="how many of each: 2 on processors, 1 on each GPU unless given")
    options = arguments.parse_args()
    known = sorted(path.parent.name for path in HERE.glob("model_repository/*/config.pbtxt"))
    for name in options.models or known:
        if name not in known:
            sys.exit(f"lay_out.py: there is no model {name}: give some of {', '.join(known)}")
        text = (HERE / "model_repository" / name / "config.pbtxt").read_text()
        version = options.out / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        (options.out / name / "config.pbtxt").write_text(configuration(text, options.gpu, options.instances))
        model = onnx.load(MODELS / f"{name}.onnx")
        take_pixels(model, tomllib.loads((MODELS / f"{name}.toml").read_text()))
        if "max_batch_size: 0" not in text:
            free_batch(model)
        # What was noted of the sizes within is for one picture.
        del model.graph.value_info[:]
        onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), version / "model.onnx")
        print(f"{name}: {version / 'model.onnx'}")


main()
