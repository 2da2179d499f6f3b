"""A runtime of MLServer. What the model takes stands in the parameters of its model-settings.json."""
import asyncio

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from network import Network


class NanoDet(MLModel):
    async def load(self) -> bool:
        extra = self.settings.parameters.extra
        self.network = Network(self.name, extra["element"], extra["file"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = NumpyCodec.decode_input(payload.inputs[0])
        predictions = await asyncio.to_thread(self.network.run, given)
        output = NumpyCodec.encode_output("output0", predictions)
        return InferenceResponse(model_name=self.name, model_version=self.version, id=payload.id, outputs=[output])
