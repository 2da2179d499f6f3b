"""KServe's own server with a model of each argument NAME:ELEMENT:SIDE:FILE. The ports are told by the server's own options."""
import argparse
import asyncio

from kserve import InferOutput, InferResponse, Model, ModelRepository, ModelServer, model_server

from network import DATATYPES, Network


class NanoDet(Model):
    def __init__(self, name, element, side, file):
        super().__init__(name)
        self.element, self.side, self.file = element, int(side), file
        self.load()

    def load(self):
        self.network = Network(self.name, self.element, self.file)
        self.ready = True
        return self.ready

    async def get_input_types(self):
        return [{"name": "images", "datatype": DATATYPES[self.element], "shape": [1, 3, self.side, self.side]}]

    async def get_output_types(self):
        return [{"name": "output0", "datatype": "FP32", "shape": [1, 84, 3549]}]

    async def predict(self, payload, headers=None, response_headers=None):
        predictions = await asyncio.to_thread(self.network.run, payload.inputs[0].as_numpy())
        datatype = {"float32": "FP32", "int32": "INT32"}[str(predictions.dtype)]
        output = InferOutput("output0", list(predictions.shape), datatype)
        output.set_data_from_numpy(predictions)
        # Whether the answer is JSON or bytes is what the request wants, if the model says so here.
        wanted = {"use_binary_outputs": payload.use_binary_outputs, "requested_outputs": payload.request_outputs}
        return InferResponse(payload.id, self.name, [output], **wanted)


class Repository(ModelRepository):
    """The server asks it for a model that is to be there again after it was unloaded."""

    def __init__(self, given):
        super().__init__()
        self.given = given

    def load(self, name):
        self.update(NanoDet(name, *self.given[name]))
        return True


def main():
    parser = argparse.ArgumentParser(parents=[model_server.parser], description=__doc__)
    parser.add_argument("models", nargs="+")
    given = {}
    for text in parser.parse_args().models:
        name, *rest = text.split(":", 3)
        given[name] = rest
    server = ModelServer(registered_models=Repository(given), enable_latency_logging=False, grace_period=1)
    server.start([NanoDet(name, *rest) for name, rest in given.items()])


if __name__ == "__main__":
    main()
