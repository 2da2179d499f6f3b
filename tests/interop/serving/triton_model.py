"""A model of Triton's Python backend. What it takes stands in the parameters of its config.pbtxt."""
import json
import os
import sys

# The backend's stub is another Python: it knows nothing of the environment's packages.
sys.path[:0] = os.environ["SITE"].split(os.pathsep)
import numpy as np
import triton_python_backend_utils as pb
from network import Network


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        of = lambda key: parameters[key]["string_value"]
        self.network = Network(args["model_name"], of("element"), of("file"))

    def execute(self, requests):
        inputs = [pb.get_input_tensor_by_name(request, "images").as_numpy() for request in requests]
        try:
            # The requests that Triton has put together are one run of the network.
            predictions = self.network.run(np.concatenate(inputs))
        except RuntimeError as error:
            return [pb.InferenceResponse(error=pb.TritonError(str(error)))] * len(requests)
        ends = np.cumsum([len(given) for given in inputs])[:-1]
        return [pb.InferenceResponse([pb.Tensor("output0", part)]) for part in np.split(predictions, ends)]
