"""A twin that runs the official Python client; tests/interop/hub.rs plays the other side.

The variables of the official client say where to connect and as whom, PEER_TWIN_ID who the other
side is. Prints a JSON object a line: what it is ready for, what it received, what it was answered.
"""

import asyncio
import json
import os
import sys

from phystack.hub_client import PhyHubClient
from phystack.hub_client.types.twin_types import TwinMessageResult, TwinMessageResultStatus

# The client prints its progress on the same stream as this program's lines.
LINES = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
sys.stdout = sys.stderr


def say(what, **fields):
    LINES.write(json.dumps({"what": what, **fields}) + "\n")


async def main():
    peer = os.environ["PEER_TWIN_ID"]
    done = asyncio.Event()
    client = PhyHubClient.from_env()
    await client.connect()
    instance = await client.get_instance()

    def on_event(data, respond):
        say("event", data=data, action=respond is not None)

    def on_action(data, respond):
        say("action", data=data)
        respond(
            TwinMessageResult(
                status=TwinMessageResultStatus.SUCCESS,
                message="doubled",
                data={"value": data["value"] * 2},
            )
        )

    def on_go(data, respond):
        instance.emit("python-event", {"n": 1})
        instance.to(peer).emit("python-event", {"n": 2})

        def answered(result):
            say("answer", status=result.status.value, message=result.message, data=result.data)

        instance.to(peer).emit("rust-action", {"value": 20}, answered)

    async def report():
        twin = await instance.update_reported({"color": "green"})
        say("reported", reported=twin["properties"]["reported"])
        servers = await client.get_ice_servers()
        say("ice", servers=servers)

    instance.on("rust-event", on_event)
    instance.on("python-action", on_action)
    instance.on("go", on_go)
    instance.on("report", lambda data, respond: asyncio.create_task(report()))
    instance.on("end", lambda data, respond: done.set())
    await client.subscribe_twin(peer)
    peer_twin = await client.get_twin_by_id(peer)
    socket = client._connection.get_socket()
    for _ in range(200):
        if socket.transport() == "websocket":
            break
        await asyncio.sleep(0.02)
    say(
        "ready",
        twin=instance.id,
        type=instance.type,
        peer_type=peer_twin["type"],
        transport=socket.transport(),
    )
    await done.wait()
    await client.disconnect()
    say("end")


asyncio.run(asyncio.wait_for(main(), 60))
