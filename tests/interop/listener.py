#!/usr/bin/env python3
"""An app made with the official Python client that listens to a node's detections.

Prints one JSON line for each event, as it comes; with --statuses also those of the cameras' states, and with --tracks those of tracks and
lines too.
"""
import argparse
import asyncio
import json

from phystack.hub_client import PhyHubClient

parser = argparse.ArgumentParser()
parser.add_argument("node")
parser.add_argument("--statuses", action="store_true")
parser.add_argument("--tracks", action="store_true")
args = parser.parse_args()


types = {"edgeInstance:detections"}
if args.statuses:
    types.add("edgeInstance:cameraStatus")
if args.tracks:
    types |= {"edgeInstance:track", "edgeInstance:lineCrossed"}


async def main() -> None:
    client = PhyHubClient.from_env()
    await client.connect()
    await client.subscribe_twin(args.node)

    def on_message(payload: dict) -> None:
        data = payload.get("data") or {}
        if data.get("type") in types:
            print(json.dumps(data["data"]), flush=True)

    client.on_twin_message(args.node, on_message)
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
