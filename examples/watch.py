"""Prints what a node sees and how its cameras are. Who to listen as and where: TWIN_ID and the hub's variables; whom: the argument."""
import asyncio, sys
from phystack.hub_client import PhyHubClient

def on_message(message):
    kind, event = message["data"]["type"], message["data"]["data"]
    if kind == "edgeInstance:detections":
        print(event["camera"]["name"], [(seen["label"], seen["score"]) for seen in event["objects"]], flush=True)
    elif kind == "edgeInstance:cameraStatus":
        print(event["camera"]["name"], "is", event["state"], event["reason"] or "", flush=True)

async def main():
    client = PhyHubClient.from_env()
    await client.connect()
    client.on_twin_message(sys.argv[1], on_message)
    await client.subscribe_twin(sys.argv[1])
    await asyncio.Event().wait()

asyncio.run(main())
