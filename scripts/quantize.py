#!/usr/bin/env python3
"""Makes an 8-bit model of a detector in f32, calibrated on your own pictures.

    quantize.py MODEL.onnx OUT.onnx PICTURES... --manifest MODEL.toml

It needs Python 3.11 and, best in an environment of its own,

    pip install onnx onnxruntime opencv-python-headless numpy sympy

PICTURES are pictures, clips and folders of them: a hundred or so that look like what your cameras see, by day and by night.
Nothing has to be labelled, because they only tell between which values each layer's results lie. Pictures that you will
judge the result by must not be among them.

They are fitted to the model as the node fits them: `--manifest` says how (size, letterbox, colour order, scale, mean, std).
It also makes OUT.toml for the new model. Without a manifest the options say it.

Convolutions alone are quantized. An activation has one scale for a whole tensor, so joining boxes in pixels and scores in 0 to 1
would leave the scores a step or two. Weights have a scale for each output channel, and take 7 of their 8 bits: processors
without VNNI add products in 16 bits, and `--full-range` is only right where no such processor will ever run the model.
"""
import argparse
import hashlib
import logging
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time
import tomllib

try:
    import cv2
    import numpy as np
    import onnx
    import onnx.version_converter
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
except ImportError as missing:
    sys.exit(f"quantize.py: {missing}: pip install onnx onnxruntime opencv-python-headless numpy sympy")

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
# A scale for each channel came with this version of ONNX's operators.
OPSET = 13
CLIPS = {".avi", ".mp4", ".mkv", ".mov", ".h264"}
# A picture that is smaller was hardly taken by a camera.
SMALLEST_SIDE = 200


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL.onnx")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT.onnx")
    parser.add_argument("pictures", type=pathlib.Path, nargs="+", metavar="PICTURES")
    parser.add_argument("--manifest", type=pathlib.Path, metavar="NAME.toml", help="the model's manifest; the options below are for those without")
    parser.add_argument("--size", metavar="WxH", help="of the input, where the model leaves it open")
    parser.add_argument("--scale", type=float, default=1 / 255, help="values of 0 to 255 are multiplied by it; 1/255 unless given")
    parser.add_argument("--mean", type=float, nargs=3, default=[0.0] * 3, help="taken off afterwards")
    parser.add_argument("--std", type=float, nargs=3, default=[1.0] * 3, help="what is left is divided by it")
    parser.add_argument("--bgr", action="store_true", help="blue comes first")
    parser.add_argument("--letterbox", choices=["center", "top_left"], help="keeps the proportions; stretched unless given")
    parser.add_argument("--pad", type=int, default=0, help="the padding's value, 0 to 255")
    parser.add_argument("--every", type=int, default=15, metavar="N", help="takes each N-th frame of a clip; 15 unless given")
    parser.add_argument("--full-range", action="store_true", help="weights take all 8 bits: for processors with VNNI alone")
    return parser.parse_args()


class Input:
    """How a picture becomes the model's input: the keys of the manifest's table `input`, or the options."""

    def __init__(self, args, session):
        given = tomllib.loads(args.manifest.read_text())["input"] if args.manifest else {}
        inputs = session.get_inputs()
        name = given.get("name")
        self.tensor = next((i for i in inputs if i.name == name or (name is None and len(i.shape) >= 3)), None)
        if self.tensor is None:
            sys.exit(f"quantize.py: {args.model} has no input {f'`{name}`' if name else 'for a picture'}; it has "
                     f"{', '.join(i.name for i in inputs)}: correct the manifest's `input.name`")
        if self.tensor.type not in ("tensor(float)", "tensor(uint8)"):
            sys.exit(f"quantize.py: the input `{self.tensor.name}` is {self.tensor.type}: export the model in f32")
        self.others, self.extra = [i for i in inputs if i is not self.tensor], given.get("extra", {})
        # Channels, rows and columns, or rows, columns and channels, whether or not a batch comes before them.
        shape = self.tensor.shape[-3:]
        self.layout = given.get("layout", "nhwc" if shape[2] == 3 and shape[0] != 3 else "nchw")
        height, width = shape[:2] if self.layout == "nhwc" else shape[1:]
        if args.size:
            width, height = map(int, args.size.split("x"))
        self.width, self.height = given.get("width", width), given.get("height", height)
        if not isinstance(self.width, int) or not isinstance(self.height, int):
            sys.exit(f"quantize.py: {args.model} takes pictures of any size: say which with --size, such as --size 640x640")
        self.bgr = given.get("color_order", "bgr" if args.bgr else "rgb") == "bgr"
        self.scale = np.float32(given.get("scale", args.scale))
        self.mean, self.std = (np.float32(given.get(key, getattr(args, key))) for key in ("mean", "std"))
        fit = given.get("resize", "letterbox" if args.letterbox else "stretch")
        self.align = given.get("align", args.letterbox or "center") if fit == "letterbox" else None
        self.pad = given.get("pad", args.pad)

    def feed(self, picture):
        """The inputs of a run for a picture of OpenCV's, whose blue comes first."""
        height, width = picture.shape[:2]
        x, y, w, h = 0, 0, self.width, self.height
        if self.align:
            factor = min(self.width / width, self.height / height)
            w, h = max(1, round(width * factor)), max(1, round(height * factor))
            if self.align == "center":
                x, y = (self.width - w) // 2, (self.height - h) // 2
        canvas = np.full((self.height, self.width, 3), self.pad, np.uint8)
        canvas[y:y + h, x:x + w] = cv2.resize(picture, (w, h), interpolation=cv2.INTER_LINEAR)
        values = canvas if self.bgr else canvas[:, :, ::-1]
        values = (values.astype(np.float32) * self.scale - self.mean) / self.std
        if self.layout == "nchw":
            values = values.transpose(2, 0, 1)
        if len(self.tensor.shape) == 4:
            values = values[None]
        if self.tensor.type == "tensor(uint8)":
            values = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        return {self.tensor.name: np.ascontiguousarray(values), **{i.name: self.further(i) for i in self.others}}

    def further(self, other):
        """What a further input takes, by the manifest's `input.extra`."""
        kind = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}.get(other.type)
        size = [self.width, self.height]
        values = {"width_height": size, "height_width": size[::-1], "ones": [1] * (other.shape[-1] if other.shape else 1)}.get(self.extra.get(other.name))
        if kind is None or values is None:
            sys.exit(f"quantize.py: it is not known what the input `{other.name}` ({other.type}, {other.shape}) takes: say it in the manifest, "
                     'as extra = { ' + other.name + ' = "width_height" }')
        return np.array(values, kind).reshape([d if isinstance(d, int) else 1 for d in other.shape[:-1]] + [len(values)])


