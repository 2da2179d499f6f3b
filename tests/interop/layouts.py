#!/usr/bin/env python3
"""Small ONNX graphs, one for each layout that exporters of detectors write, with known objects in their outputs.

  layouts.py OUT    writes OUT/NAME.onnx for each graph, files of labels and anchors, and OUT/expected.json

Written from what is known of the exporters, without the project's code. Names, shapes, types and metadata are those of the real
exports; the numbers of the candidates are constants. They depend on the picture in one way: the known objects are where they are
said to be in a picture that is brighter on its left, and at the mirrored places in one that is brighter on its right. So a mirrored
picture has mirrored objects, as it has for a real detector.

Each layout comes twice, as NAME-1 and NAME-2, with other objects at other places. For each graph expected.json says the kind of
output that should be recognised, the keys of the manifest, and the objects: boxes are left, top, right and bottom in pixels of an
input of WIDTH x HEIGHT; where `scales` is true they are shares of it, so that they scale with an input of another size.
"""
import dataclasses
import json
import math
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEIGHT = 320, 256
COCO_90 = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,-,stop sign,parking meter,bench,bird,"
    "cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,-,backpack,umbrella,-,-,handbag,tie,suitcase,frisbee,skis,snowboard,"
    "sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,-,wine glass,cup,fork,knife,spoon,bowl,"
    "banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,-,dining table,-,-,toilet,-,"
    "tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,-,book,clock,vase,scissors,teddy bear,"
    "hair drier,toothbrush"
).split(",")
COCO_80 = [label for label in COCO_90 if label != "-"]
# The numbers of COCO's categories go from 1 to 90, so a list by these numbers begins with one that is never used.
COCO_91 = ["-", *COCO_90]
OWN = ["bolt", "nut", "screw", "washer", "gear", "spring", "pin", "clip"]
FLOAT, HALF, BYTE, INT32, INT64 = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
)


@dataclasses.dataclass
class Thing:
    """A known object. Its class is a place in the list of labels."""

    label: int
    score: float
    box: tuple

    def mirrored(self):
        x1, y1, x2, y2 = self.box
        return Thing(self.label, self.score, (WIDTH - x2, y1, WIDTH - x1, y2))

    def form(self, box_format, shares=False):
        x1, y1, x2, y2 = self.box
        if shares:
            x1, y1, x2, y2 = x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT
        if box_format == "xyxy":
            return [x1, y1, x2, y2]
        if box_format == "yxyx":
            return [y1, x1, y2, x2]
        return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]

    def keypoints(self, count):
        """Points within the box, each with a score; no two are alike."""
        x1, y1, x2, y2 = self.box
        for k in range(count):
            yield x1 + (x2 - x1) * (k + 1) / (count + 1), y1 + (y2 - y1) * ((k * 5) % count + 1) / (count + 1), 0.5 + k / (3 * count)


# A tall one at the left edge, a wide one in the middle, and a small one; then wide at the right edge, tall, and small. They lie where
# a picture of any usual proportions lies in a letterbox. No two of them overlap, and their mirror images are elsewhere.
VARIANTS = {
    1: [Thing(2, 0.91, (2, 70, 60, 190)), Thing(0, 0.82, (96, 100, 248, 144)), Thing(5, 0.73, (264, 128, 304, 188))],
    2: [Thing(1, 0.88, (200, 68, 318, 108)), Thing(0, 0.79, (24, 88, 64, 192)), Thing(6, 0.67, (104, 124, 176, 180))],
}
FACES = {
    1: [Thing(0, 0.91, (4, 72, 52, 172)), Thing(0, 0.82, (100, 100, 196, 148)), Thing(0, 0.73, (264, 128, 304, 188))],
    2: [Thing(0, 0.88, (216, 68, 316, 108)), Thing(0, 0.79, (24, 88, 64, 192)), Thing(0, 0.67, (104, 124, 176, 180))],
}


def clutter(count, seed=7):
    """Boxes all over the place, and scores that are next to nothing."""
    random = np.random.default_rng(seed)
    size = random.uniform(8, 60, (count, 2))
    middle = random.uniform((32, 80), (WIDTH - 32, 180), (count, 2))
    boxes = np.concatenate([middle - size / 2, middle + size / 2], axis=1)
    return boxes, random.uniform(0.002, 0.03, count)


def rows_of(things, count, box_format="xyxy", shares=False, spread=True):
    """Boxes of `count` candidates, and which of them are the things."""
    boxes, low = clutter(count)
    boxes = np.array([Thing(0, 0, tuple(box)).form(box_format, shares) for box in boxes])
    # Good candidates are anywhere among the others, unless the graph sorts them.
    places = [(137 * (n + 1)) % count for n in range(len(things))] if spread else list(range(len(things)))
    for place, thing in zip(places, things):
        boxes[place] = thing.form(box_format, shares)
    return boxes, low, places


