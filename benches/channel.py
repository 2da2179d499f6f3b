#!/usr/bin/env python3
"""The yardstick of data channels: the official Python client's round trips and throughput.

"channel.py echo" sends back to anyone who dials it whatever arrives; "channel.py ping" dials it and
prints one JSON line. The twin comes from TWIN_ID, the hub from PHYSTACK_SIMULATOR_URL.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import sys
import time

from phystack.hub_client import PhyHubClient

WARM_UP = 50
BULK_BYTES = 16 * 1024
BULK_IN_FLIGHT = 64
LIMIT_S = 120

# The client prints its progress on the same stream as this program's line.
LINES = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
sys.stdout = sys.stderr

parser = argparse.ArgumentParser()
commands = parser.add_subparsers(dest="command", required=True)
echo_parser = commands.add_parser("echo")
echo_parser.add_argument("--name", default="default")
ping_parser = commands.add_parser("ping")
ping_parser.add_argument("--peer", required=True)
ping_parser.add_argument("--name", default="default")
ping_parser.add_argument("--count", type=int, default=1000)
ping_parser.add_argument("--size", type=int, default=100, help="bytes of a message")
ping_parser.add_argument("--mb", type=int, help="megabytes (10^6 bytes) to send and get back")
args = parser.parse_args()


async def echo(client):
    def on_channel(channel):
        # The client's on_message gives JSON text parsed; the channel under it, what was sent.
        channel._channel.on("message", channel._channel.send)

    await client.accept_data_channels(os.environ["TWIN_ID"], on_channel, channel_name=args.name)
    LINES.write("armed\n")
    await asyncio.Event().wait()


async def dial(client):
    """An open channel; the client gives one up when its offer is not answered in 15 s."""
    while True:
        channel = await client.create_data_channel(
            args.peer, is_initiator=True, channel_name=args.name, blocking=False
        )
        while channel.is_connecting():
            await asyncio.sleep(0.01)
        if channel.is_open():
            return channel
        channel.close()


async def flight(channel, payload, count, in_flight):
    """Sends the payload count times, at most in_flight unanswered; returns when each echo came."""
    came = []
    sent = 0
    done = asyncio.Event()

    def send_one():
        nonlocal sent
        if sent < count:
            sent += 1
            channel.send(payload)

    def on_message(message):
        if message == payload:
            came.append(time.perf_counter())
            send_one()
        if len(came) == count:
            done.set()

    channel.on_message(on_message)
    for _ in range(in_flight):
        send_one()
    try:
        await asyncio.wait_for(done.wait(), LIMIT_S)
    except asyncio.TimeoutError:
        print("some echoes never came")
    channel.off_message(on_message)
    return came


async def ping(client):
    channel = await dial(client)
    payload = os.urandom(args.size)
    await flight(channel, payload, WARM_UP, 1)
    start = time.perf_counter()
    came = await flight(channel, payload, args.count, 1)
    times = sorted(after - before for before, after in itertools.pairwise([start, *came]))
    at = lambda share: round(times[int(len(times) * share)] * 1000, 3) if times else None
    line = {"sent": args.count, "received": len(came), "p50_ms": at(0.5), "p99_ms": at(0.99)}
    if args.mb:
        count = math.ceil(args.mb * 1_000_000 / BULK_BYTES)
        start = time.perf_counter()
        came = await flight(channel, os.urandom(BULK_BYTES), count, BULK_IN_FLIGHT)
        speed = count * BULK_BYTES / 1e6 / (came[-1] - start) if len(came) == count else None
        line["mb_per_s"] = speed and round(speed, 2)
    LINES.write(json.dumps(line) + "\n")
    channel.close()


async def main():
    client = PhyHubClient.from_env()
    await client.connect()
    await client.get_instance()  # subscribes to the own twin
    await (echo if args.command == "echo" else ping)(client)
    await client.disconnect()


asyncio.run(main())