def pictures(paths, every):
    """All pictures of files, clips and folders, in the order of their names."""
    for path in paths:
        if not path.exists():
            sys.exit(f"quantize.py: there is no {path}")
        for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
            ending = file.suffix.lower()
            if ending in PICTURES:
                picture = cv2.imread(str(file))
                if picture is not None and min(picture.shape[:2]) >= SMALLEST_SIDE:
                    yield picture
            elif ending in CLIPS:
                clip, number = cv2.VideoCapture(str(file)), 0
                while (read := clip.read())[0]:
                    if number % every == 0:
                        yield read[1]
                    number += 1


class Calibration(CalibrationDataReader):
    """Gives the quantizer one picture after the other, and counts them."""

    def __init__(self, all_pictures, of):
        self.all_pictures, self.of, self.count = all_pictures, of, 0

    def get_next(self):
        picture = next(self.all_pictures, None)
        if picture is None:
            return None
        self.count += 1
        return self.of.feed(picture)


def session(path, optimized=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized:
        # Folds constants, such as weights that are stored as half floats, and leaves the rest as it is.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def quantize(args):
    """Writes the model; returns the inputs of one run, and on how many pictures it was calibrated."""
    with tempfile.TemporaryDirectory(prefix="quantize-") as folder:
        upgraded, folded, prepared = (pathlib.Path(folder) / f"{name}.onnx" for name in ("upgraded", "folded", "prepared"))
        model = onnx.load(args.model)
        if next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx")) < OPSET:
            model = onnx.version_converter.convert_version(model, OPSET)
        onnx.save(model, upgraded)
        of = Input(args, session(upgraded, folded))
        quant_pre_process(str(folded), str(prepared), skip_symbolic_shape=True)
        model = onnx.load(prepared)
        for number, node in enumerate(model.graph.node):
            # The quantizer tells nodes apart by name, and some exporters give none.
            node.name = node.name or f"node_{number}"
        onnx.save(model, prepared)
        first = next(pictures(args.pictures, args.every), None)
        if first is None:
            sys.exit(f"quantize.py: there is no picture of at least {SMALLEST_SIDE} pixels in {', '.join(map(str, args.pictures))}")
        calibration = Calibration(pictures(args.pictures, args.every), of)
        quantize_static(str(prepared), str(args.out), calibration, quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"],
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
                        reduce_range=not args.full_range, calibrate_method=CalibrationMethod.MinMax)
    return of.feed(first), calibration.count


def write_manifest(args):
    """The manifest of the new model: the old one with another file and hash. What its head says was about the old one."""
    path = args.out.with_suffix(".toml")
    text = f"# {args.manifest.stem} with 8-bit convolutions.\n" + re.sub(r"\A(\s*#.*\n)+", "", args.manifest.read_text())
    hashed = hashlib.sha256(args.out.read_bytes()).hexdigest()
    for key, value in (("file", args.out.name), ("sha256", hashed)):
        text = re.sub(rf"(?m)^{key}\s*=.*$", lambda _, key=key, value=value: f'{key} = "{value}"', text, count=1)
    text = re.sub(r'(?m)^source\s*=\s*"(.*)"\s*$', r'source = "\1; quantized with ONNX Runtime"', text, count=1)
    path.write_text(text)
    labels = tomllib.loads(text)["labels"]
    if isinstance(labels, str) and not (path.parent / labels).exists():
        print(f"copy {args.manifest.parent / labels} beside {path}")
    return path


def milliseconds(path, feed):
    """The median of 15 runs with one thread."""
    ran, took = session(path), []
    for _ in range(15):
        started = time.perf_counter()
        ran.run(None, feed)
        took.append(1e3 * (time.perf_counter() - started))
    return statistics.median(took)


def main():
    args = arguments()
    logging.disable(logging.WARNING)
    if args.out.resolve() == args.model.resolve():
        sys.exit("quantize.py: OUT.onnx is MODEL.onnx: give the new model a name of its own")
    feed, count = quantize(args)
    print(f"{args.out}: {os.path.getsize(args.out) / 1e6:.1f} MB, calibrated on {count} pictures")
    if count < 50:
        print("that is few: values that none of them has will be cut off")
    before, after = milliseconds(args.model, feed), milliseconds(args.out, feed)
    print(f"an inference on one thread of this machine takes {after:.1f} ms, and {before:.1f} ms in f32")
    if after > 0.8 * before:
        print("that is little gained, as with many networks of depthwise convolutions: the f32 model is the better one")
    if args.manifest:
        print(f"{write_manifest(args)}: its manifest")


if __name__ == "__main__":
    main()
