#!/usr/bin/env python3
"""A camera twin made with the official Python client: publishes a clip through aiortc.

It answers whoever dials it, or dials a node itself (--dial). The twin comes from TWIN_ID, the hub
from PHYSTACK_SIMULATOR_URL. Prints "armed" when viewers can come.
"""
import argparse
import asyncio
import threading
import time

import av
from phystack.hub_client import MediaStreamOptions, MediaStreamResponderOptions, PhyHubClient, VideoFrameSource

parser = argparse.ArgumentParser()
parser.add_argument("clip")
parser.add_argument("--dial")
parser.add_argument("--stream", default="default")
parser.add_argument("--fps", type=int, default=15)
args = parser.parse_args()


def play(source: VideoFrameSource) -> None:
    """Pushes the clip's pictures, over and over, from a thread of its own."""
    due = time.monotonic()
    while True:
        with av.open(args.clip) as container:
            for frame in container.decode(video=0):
                source.push_frame(frame.to_ndarray(format="bgr24"))
                due += 1 / args.fps
                time.sleep(max(0.0, due - time.monotonic()))


async def main() -> None:
    source = VideoFrameSource(width=768, height=576, fps=args.fps)
    threading.Thread(target=play, args=(source,), daemon=True).start()
    while source.latest_frame()[0] is None:
        await asyncio.sleep(0.05)
    client = PhyHubClient.from_env()
    await client.connect()
    if args.dial:
        options = MediaStreamOptions(direction="sendonly", local_track_factory=source.create_track)
        await client.create_media_stream(
            args.dial, options=options, stream_name=args.stream, blocking=False
        )
    else:
        instance = await client.get_instance()
        options = MediaStreamResponderOptions(create_local_track=source.create_track)
        await client.accept_media_streams(
            instance.id, lambda _peer: None, options=options, stream_name=args.stream
        )
    print("armed", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
