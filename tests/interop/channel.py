#!/usr/bin/env python3
"""A twin that holds data channels with the official Python client; a Rust test is the other side.

It dials a peer (initiator), takes the channels of one peer (responder) or of anyone (fanout), under
one or several names, and runs until it is killed. The twin comes from TWIN_ID, the hub from
PHYSTACK_SIMULATOR_URL. Prints a JSON object a line: armed, open, message, close.
"""

import argparse
import asyncio
import json
import os
import sys

from phystack.hub_client import PhyHubClient

# The client prints its progress on the same stream as this program's lines.
LINES = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
sys.stdout = sys.stderr

parser = argparse.ArgumentParser()
parser.add_argument("--role", choices=["initiator", "responder", "fanout"], required=True)
parser.add_argument("--peer", help="the twin to dial, or whose channels to take")
parser.add_argument("--names", default="default", help="channel names, separated by commas")
args = parser.parse_args()
if args.role != "fanout" and not args.peer:
    parser.error(f"--role {args.role} needs --peer")


def say(what, **fields):
    LINES.write(json.dumps({"what": what, **fields}) + "\n")


def say_message(name, value):
    """The client hands over bytes, or a text as what it is in JSON, or else as itself."""
    if isinstance(value, bytes):
        say("message", name=name, kind="binary", value=value.hex())
    else:
        say("message", name=name, kind="text" if isinstance(value, str) else "json", value=value)


def echo_of(value):
    if isinstance(value, dict):
        return {"echo": value}
    # The client sends no other JSON values; as text they arrive the same.
    return value if isinstance(value, (str, bytes)) else json.dumps(value)


def watch(channel, name, on_open):
    """Calls on_open whenever the channel opens, and says when it is lost.

    The client has no public callback for opening; its own on_data_channel uses this one. Losing
    is told here even where on_close stays silent: when the client gives a mute peer up.
    """

    def opened():
        say("open", name=name)
        on_open()

    channel._handler.set_callbacks(
        on_connected=opened, on_disconnected=lambda: say("close", name=name)
    )


async def dial(client, name):
    """Opens a channel and sends the three messages each time it is open.

    A new channel gives up when its one offer is not answered in 15 s; once open, it comes back by
    itself.
    """
    opened = False
    while not opened:
        channel = await client.create_data_channel(
            args.peer, is_initiator=True, channel_name=name, blocking=False
        )

        def greet(channel=channel):
            nonlocal opened
            opened = True
            channel.send(f"hello from {name}")
            channel.send({"n": 1, "name": name})
            channel.send(b"\x00\x01\x02\xff")

        channel.on_message(lambda value: say_message(name, value))
        watch(channel, name, greet)
        while channel.is_connecting():
            await asyncio.sleep(0.05)
        if not opened:
            channel.close()


async def take(client, name):
    """Takes the channel of the peer; the client is deaf for about 25 s after it was closed."""
    channel = await client.create_data_channel(
        args.peer, is_initiator=False, channel_name=name, blocking=False
    )

    def on_message(value):
        say_message(name, value)
        channel.send(echo_of(value))

    channel.on_message(on_message)
    watch(channel, name, lambda: None)
    # Until it has a peer connection the client drops offers.
    while channel._handler._pc is None:
        await asyncio.sleep(0.02)


async def accept(client, name):
    """Takes the channels of anyone."""

    def on_channel(channel):
        say("open", name=name, peer=channel.peer_id)

        def on_message(value):
            say_message(name, value)
            channel.send(echo_of(value))

        channel.on_message(on_message)
        channel.on_close(lambda: say("close", name=name))

    await client.accept_data_channels(os.environ["TWIN_ID"], on_channel, channel_name=name)


async def main():
    client = PhyHubClient.from_env()
    await client.connect()
    await client.get_instance()  # subscribes to the own twin
    names = args.names.split(",")
    if args.role == "initiator":
        await client.subscribe_twin(args.peer)
        say("armed")
        await asyncio.gather(*(dial(client, name) for name in names))
    else:
        role = take if args.role == "responder" else accept
        await asyncio.gather(*(role(client, name) for name in names))
        say("armed")
    await asyncio.Event().wait()


asyncio.run(main())
