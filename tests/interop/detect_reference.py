#!/usr/bin/env python3
"""What the shipped models see, by numpy, OpenCV, PyAV and Python's onnxruntime: the reference for `twinsight detect`.

  detect_reference.py detect MODEL FILE...          a line of JSON for each picture and each frame of a clip
  detect_reference.py tensor (FIT SIZE FILE OUT)... the input tensors of each file's first picture, raw float32
                                                    FIT: stretch, center or top_left

A file is a picture, a clip of H.264, or the planes of one picture: NAME_WIDTH_HEIGHT_MATRIX_RANGE.i420, such as
frame_1280_720_709_full.i420.

Written from what is known of the models, without the manifests and without the project's code.
"""
import json
import os
import sys

import av
import cv2
import numpy as np
import onnxruntime as ort

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
MIN_SCORE = 0.4
COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,"
    "bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,"
    "sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,"
    "bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,"
    "toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,"
    "teddy bear,hair drier,toothbrush"
).split(",")
# Numbers 1 to 90 of COCO's label map, of which ten were never used.
COCO_91 = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def tensor(image, fit, size, scale):
    """BGR bytes to [1, 3, size, size]; also where the picture lies: x, y, width, height."""
    height, width = image.shape[:2]
    if fit == "stretch":
        x, y, w, h = 0, 0, size, size
    else:
        factor = min(size / width, size / height)
        w, h = round(width * factor), round(height * factor)
        x, y = ((size - w) // 2, (size - h) // 2) if fit == "center" else (0, 0)
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[y : y + h, x : x + w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    rgb = cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB).astype(np.float32) * np.float32(scale)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None]), (x, y, w, h)


def nanodet(session, image):
    size = 416
    x, place = tensor(image, "top_left", size, 1 / 255)
    out = session.run(["output0"], {"images": x})[0][0].T.astype(np.float64)
    centre, extent, scores = out[:, 0:2], out[:, 2:4], out[:, 4:]
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    return boxes, scores.argmax(1), scores.max(1), COCO, 0.6, place


def ssd(session, image):
    x, place = tensor(image, "stretch", 300, 1)
    scores, boxes = session.run(["scores", "boxes"], {"images": x})
    used = np.array(COCO_91) - 1
    scores = scores[0][:, used]
    top, left, bottom, right = boxes[0].reshape(-1, 4).T.astype(np.float64) * 300
    return np.stack([left, top, right, bottom], 1), scores.argmax(1), scores.max(1), COCO, 0.5, place


def centernet(session, image):
    x, place = tensor(image, "stretch", 512, 1)
    rows = session.run(["detections"], {"images": x})[0][0].astype(np.float64)
    return rows[:, :4], rows[:, 5].astype(int), rows[:, 4], COCO, 0.5, place


MODELS = {
    "nanodet_g_coco": nanodet,
    "nanodet_g_coco_int8": nanodet,
    "ssdlite_mobilenet_v2_coco": ssd,
    "centernet_mobilenet_v3_coco": centernet,
}


def overlap(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def detect(model, session, image):
    boxes, classes, scores, labels, max_iou, (x, y, w, h) = MODELS[model](session, image)
    height, width = image.shape[:2]
    kept = []
    for i in sorted(np.nonzero(scores >= MIN_SCORE)[0], key=lambda i: -scores[i]):
        if all(classes[i] != classes[k] or overlap(boxes[i], boxes[k]) <= max_iou for k in kept):
            kept.append(i)
    objects = []
    for i in kept:
        left, right = np.clip((boxes[i][[0, 2]] - x) * width / w, 0, width)
        top, bottom = np.clip((boxes[i][[1, 3]] - y) * height / h, 0, height)
        box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        objects.append({"label": labels[classes[i]], "score": float(scores[i]), "box": box})
    return objects


def bgr(planes, w, h, matrix="601", levels="limited"):
    """Packed planes to BGR bytes by the formulas of BT.601 and BT.709, each chroma sample covering 2x2 pixels.

    swscale's fast path, which OpenCV's and PyAV's own conversions take, is 1 of 255 too dark on average.
    """
    kr, kb = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}[matrix]
    black, luma, chroma = {"limited": (16, 219, 224), "full": (0, 255, 255)}[levels]
    y, u, v = np.split(planes.reshape(-1).astype(np.float64), [w * h, w * h * 5 // 4])
    u, v = (c.reshape(h // 2, w // 2).repeat(2, axis=0).repeat(2, axis=1) - 128 for c in (u, v))
    y = (y.reshape(h, w) - black) * 255 / luma
    r = y + 2 * (1 - kr) * v * 255 / chroma
    b = y + 2 * (1 - kb) * u * 255 / chroma
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.rint(np.stack([b, g, r], axis=2)), 0, 255).astype(np.uint8)


def pictures(path):
    """BGR bytes of a picture, or of each frame of a clip."""
    if path.endswith(".i420"):
        width, height, matrix, levels = os.path.basename(path)[: -len(".i420")].split("_")[1:]
        yield bgr(np.fromfile(path, np.uint8), int(width), int(height), matrix, levels)
        return
    if not path.endswith(".h264"):
        image = cv2.imread(path)
        assert image is not None, f"{path} is not a picture"
        yield image
        return
    with av.open(path) as clip:
        for frame in clip.decode(video=0):
            assert frame.format.name == "yuv420p", frame.format
            yield bgr(frame.to_ndarray(), frame.width, frame.height)


def main():
    if sys.argv[1] == "tensor":
        for fit, size, path, out in zip(*[iter(sys.argv[2:])] * 4, strict=True):
            tensor(next(pictures(path)), fit, int(size), 1)[0].tofile(out)
        return
    model, files = sys.argv[2], sys.argv[3:]
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = os.path.join(ROOT, "models", model + ".onnx")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for file in files:
        for frame, image in enumerate(pictures(file)):
            objects = detect(model, session, image)
            print(json.dumps({"file": file, "frame": frame, "width": image.shape[1], "height": image.shape[0], "objects": objects}))


main()
