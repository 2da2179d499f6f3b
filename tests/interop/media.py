#!/usr/bin/env python3
"""A twin that sends and receives media streams with the official Python client.

It dials a twin, or takes the streams of who dials it: of one peer at a time (the plain responder),
or of anyone (--fanout, which can only send), under one or several names, and runs until it is
killed. The twin comes from TWIN_ID, the hub from PHYSTACK_SIMULATOR_URL.

--send publishes the numbered test pattern of src/dev/camera/pattern.rs. --receive reads it: a line
`frame STREAM NUMBER` a picture, `torn STREAM` when its two numbers differ, `unreadable STREAM` when one
is none. --audio sends a tone of 440 Hz beside it, and reads: `audio STREAM FRAMES HERTZ` every 50 frames.
Also prints: armed, `open STREAM [PEER]`, `close STREAM [PEER]`. SIGTERM makes it say goodbye first.
"""

import argparse
import asyncio
import fractions
import os
import signal
import sys
import time

import cv2
import numpy
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame
from phystack.hub_client import (
    MediaStreamOptions,
    MediaStreamResponderOptions,
    PhyHubClient,
    VideoFrameSource,
)

# The client prints its progress on the same stream as this program's lines.
LINES = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
sys.stdout = sys.stderr


def size_of(text):
    width, height = (int(side) for side in text.split("x"))
    return width, height


parser = argparse.ArgumentParser()
role = parser.add_mutually_exclusive_group(required=True)
role.add_argument("--dial", metavar="TWIN")
role.add_argument("--listen", action="store_true")
parser.add_argument("--fanout", action="store_true", help="listen with accept_media_streams")
parser.add_argument("--stream", action="append", help="may be given several times")
parser.add_argument("--send", action="store_true")
parser.add_argument("--receive", action="store_true")
parser.add_argument("--audio", action="store_true")
parser.add_argument("--size", type=size_of, default=(320, 240), metavar="WxH")
parser.add_argument("--fps", type=int, default=15)
args = parser.parse_args()
if not (args.send or args.receive):
    parser.error("--send, --receive or both")
if args.fanout and (args.dial or args.receive or args.audio):
    parser.error("--fanout only listens, and only sends video")


def say(*words):
    LINES.write(" ".join(str(word) for word in words) + "\n")


# The test pattern --------------------------------------------------------------------------------

NUMBER_BITS, CHECK_BITS = 24, 6
BLOCKS = 2 + NUMBER_BITS + CHECK_BITS
WHITE, BLACK, MIDDLE = 220, 30, 125
DIGITS = [0x7B6F, 0x2C97, 0x73E7, 0x73CF, 0x5BC9, 0x79CF, 0x79EF, 0x7252, 0x7BEF, 0x7BCF]


def code_of(number):
    """The number's blocks: a white and a black one, its bits, those of its check value."""
    bits = f"10{number:0{NUMBER_BITS}b}{number % 61 + 1:0{CHECK_BITS}b}"
    return [bit == "1" for bit in bits]


