"""Runs benches/python_node.py as it is, and tells at its end what its decoder took for each frame.

It also tells the program when a frame's first packet came, so that its ages begin where the node's do. The client says nothing of
it; here each packet is noted as it goes into the client's jitter buffer.
"""
import json
import os
import pathlib
import runpy
import sys
import time

from aiortc import jitterbuffer
from aiortc.codecs import h264

spent, frames, came = 0.0, 0, time.monotonic()
add, decode_of_client, leave = jitterbuffer.JitterBuffer.add, h264.H264Decoder.decode, os._exit


class Timed:
    """A decoded frame, which says when its first packet came as soon as it is made a picture, just before the callback gets it."""

    def __init__(self, frame, came):
        self.frame, self.came = frame, came

    def __getattr__(self, name):
        return getattr(self.frame, name)

    def to_ndarray(self, **options):
        global came
        came = self.came
        return self.frame.to_ndarray(**options)


def note(self, packet):
    firsts = self.__dict__.setdefault("firsts", {})
    firsts.setdefault(packet.timestamp, time.monotonic())
    pli, encoded_frame = add(self, packet)
    if encoded_frame is not None:
        encoded_frame.came = firsts[encoded_frame.timestamp]
        # What is older was whole before, or never will be.
        self.firsts = {timestamp: at for timestamp, at in firsts.items() if at > encoded_frame.came}
    return pli, encoded_frame


def decode(self, encoded_frame):
    global spent, frames
    started = time.thread_time()
    decoded = decode_of_client(self, encoded_frame)
    spent += time.thread_time() - started
    frames += len(decoded)
    return [Timed(frame, encoded_frame.came) for frame in decoded]


def tell_and_leave(code):
    print(json.dumps({"decode_ms": round(1e3 * spent / max(frames, 1), 3)}), flush=True)
    leave(code)


jitterbuffer.JitterBuffer.add, h264.H264Decoder.decode, os._exit = note, decode, tell_and_leave
program = pathlib.Path(__file__).resolve().parents[1] / "python_node.py"
sys.argv[0] = str(program)
runpy.run_path(str(program), init_globals={"first_packet": lambda: came}, run_name="__main__")
