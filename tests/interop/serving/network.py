"""What the models of both servers are: NanoDet-g by ONNX Runtime, behind inputs of several kinds, with faults on demand.

It runs in the environments of the servers, so it needs no more than numpy and ONNX Runtime there, and Pillow for the model that is sent
JPEG.
"""
import io
import os
import time

import numpy as np
import onnxruntime as ort

SIDE = 416
# What a model takes: the datatype of its input in the words of the protocol.
DATATYPES = {"f32": "FP32", "f16": "FP16", "u8": "UINT8", "jpeg": "BYTES"}

# In place of a file: a stand-in for an accelerator, which this machine lacks. It computes nothing; a run takes this long, and a little
# more for each picture of the batch.
STAND_IN = "stand-in"
RUN_S = 0.020
PICTURE_S = 0.002


class Network:
    """One session. `run` takes a batch as the server got it, and gives the predictions of its pictures."""

    def __init__(self, name, element, file):
        self.fault_file = os.path.join(os.environ["FAULTS"], name)
        self.element = element
        self.runs = 0
        self.session = None
        if file == STAND_IN:
            # One person in the middle, whatever is shown.
            self.answer = np.zeros((1, 84, 3549), np.float32)
            self.answer[0, :5, 0] = SIDE / 2, SIDE / 2, 50, 100, 0.9
            return
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.path.join(os.environ["MODELS"], file), options, providers=["CPUExecutionProvider"])

    def pictures(self, given):
        if self.element == "jpeg":
            from PIL import Image

            decode = lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)
            given = np.stack([decode(data) for data in given.reshape(-1)])
        images = given.astype(np.float32)
        if self.element in ("jpeg", "u8"):
            # The predictions of a model are to be the same to the last bits whoever scales its pixels.
            images *= np.float32(1 / 255)
        return np.ascontiguousarray(images)

    def fault(self):
        """The words of the fault that this run is to have; none where all is well.

        slow SECONDS [N]: each run, or each Nth, takes so much longer
        shape | dtype | error: the answer is that of another model, or none at all
        """
        self.runs += 1
        try:
            with open(self.fault_file) as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def run(self, given):
        fault = self.fault()
        if fault[:1] == ["slow"] and self.runs % int((fault + [1])[2]) == 0:
            time.sleep(float(fault[1]))
        if fault[:1] == ["error"]:
            raise RuntimeError("the test wants an error")
        if self.session is None:
            time.sleep(RUN_S + PICTURE_S * len(given))
            return np.repeat(self.answer, len(given), axis=0)
        predictions = self.session.run(None, {"images": self.pictures(given)})[0]
        if fault[:1] == ["shape"]:
            return np.ascontiguousarray(predictions[:, :, :1000])
        if fault[:1] == ["dtype"]:
            return predictions.astype(np.int32)
        return predictions