def table(things, count, classes, box_format="cxcywh", shares=False, objectness=None, background=None, spread=True):
    """[count, 4 (+ 1) + classes], scores as they are. `objectness` is that of the things, if there is one."""
    boxes, low, places = rows_of(things, count, box_format, shares, spread)
    first = 1 if background == "first" else 0
    random = np.random.default_rng(11)
    scores = random.uniform(0.3, 1, (count, classes)) * low[:, None]
    # YOLOv6 has an objectness of 1 for all.
    sure = np.ones((count, 1)) if objectness == 1 else random.uniform(0.01, 0.05, (count, 1))
    for place, thing in zip(places, things):
        # One that is ignored is seen in the score.
        sure[place] = objectness or 1
        scores[place, first + thing.label] = thing.score / (objectness or 1)
    return np.concatenate([boxes, sure, scores] if objectness else [boxes, scores], axis=1)


def cells():
    return [(x, y, s) for s in (8, 16, 32) for y in range(HEIGHT // s) for x in range(WIDTH // s)]


def logit(score):
    return math.log(score / (1 - score))


class Graph:
    """A graph whose outputs are constants, chosen by which side of the picture is brighter."""

    def __init__(self, name, image, dtype=FLOAT, shape=None, width_axis=3, metadata=None, producer="pytorch"):
        self.name, self.dtype, self.image, self.producer = name, dtype, image, producer
        self.shape = [1, 3, HEIGHT, WIDTH] if shape is None else shape
        self.inputs = [helper.make_tensor_value_info(image, dtype, self.shape)]
        self.outputs, self.nodes, self.constants = [], [], []
        self.metadata = metadata or {}
        self._side(width_axis)

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _side(self, axis):
        any_order = self.node("Cast", [self.image], "any_order", to=FLOAT)
        # As any network does, the graph fails on a picture with another number of channels.
        channels = [3, 1, 1] if axis == len(self.shape) - 1 else [1, 1, 3]
        numbers = self.node("Mul", [any_order, self.constant("channels", np.ones(channels, np.float32))], "numbers")
        axis_of = self.constant("width_axis", np.array([axis], np.int64))
        shape = self.node("Shape", [self.image], "shape")
        width = self.node("Gather", [shape, axis_of], "width")
        half = self.node("Div", [width, self.constant("two", np.array([2], np.int64))], "half")
        rest = self.node("Sub", [width, half], "rest")
        zero = self.constant("zero", np.array([0], np.int64))
        left = self.node("Slice", [numbers, zero, half, axis_of], "left")
        right = self.node("Slice", [numbers, rest, width, axis_of], "right")
        for side in (left, right):
            self.node("ReduceMean", [side], f"{side}_mean", keepdims=0)
        self.is_left = self.node("Greater", ["left_mean", "right_mean"], "is_left")

    def choose(self, name, first, mirrored):
        return self.node("Where", [self.is_left, self.constant(f"{name}_first", first), self.constant(f"{name}_mirrored", mirrored)], name)

    def output(self, name, make, things, dtype=FLOAT, shape=None, change=None):
        """An output with what `make` makes of the things; `change` may add nodes. `shape` is what is declared."""
        wide = np.int64 if dtype in (INT32, INT64) else np.float32
        first, mirrored = (np.asarray(make(these), wide) for these in (things, [thing.mirrored() for thing in things]))
        chosen = self.choose(f"{name}_chosen", first, mirrored)
        if change:
            chosen = change(self, chosen)
        open_axes = [axis for axis, length in enumerate(shape or []) if isinstance(length, str)]
        if open_axes:
            chosen = self.leave_open(chosen, open_axes)
        self.node("Cast", [chosen], name, to=dtype)
        self.outputs.append(helper.make_tensor_value_info(name, dtype, list(first.shape) if shape is None else shape))

    def leave_open(self, name, axes):
        """Hides lengths from whoever looks at the graph before it runs, as NMS does: they depend on the picture's brightness."""
        if "many" not in self.__dict__:
            nothing = self.node("Mul", ["left_mean", self.constant("nought", np.float32(0))], "nothing")
            large = self.node("Add", [nothing, self.constant("large", np.array([1e6], np.float32))], "large_number")
            self.many = self.node("Cast", [large], "many", to=INT64)
        for axis in axes:
            axis_of = self.constant(f"{name}_open_{axis}", np.array([axis], np.int64))
            name = self.node("Slice", [name, "zero", self.many, axis_of], f"{name}_{axis}")
        return name

    def input(self, name, dtype, shape):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def save(self, folder):
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=self.producer)
        for key, value in self.metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, str(value)
        onnx.checker.check_model(model)
        onnx.save(model, os.path.join(folder, f"{self.name}.onnx"))


def ultralytics(labels=OWN, task="detect", size=(HEIGHT, WIDTH), **more):
    """The metadata of an Ultralytics export."""
    return {
        "description": "Ultralytics model trained on parts.yaml",
        "author": "Ultralytics",
        "date": "2026-01-01T00:00:00",
        "version": "8.3.0",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
        "stride": "32",
        "task": task,
        "batch": "1",
        "imgsz": str(list(size)),
        "names": str(dict(enumerate(labels))),
    } | more


LAYOUTS = {}
# What `[output]` holds where a key is not given.
DEFAULTS = {
    kind: {"output.box_format": "cxcywh", "output.box_units": "pixels", "output.activation": "none", "output.background": "none"}
    for kind in ("yolo", "yolo_objectness", "yolox", "centerface", "yolo_pose", "yolo_seg")
}
for kind in ("rows", "boxes_labels_scores"):
    DEFAULTS[kind] = DEFAULTS["yolo"] | {"output.box_format": "xyxy"}
DEFAULTS["rows"] |= {"output.columns": ["box", "score", "class"]}
DEFAULTS["ssd"] = DEFAULTS["yolo"] | {"output.box_format": "yxyx", "output.box_units": "shares"}
DEFAULTS["detr"] = DEFAULTS["yolo"] | {"output.box_units": "shares", "output.activation": "sigmoid"}
DEFAULTS["yolo_objectness"] |= {"output.columns": ["box", "objectness", "scores"]}
DEFAULTS["yolox"] |= {"output.columns": ["box", "objectness", "scores"], "output.strides": [8, 16, 32]}
DEFAULTS["yolo_pose"] |= {"output.columns": ["box", "scores", "keypoints"], "output.keypoint_numbers": 3}
for kind in DEFAULTS:
    DEFAULTS[kind] |= {"input.align": "center", "input.mean": [0, 0, 0], "input.std": [1, 1, 1], "input.layout": "nchw", "input.color_order": "rgb"}
    if kind != "rows":
        DEFAULTS[kind] |= {"output.count": None}

LETTERBOX = {"input.resize": "letterbox", "input.align": "center", "input.pad": 114, "input.scale": 1 / 255}
STRETCH = {"input.resize": "stretch"}
SIZE = {"input.width": WIDTH, "input.height": HEIGHT}
# How the pixels should be normalised cannot be told from outputs; it is known of the families.
IMAGENET = {"input.scale": 1 / 255, "input.mean": [0.485, 0.456, 0.406], "input.std": [0.229, 0.224, 0.225]}
SHARES_OF_ONE = {"input.scale": 1 / 255}


def layout(kind, labels=COCO_80, things=VARIANTS, **more):
    """Registers a layout; its function makes a graph of things, and gives what of the keys its name does not say."""

    def register(make):
        LAYOUTS[make.__name__] = (kind, labels, things, more, make)
        return make

    return register


def predictions(name, **more):
    return {"output.predictions": name, **more}


# ---- yolo ----------------------------------------------------------------------------------------------------------------------


def yolo(name, things, classes, image="images", output="output0", count=1680, **graph):
    made = Graph(name, image, **graph)
    made.output(output, lambda t: table(t, count, classes).T[None], things)
    return made, {"input.name": image, **SIZE, **LETTERBOX, **predictions(output)}


@layout("yolo", labels=OWN)
def yolo_metadata(name, things):
    return yolo(name, things, len(OWN), metadata=ultralytics())


@layout("yolo")
def yolo_plain(name, things):
    return yolo(name, things, 80)


@layout("yolo", labels=OWN)
def yolo_row_major(name, things):
    made = Graph(name, "images", metadata=ultralytics())
    made.output("output0", lambda t: table(t, 1680, len(OWN))[None], things)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output0")}


@layout("yolo", labels=OWN)
def yolo_dynamic(name, things):
    made = Graph(name, "images", shape=["batch", 3, "height", "width"], metadata=ultralytics(args="{'dynamic': True}"))
    made.output("output0", lambda t: table(t, 1680, len(OWN)).T[None], things, shape=["batch", 4 + len(OWN), "anchors"])
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output0")}


@layout("yolo", labels=OWN)
def yolo_f16(name, things):
    made = Graph(name, "images", dtype=HALF, metadata=ultralytics(args="{'half': True}"))
    made.output("output0", lambda t: table(t, 1680, len(OWN)).T[None], things, dtype=HALF)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output0")}


@layout("yolo")
def yolo_u8(name, things):
    made, keys = yolo(name, things, 80, dtype=BYTE)
    return made, keys | {"input.scale": 1}


@layout("yolo")
def yolo_nhwc(name, things):
    made, keys = yolo(name, things, 80, shape=[1, HEIGHT, WIDTH, 3], width_axis=2, producer="tf2onnx")
    return made, keys | {"input.layout": "nhwc"}


@layout("yolo", labels=OWN, scales=True)
def rtdetr_ultralytics(name, things):
    made = Graph(name, "images", metadata=ultralytics(description="Ultralytics RT-DETR-l model"))
    made.output("output0", lambda t: table(t, 300, len(OWN), shares=True)[None], things)
    return made, {"input.name": "images", **SIZE, **predictions("output0"), "output.box_units": "shares", "input.scale": 1 / 255}


# ---- yolo_objectness and yolox -------------------------------------------------------------------------------------------------


def objectness(name, things, count, classes=80, output="output0", sure=0.95, **graph):
    made = Graph(name, "images", **graph)
    made.output(output, lambda t: table(t, count, classes, objectness=sure)[None], things)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions(output)}