def block(n, width, height, top):
    rows = min(height // 8, 64)
    left, right = n * width // BLOCKS, (n + 1) * width // BLOCKS
    return (0, rows, left, right) if top else (height - rows, height, left, right)


def triangle(at, peak):
    phase = at % (2 * peak)
    return numpy.minimum(phase, 2 * peak - phase)


def draw(number, width, height):
    """Picture `number` in I420: rows of luma, and behind them the chroma planes."""
    luma = 60 + triangle(
        numpy.arange(width)[None, :] + numpy.arange(height)[:, None] + 2 * number, 110
    )
    rows = min(height // 8, 64)
    dot = min(width // 32, (height - 2 * rows) // 8)
    left, top = (width - 28 * dot) // 2, (height - 5 * dot) // 2
    for place, digit in enumerate(f"{number % 10_000_000:07}"):
        dots = [WHITE if bit == "1" else BLACK for bit in f"{DIGITS[int(digit)]:015b}"]
        picture = numpy.kron(numpy.reshape(dots, (5, 3)), numpy.ones((dot, dot)))
        x = left + place * 4 * dot
        luma[top : top + 5 * dot, x : x + 3 * dot] = picture
    for n, bit in enumerate(code_of(number)):
        for at_top in (True, False):
            y0, y1, x0, x1 = block(n, width, height, at_top)
            luma[y0:y1, x0:x1] = WHITE if bit else BLACK
    chroma = [
        numpy.repeat(100 + triangle(numpy.arange(height // 2) + number + phase, 56), width // 2)
        for phase in (0, 90)
    ]
    planes = numpy.concatenate([luma.ravel(), *chroma])
    return planes.astype(numpy.uint8).reshape(height * 3 // 2, width)


def read(luma, top):
    """The number in the upper or the lower row of blocks, if it is one."""
    height, width = luma.shape
    bits = ""
    for n in range(BLOCKS):
        y0, y1, x0, x1 = block(n, width, height, top)
        inset_y, inset_x = (y1 - y0) // 4, (x1 - x0) // 4
        inner = luma[y0 + inset_y : y1 - inset_y, x0 + inset_x : x1 - inset_x]
        bits += "1" if inner.size and inner.mean() > MIDDLE else "0"
    number = int(bits[2 : 2 + NUMBER_BITS], 2)
    return number if [bit == "1" for bit in bits] == code_of(number) else None


def say_picture(name, planes):
    """What a decoded picture in I420 says."""
    luma = planes[: planes.shape[0] * 2 // 3]
    top, bottom = read(luma, True), read(luma, False)
    if top is None or bottom is None:
        say("unreadable", name)
    elif top != bottom:
        say("torn", name)
    else:
        say("frame", name, top)


# Tracks ------------------------------------------------------------------------------------------


async def play(source):
    """Pushes picture after picture; a viewer may see one twice or miss one."""
    started = time.monotonic()
    number = 0
    while True:
        planes = draw(number, *args.size)
        source.push_frame(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420))
        number += 1
        await asyncio.sleep(max(0.0, started + number / args.fps - time.monotonic()))


class Tone(MediaStreamTrack):
    """440 Hz in frames of 20 ms."""

    kind = "audio"
    RATE, SAMPLES = 48_000, 960

    def __init__(self):
        super().__init__()
        self.started = time.monotonic()
        self.at = 0

    async def recv(self):
        await asyncio.sleep(max(0.0, self.started + self.at / self.RATE - time.monotonic()))
        seconds = numpy.arange(self.at, self.at + self.SAMPLES) / self.RATE
        wave = 8000 * numpy.sin(2 * numpy.pi * 440 * seconds)
        frame = AudioFrame.from_ndarray(wave.astype(numpy.int16)[None, :], "s16", "mono")
        frame.sample_rate, frame.time_base = self.RATE, fractions.Fraction(1, self.RATE)
        frame.pts = self.at
        self.at += self.SAMPLES
        return frame


async def listen_to(name, track):
    """Counts frames, and measures the tone by where it crosses zero upwards."""
    frames, crossings, samples, last = 0, 0, 0, 0
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        channels = len(frame.layout.channels)
        wave = numpy.append(last, frame.to_ndarray().reshape(-1)[::channels])
        crossings += numpy.count_nonzero((wave[:-1] < 0) & (wave[1:] >= 0))
        samples += frame.samples
        frames, last = frames + 1, wave[-1]
        if frames % 50 == 0:
            say("audio", name, frames, round(crossings * frame.sample_rate / samples))
            crossings = samples = 0


# Streams -----------------------------------------------------------------------------------------

STREAMS = set()  # of the client, that may be open


class Stream:
    """A stream of the client, as initiator or plain responder."""

    def __init__(self, client, name, source):
        self.client, self.name, self.source = client, name, source
        self.stream = None
        self.lost = asyncio.Event()
        self.opened = False
        self.tasks = set()

    def options(self):
        # A plain responder fails if it says recvonly; it answers so when it is offered sendonly.
        if args.dial and not args.send:
            # Without kinds it asks for video only; with them, each has to come.
            kinds = ["video", "audio"] if args.audio else None
            return MediaStreamOptions(direction="recvonly", kinds=kinds)
        return MediaStreamOptions(
            local_track_factory=self.tracks,
            accept_from_any_source=args.listen,
            # A plain responder waits for as long as it takes.
            connection_timeout=15.0 if args.dial else 1e9,
        )

    def tracks(self):
        """The one track that the client takes; it knows no audio but what is received.

        Called for every new peer connection, before the description is made: the place to add one.
        """
        connection = self.stream._handler._pc
        # As responder only where it is offered: an answer has no media of its own.
        offered = any(media.kind == "audio" for media in connection.getTransceivers())
        if args.audio and args.send and (args.dial or offered):
            connection.addTrack(Tone())
        return self.source.create_track()

    def close(self):
        STREAMS.discard(self.stream)
        self.stream.close()

    async def connect(self):
        """Opens it, but does not wait for the peer."""
        # As responder it takes the stream of the first who speaks; the twin is the own one.
        twin = args.dial or os.environ["TWIN_ID"]
        self.stream = await self.client.create_media_stream(
            twin,
            is_initiator=not args.listen,
            options=self.options(),
            stream_name=self.name,
            blocking=False,
        )
        STREAMS.add(self.stream)
        # The client has no public callback for these; its own on_data_channel uses this one.
        self.stream._handler.set_callbacks(
            on_connected=self.on_open, on_disconnected=self.on_lost, on_error=self.on_error
        )
        if args.receive:
            self.stream.read_frames(lambda planes: say_picture(self.name, planes), "yuv420p")
        # The client tells nobody of the tracks of an answer that was quicker than this.
        for track in list(self.stream._handler._received_tracks):
            self.on_track(track)
        self.stream.on_track(self.on_track)

    def on_open(self):
        self.opened = True
        say("open", self.name)

    def on_lost(self):
        if self.opened:
            say("close", self.name)
        self.lost.set()

    def on_error(self, error):
        print(f"{self.name}: {error!r}")
        self.lost.set()

    def on_track(self, track):
        if args.receive and track.kind == "audio":
            task = asyncio.create_task(listen_to(self.name, track))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)


async def dial(client, name, source):
    """A stream gives up when its one offer is not answered in 15 s; once open, it comes back by itself."""
    while True:
        stream = Stream(client, name, source)
        await stream.connect()
        await stream.lost.wait()
        if stream.opened:
            await asyncio.Event().wait()
        stream.close()


async def take(client, name, source, armed):
    """A plain responder serves once: a new one follows."""
    while True:
        stream = Stream(client, name, source)
        await stream.connect()
        armed.set()
        await stream.lost.wait()
        stream.close()


async def accept(client, name, source):
    """The client's fan-out: every viewer has a connection of its own."""

    def on_peer(peer):
        say("open", name, peer.peer_id)
        peer.on_close(lambda: say("close", name, peer.peer_id))

    options = MediaStreamResponderOptions(create_local_track=source.create_track)
    await client.accept_media_streams(
        os.environ["TWIN_ID"], on_peer, options=options, stream_name=name
    )


async def goodbye(client, ended, running):
    """Waits for the end, and closes what is open."""
    await ended.wait()
    for task in running:
        task.cancel()
    for stream in STREAMS:
        stream.close()
    for name in args.stream or ["default"]:
        responder = client.get_media_responder(os.environ["TWIN_ID"], name)
        if responder:
            responder.stop()
    # They close in tasks of their own.
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=1)


async def main():
    width, height = args.size
    source = VideoFrameSource(width=width, height=height, fps=args.fps)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    running = [asyncio.create_task(play(source))] if args.send else []
    client = PhyHubClient.from_env()
    await client.connect()
    await client.get_instance()  # subscribes to the own twin
    names = args.stream or ["default"]
    if args.dial:
        say("armed")
        running += [asyncio.create_task(dial(client, name, source)) for name in names]
    elif args.fanout:
        for name in names:
            await accept(client, name, source)
        say("armed")
    else:
        armed = [asyncio.Event() for _ in names]
        running += [
            asyncio.create_task(take(client, name, source, event))
            for name, event in zip(names, armed)
        ]
        for event in armed:
            await event.wait()
        say("armed")
    await goodbye(client, ended, running)


asyncio.run(main())