@layout("yolo_objectness", labels=OWN)
def yolov5(name, things):
    # Three anchors for each cell.
    return objectness(name, things, 3 * 1680, len(OWN), metadata={"stride": "32", "names": str(dict(enumerate(OWN)))})


@layout("yolo_objectness")
def yolov7(name, things):
    return objectness(name, things, 3 * 1680, output="output")


@layout("yolo_objectness")
def yolov5_p6(name, things):
    # A fourth grid, of cells of 64 pixels.
    return objectness(name, things, 3 * (1680 + 20), output="output")


@layout("yolo_objectness")
def yolov6(name, things):
    # One candidate for each cell, as YOLOX has, but its boxes are decoded.
    return objectness(name, things, 1680, output="outputs", sure=1)


@layout("yolo_objectness")
def yolox_decoded(name, things):
    """YOLOX's export with `--decode_in_inference`."""
    made, keys = objectness(name, things, 1680, output="output")
    return made, keys | YOLOX_INPUT


YOLOX_INPUT = {"input.color_order": "bgr", "input.resize": "letterbox", "input.align": "top_left", "input.pad": 114, "input.scale": 1}


@layout("yolox")
def yolox(name, things):
    made = Graph(name, "images")

    def encode(these):
        grid = cells()
        random = np.random.default_rng(3)
        rows = random.uniform(-0.5, 1.5, (len(grid), 85))
        rows[:, 4] = random.uniform(0, 0.05, len(grid))
        rows[:, 5:] = random.uniform(0, 0.3, (len(grid), 80))
        for thing in these:
            cx, cy, w, h = thing.form("cxcywh")
            stride = 8 if w * h < 2500 else 16 if w * h < 6000 else 32
            place = grid.index((int(cx // stride), int(cy // stride), stride))
            x, y, s = grid[place]
            rows[place, :4] = [cx / s - x, cy / s - y, math.log(w / s), math.log(h / s)]
            rows[place, 4] = 0.95
            rows[place, 5 + thing.label] = thing.score / 0.95
        return rows[None]

    made.output("output", encode, things)
    return made, {"input.name": "images", **SIZE, **predictions("output"), **YOLOX_INPUT}


# ---- rows ----------------------------------------------------------------------------------------------------------------------


def nms_rows(things, count, columns):
    boxes, low, places = rows_of(things, count, spread=False)
    scores, classes = np.sort(low)[::-1].copy(), np.arange(count) % 7
    for place, thing in zip(places, things):
        scores[place], classes[place] = thing.score, thing.label
    of = {"box": boxes, "score": scores[:, None], "class": classes[:, None], "ignore": np.zeros((count, 1))}
    return np.concatenate([of[column] for column in columns], axis=1)


@layout("rows", labels=OWN)
def yolov10(name, things):
    made = Graph(name, "images", metadata=ultralytics())
    made.output("output0", lambda t: nms_rows(t, 300, ["box", "score", "class"])[None], things)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output0")}


@layout("rows", labels=OWN)
def yolo26(name, things):
    made = Graph(name, "images", metadata=ultralytics(end2end="True", version="8.4.0"))
    made.output("output0", lambda t: nms_rows(t, 300, ["box", "score", "class"])[None], things)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output0")}


@layout("rows", normalisation=IMAGENET)
def ppyoloe(name, things):
    made = Graph(name, "image", producer="PaddlePaddle")
    made.input("scale_factor", FLOAT, [1, 2])

    def unscale(graph, chosen):
        # Boxes are divided by the factors for y and x, as the graph of PP-YOLOE does.
        factor = graph.node("Gather", ["scale_factor", graph.constant("xyxy", np.array([1, 0, 1, 0], np.int64))], "factor", axis=1)
        parts = [graph.constant("two_columns", np.array([2, 4], np.int64))]
        graph.nodes.append(helper.make_node("Split", [chosen, *parts], ["head", "boxes_"], axis=1))
        graph.node("Div", ["boxes_", factor], "boxes_scaled")
        return graph.node("Concat", ["head", "boxes_scaled"], "joined", axis=1)

    made.output("multiclass_nms3_0.tmp_0", lambda t: nms_rows(t, 8, ["class", "score", "box"]), things, shape=["N", 6], change=unscale)
    made.output("multiclass_nms3_0.tmp_2", lambda t: [8], things, dtype=INT32)
    return made, {"input.name": "image", **SIZE, **STRETCH, **predictions("multiclass_nms3_0.tmp_0"),
                  "output.columns": ["class", "score", "box"], "input.extra": {"scale_factor": "ones"}}


@layout("rows")
def picodet(name, things):
    """As PP-YOLOE, with the size of the picture as a third input."""
    made, keys = ppyoloe(name, things)
    made.input("im_shape", FLOAT, [1, 2])
    # ONNX Runtime takes an input that nothing uses, too.
    return made, keys | {"input.extra": {"scale_factor": "ones", "im_shape": "height_width"}}


@layout("rows")
def yolov7_end2end(name, things):
    made = Graph(name, "images")
    made.output("output", lambda t: nms_rows(t, 8, ["ignore", "box", "class", "score"]), things, shape=["num_dets", 7])
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output"), "output.columns": ["ignore", "box", "class", "score"]}


# ---- ssd -----------------------------------------------------------------------------------------------------------------------


@layout("ssd", labels=COCO_90, scales=True)
def ssd_tensorflow(name, things):
    made = Graph(name, "images")
    both = lambda t: table(t, 900, 90, "yxyx", shares=True)
    made.output("scores", lambda t: both(t)[None, :, 4:], things)
    made.output("boxes", lambda t: both(t)[None, :, None, :4], things)
    return made, {"input.name": "images", **SIZE, "output.scores": "scores", "output.boxes": "boxes", "output.box_format": "yxyx"}


@layout("ssd", scales=True)
def ssd_pytorch(name, things):
    made = Graph(name, "input")
    both = lambda t: table(t, 900, 80, "xyxy", shares=True)
    made.output("scores", lambda t: both(t)[None, :, 4:], things)
    made.output("boxes", lambda t: both(t)[None, :, :4], things)
    return made, {"input.name": "input", **SIZE, "output.scores": "scores", "output.boxes": "boxes", "output.box_format": "xyxy"}


def with_background(numbers):
    """Scores of which the first is that of the background, so that their sum is 1."""
    numbers = numbers.copy()
    numbers[:, 0] = 1 - numbers[:, 1:].sum(axis=1)
    return numbers


def background_first(things, count, labels):
    numbers = table(things, count, labels + 1, "xyxy", shares=True, background="first")
    scores = numbers[:, 4:]
    scores[:, 1:] = np.where(scores[:, 1:] > 0.5, scores[:, 1:], scores[:, 1:] / (labels + 1))
    return numbers[:, :4], with_background(scores)


FACE = {"input.scale": 1, "input.mean": [127, 127, 127], "input.std": [128, 128, 128]}


@layout("ssd", labels=["face"], things=FACES, scales=True, labels_file=True, normalisation=FACE)
def ultra_light(name, things):
    made = Graph(name, "input")
    made.output("scores", lambda t: background_first(t, 900, 1)[1][None], things)
    made.output("boxes", lambda t: background_first(t, 900, 1)[0][None], things)
    return made, {"input.name": "input", **SIZE, "output.scores": "scores", "output.boxes": "boxes", "output.box_format": "xyxy",
                  "output.background": "first"}


@layout("ssd", labels=OWN, scales=True, labels_file=True, normalisation=FACE)
def ssd_softmax(name, things):
    made = Graph(name, "input")
    made.output("scores", lambda t: background_first(t, 900, len(OWN))[1][None], things)
    made.output("boxes", lambda t: background_first(t, 900, len(OWN))[0][None], things)
    return made, {"input.name": "input", **SIZE, "output.scores": "scores", "output.boxes": "boxes", "output.box_format": "xyxy",
                  "output.background": "first"}


def anchors():
    return [
        ((x + 0.5) * s / WIDTH, (y + 0.5) * s / HEIGHT, w / WIDTH, h / HEIGHT)
        for s in (32, 64)
        for y in range(HEIGHT // s)
        for x in range(WIDTH // s)
        for w, h in ((1.5 * s, 1.5 * s), (3 * s, s), (s, 3 * s))
    ]


@layout("ssd", scales=True, asks="anchors")
def ssd_anchors(name, things):
    """Offsets from anchors, and numbers before the softmax. Nobody can see the anchors in the file."""
    made = Graph(name, "input")
    all_anchors = anchors()

    def near(things):
        """For each thing, the anchor that is next to it."""
        distance = lambda thing: lambda n: sum((a - b) ** 2 for a, b in zip(all_anchors[n], thing.form("cxcywh", shares=True)))
        return [min(range(len(all_anchors)), key=distance(thing)) for thing in things]

    def offsets(these):
        rows = np.random.default_rng(5).uniform(-0.3, 0.3, (len(all_anchors), 4))
        for place, thing in zip(near(these), these):
            (cx, cy, w, h), (ax, ay, aw, ah) = thing.form("cxcywh", shares=True), all_anchors[place]
            rows[place] = [(cx - ax) / aw / 0.1, (cy - ay) / ah / 0.1, math.log(w / aw) / 0.2, math.log(h / ah) / 0.2]
        return rows[None]

    def numbers(these):
        rows = np.random.default_rng(6).uniform(-0.5, 0.5, (len(all_anchors), 81))
        rows[:, 0] = 8
        for place, thing in zip(near(these), these):
            rows[place] = 0
            rows[place, 1 + thing.label] = math.log(thing.score * 80 / (1 - thing.score))
        return rows[None]

    made.output("scores", numbers, things)
    made.output("boxes", offsets, things)
    return made, {"input.name": "input", **SIZE, "output.scores": "scores", "output.boxes": "boxes", "output.box_format": "cxcywh",
                  "output.background": "first", "output.activation": "softmax", "output.anchors": "anchors.txt", **STRETCH}


# ---- detr ----------------------------------------------------------------------------------------------------------------------


def sigmoid_logits(things, count, classes, places):
    rows = np.random.default_rng(13).uniform(-7, -4, (count, classes))
    for place, thing in zip(places, things):
        rows[place, thing.label] = logit(thing.score)
    return rows[None]


def softmax_logits(things, count, columns, places):
    rows = np.random.default_rng(13).uniform(-1, 1, (count, columns))
    rows[:, -1] = 9
    for place, thing in zip(places, things):
        rows[place] = 0
        rows[place, thing.label] = math.log(thing.score * (columns - 1) / (1 - thing.score))
    return rows[None]


def detr(name, things, logits, count=300, image="pixel_values", names=("logits", "pred_boxes"), **graph):
    made = Graph(name, image, **graph)
    boxes = lambda t: rows_of(t, count, "cxcywh", shares=True)
    makers = {names[0]: lambda t: logits(t, boxes(t)[2]), names[1]: lambda t: boxes(t)[0][None]}
    # RF-DETR has the boxes first.
    for output in names if names[0] == "logits" else reversed(names):
        made.output(output, makers[output], things)
    return made, {"input.name": image, "output.logits": names[0], "output.boxes": names[1], **STRETCH}


@layout("detr", labels=COCO_91, coco=1, scales=True, normalisation=IMAGENET)
def detr_hf(name, things):
    made, keys = detr(name, things, lambda t, places: softmax_logits(t, 100, 92, places), count=100)
    return made, keys | SIZE | {"output.activation": "softmax", "output.background": "last"}


@layout("detr", labels=COCO_91, coco=1, scales=True, normalisation=IMAGENET)
def detr_hf_dynamic(name, things):
    shape = ["batch_size", "num_channels", "height", "width"]
    made, keys = detr(name, things, lambda t, places: softmax_logits(t, 100, 92, places), count=100, shape=shape)
    return made, keys | {"output.activation": "softmax", "output.background": "last"}


@layout("detr", scales=True, normalisation=SHARES_OF_ONE)
def rtdetr_hf(name, things):
    made, keys = detr(name, things, lambda t, places: sigmoid_logits(t, 300, 80, places))
    return made, keys | SIZE


@layout("detr", labels=COCO_91, coco=1, scales=True, normalisation=IMAGENET)
def rfdetr(name, things):
    made, keys = detr(name, things, lambda t, places: sigmoid_logits(t, 300, 91, places), image="input", names=("labels", "dets"))
    return made, keys | SIZE


@layout("detr", labels=OWN, scales=True, labels_file=True, normalisation=IMAGENET)
def rfdetr_own(name, things):
    """Trained on other classes than COCO's: behind them is a place for "nothing", and the sigmoid is taken all the same."""

    def logits(these, places):
        numbers = sigmoid_logits(these, 300, len(OWN) + 1, places)
        numbers[..., -1] = -9
        return numbers

    made, keys = detr(name, things, logits, image="input", names=("labels", "dets"))
    return made, keys | SIZE | {"output.background": "last"}


# ---- boxes_labels_scores -------------------------------------------------------------------------------------------------------


def lists(things, count, box_format="xyxy", shares=False):
    boxes, low, places = rows_of(things, count, box_format, shares, spread=False)
    scores, classes = np.sort(low)[::-1].copy(), np.arange(count) % 7
    for place, thing in zip(places, things):
        scores[place], classes[place] = thing.score, thing.label
    return boxes, classes, scores


@layout("boxes_labels_scores", scales=True, normalisation=SHARES_OF_ONE)
def dfine(name, things):
    """The deployed form of RT-DETR and D-FINE: shares of the boxes are multiplied by the width and height that come in."""
    made = Graph(name, "images", shape=["N", 3, HEIGHT, WIDTH])
    made.input("orig_target_sizes", INT64, ["N", 2])

    def scale(graph, chosen):
        sizes = graph.node("Cast", ["orig_target_sizes"], "sizes", to=FLOAT)
        twice = graph.node("Concat", [sizes, sizes], "twice", axis=1)
        wide = graph.node("Unsqueeze", [twice, graph.constant("one", np.array([1], np.int64))], "wide")
        return graph.node("Mul", [chosen, wide], "scaled")

    made.output("labels", lambda t: lists(t, 300)[1][None], things, dtype=INT64, shape=["N", 300])
    made.output("boxes", lambda t: lists(t, 300, shares=True)[0][None], things, shape=["N", 300, 4], change=scale)
    made.output("scores", lambda t: lists(t, 300)[2][None], things, shape=["N", 300])
    return made, {"input.name": "images", **SIZE, **STRETCH, "output.boxes": "boxes", "output.labels": "labels", "output.scores": "scores",
                  "input.extra": {"orig_target_sizes": "width_height"}, "output.box_units": "pixels"}


@layout("boxes_labels_scores", labels=COCO_90, normalisation=SHARES_OF_ONE)
def torchvision(name, things):
    made = Graph(name, "images", shape=[3, HEIGHT, WIDTH], width_axis=2)
    made.output("boxes", lambda t: lists(t, 8)[0], things, shape=["N", 4])
    made.output("labels", lambda t: lists(t, 8)[1] + 1, things, dtype=INT64, shape=["N"])
    made.output("scores", lambda t: lists(t, 8)[2], things, shape=["N"])
    return made, {"input.name": "images", **SIZE, "output.boxes": "boxes", "output.labels": "labels", "output.scores": "scores",
                  "output.background": "first"}


@layout("boxes_labels_scores", labels=COCO_90, normalisation=SHARES_OF_ONE)
def torchvision_batch(name, things):
    made = Graph(name, "input")
    made.output("boxes", lambda t: lists(t, 8)[0], things, shape=["N", 4])
    made.output("labels", lambda t: lists(t, 8)[1] + 1, things, dtype=INT64, shape=["N"])
    made.output("scores", lambda t: lists(t, 8)[2], things, shape=["N"])
    return made, {"input.name": "input", **SIZE, "output.boxes": "boxes", "output.labels": "labels", "output.scores": "scores",
                  "output.background": "first"}


def tensorflow(name, things, suffix="", image="input_tensor", more=False):
    made = Graph(name, image + suffix, dtype=BYTE, shape=[1, "height", "width", 3], width_axis=2, producer="tf2onnx")
    of = lambda t: lists(t, 100, "yxyx", shares=True)
    if more:
        made.output("detection_anchor_indices", lambda t: np.arange(100)[None], things)
    made.output(f"detection_boxes{suffix}", lambda t: of(t)[0][None], things)
    made.output(f"detection_classes{suffix}", lambda t: (of(t)[1] + 1)[None], things)
    if more:
        made.output("detection_multiclass_scores", lambda t: table(t, 100, 91, "yxyx", background="first")[None, :, 4:], things)
    made.output(f"detection_scores{suffix}", lambda t: of(t)[2][None], things)
    made.output(f"num_detections{suffix}", lambda t: [100], things)
    if more:
        raw = lambda t: table(t, 1917, 91, "yxyx", shares=True, background="first")
        made.output("raw_detection_boxes", lambda t: raw(t)[None, :, :4], things)
        made.output("raw_detection_scores", lambda t: raw(t)[None, :, 4:], things)
    return made, {"input.name": image + suffix, "input.layout": "nhwc", "input.scale": 1, "output.boxes": f"detection_boxes{suffix}",
                  "output.labels": f"detection_classes{suffix}", "output.scores": f"detection_scores{suffix}",
                  "output.count": f"num_detections{suffix}", "output.box_format": "yxyx", "output.box_units": "shares",
                  "output.background": "first"}


@layout("boxes_labels_scores", labels=COCO_90, scales=True)
def tensorflow_od(name, things):
    return tensorflow(name, things, more=True)


@layout("boxes_labels_scores", labels=COCO_90, scales=True)
def tensorflow_od_1(name, things):
    return tensorflow(name, things, suffix=":0", image="image_tensor")


@layout("boxes_labels_scores", normalisation={"input.mean": [123.675, 116.28, 103.53], "input.std": [58.395, 57.12, 57.375], "input.scale": 1})
def mmdetection(name, things):
    made = Graph(name, "input")
    made.output("dets", lambda t: np.concatenate([lists(t, 100)[0], lists(t, 100)[2][:, None]], axis=1)[None], things, shape=[1, "num_dets", 5])
    made.output("labels", lambda t: lists(t, 100)[1][None], things, dtype=INT64, shape=[1, "num_dets"])
    return made, {"input.name": "input", **SIZE, "output.boxes": "dets", "output.labels": "labels"}


@layout("boxes_labels_scores")
def tensorrt_style(name, things):
    made = Graph(name, "images")

    def padded(numbers):
        numbers = np.array(numbers, np.float64)
        numbers[3:] = 0
        return numbers[None]

    made.output("num_dets", lambda t: [[3]], things, dtype=INT32)
    made.output("det_boxes", lambda t: padded(lists(t, 100)[0]), things)
    made.output("det_scores", lambda t: padded(lists(t, 100)[2]), things)
    made.output("det_classes", lambda t: padded(lists(t, 100)[1]), things, dtype=INT32)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, "output.boxes": "det_boxes", "output.labels": "det_classes",
                  "output.scores": "det_scores", "output.count": "num_dets"}


# ---- centerface, yolo_pose, yolo_seg -------------------------------------------------------------------------------------------


@layout("centerface", labels=["face"], things=FACES, labels_given=True)
def centerface(name, things):
    made = Graph(name, "input.1", shape=["N", 3, "H", "W"])
    across, down = WIDTH // 4, HEIGHT // 4

    def pad(value):
        def change(graph, chosen):
            """Fills up to a quarter of the input's size, whatever that is."""
            if "pads" not in graph.__dict__:
                four = graph.constant("four", np.array([4], np.int64))
                sides = graph.node("Slice", ["shape", graph.constant("from_2", np.array([2], np.int64)), four], "sides")
                places = graph.node("Div", [sides, four], "places")
                behind = graph.node("Sub", [places, graph.constant("own", np.array([down, across], np.int64))], "behind")
                front = graph.constant("front", np.zeros(6, np.int64))
                graph.pads = graph.node("Concat", [front, behind], "pads", axis=0)
            fill = graph.constant(f"{chosen}_fill", np.float32(value))
            return graph.node("Pad", [chosen, graph.pads, fill], f"{chosen}_padded")

        return change

    def maps(these):
        random = np.random.default_rng(17)
        heat = random.uniform(0.001, 0.03, (1, 1, down, across))
        size = random.uniform(1, 2, (1, 2, down, across))
        shift = random.uniform(0, 1, (1, 2, down, across))
        points = random.uniform(0, 1, (1, 10, down, across))
        for thing in these:
            cx, cy, w, h = thing.form("cxcywh")
            x, y = int(cx / 4 - 0.5), int(cy / 4 - 0.5)
            heat[0, 0, y, x] = thing.score
            size[0, :, y, x] = [math.log(h / 4), math.log(w / 4)]
            shift[0, :, y, x] = [cy / 4 - 0.5 - y, cx / 4 - 0.5 - x]
            x1, y1, _, _ = thing.box
            for k, (px, py, _) in enumerate(thing.keypoints(5)):
                points[0, 2 * k : 2 * k + 2, y, x] = [(py - y1) / h, (px - x1) / w]
        return heat, size, shift, points

    for n, (output, channels, value) in enumerate([("537", 1, 0.001), ("538", 2, 1.5), ("539", 2, 0.5), ("540", 10, 0.5)]):
        made.output(output, lambda t, n=n: maps(t)[n], things, shape=["N", channels, "h", "w"], change=pad(value))
    return made, {"input.name": "input.1", "output.heatmap": "537", "output.size": "538", "output.offset": "539", "output.landmarks": "540",
                  "input.scale": 1}


PEOPLE = {n: [dataclasses.replace(thing, label=0) for thing in VARIANTS[n]] for n in VARIANTS}


def points_of(these, places, count, keypoints=17):
    points = np.random.default_rng(19).uniform(0, 200, (count, keypoints, 3))
    points[:, :, 2] = 0.1
    for place, thing in zip(places, these):
        points[place] = list(thing.keypoints(keypoints))
    return points.reshape(count, -1)


@layout("yolo_pose", labels=["person"], things=PEOPLE, keypoints=17)
def yolo_pose(name, things):
    made = Graph(name, "images", metadata=ultralytics(["person"], task="pose", kpt_shape="[17, 3]"))

    def rows(these):
        return np.concatenate([table(these, 1680, 1), points_of(these, rows_of(these, 1680)[2], 1680)], axis=1).T[None]

    made.output("output0", rows, things)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output0")}


@layout("yolo_pose", labels=["person"], things=PEOPLE, keypoints=17)
def yolo26_pose(name, things):
    made = Graph(name, "images", metadata=ultralytics(["person"], task="pose", kpt_shape="[17, 3]", end2end="True", version="8.4.0"))

    def rows(these):
        numbers = nms_rows(these, 300, ["box", "score", "class"])
        numbers[:, 5] = 0
        return np.concatenate([numbers, points_of(these, range(len(these)), 300)], axis=1)[None]

    made.output("output0", rows, things)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output0"), "output.box_format": "xyxy",
                  "output.columns": ["box", "score", "class", "keypoints"]}


def prototypes(these):
    """A plane for each thing, in which a rhombus that fills its box is positive. The other planes are noise."""
    planes = np.random.default_rng(23).uniform(-0.2, 0.2, (32, HEIGHT // 4, WIDTH // 4))
    y, x = np.mgrid[0 : HEIGHT // 4, 0 : WIDTH // 4] * 4 + 2
    for n, thing in enumerate(these):
        cx, cy, w, h = thing.form("cxcywh")
        planes[n] = 1 - abs(x - cx) / (w / 2) - abs(y - cy) / (h / 2)
    return planes[None]


def coefficients(these, places, count):
    rows = np.random.default_rng(29).uniform(-1, 1, (count, 32))
    for n, place in enumerate(places):
        rows[place] *= 0.005
        rows[place, n] = 8
    return rows


@layout("yolo_seg", labels=OWN, outline=True)
def yolo_seg(name, things):
    made = Graph(name, "images", metadata=ultralytics(task="segment"))
    places = lambda t: rows_of(t, 1680)[2]
    made.output("output0", lambda t: np.concatenate([table(t, 1680, len(OWN)), coefficients(t, places(t), 1680)], axis=1).T[None], things)
    made.output("output1", prototypes, things)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output0"), "output.prototypes": "output1"}


@layout("yolo_seg", labels=OWN, outline=True)
def yolo26_seg(name, things):
    made = Graph(name, "images", metadata=ultralytics(task="segment", end2end="True", version="8.4.0"))
    rows = lambda t: np.concatenate([nms_rows(t, 300, ["box", "score", "class"]), coefficients(t, range(len(t)), 300)], axis=1)
    made.output("output0", lambda t: rows(t)[None], things)
    made.output("output1", prototypes, things)
    return made, {"input.name": "images", **SIZE, **LETTERBOX, **predictions("output0"), "output.prototypes": "output1",
                  "output.box_format": "xyxy", "output.columns": ["box", "score", "class", "coefficients"]}


def main(folder):
    os.makedirs(folder, exist_ok=True)
    expected = []
    for layout_name, (kind, labels, variants, more, make) in LAYOUTS.items():
        for variant, things in variants.items():
            name = f"{layout_name}-{variant}"
            # The first label of COCO's numbers is never used.
            shift = more.get("coco", 0)
            things = [dataclasses.replace(thing, label=thing.label + shift) for thing in things]
            graph, keys = make(name, things)
            graph.save(folder)
            defaults = DEFAULTS[kind]
            objects = []
            for thing in things:
                found = {"label": labels[thing.label], "score": thing.score, "box": thing.box}
                if "keypoints" in more or kind == "centerface":
                    found["keypoints"] = [list(point) for point in thing.keypoints(more.get("keypoints", 5))]
                objects.append(found)
            if "keypoints" in more:
                keys = keys | {"output.keypoints": more["keypoints"]}
            expected.append({
                "name": name,
                "layout": layout_name,
                "kind": kind,
                "keys": keys,
                "may_be_left_out": [key for key, value in keys.items() if key in defaults and defaults[key] == value],
                "normalisation": more.get("normalisation", {}),
                "labels": labels,
                "needs_labels": more.get("labels_file", False),
                "asks": more.get("asks"),
                "scales": more.get("scales", False),
                "outline": more.get("outline", False),
                "objects": objects,
            })
    with open(os.path.join(folder, "anchors.txt"), "w") as file:
        file.writelines(" ".join(f"{number:.9f}" for number in anchor) + "\n" for anchor in anchors())
    with open(os.path.join(folder, "expected.json"), "w") as file:
        json.dump({"width": WIDTH, "height": HEIGHT, "graphs": expected}, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
