"""Records what ffmpeg sends for the pedestrian footage as RTP, and hashes of ffmpeg's own decode.

usage: record_rtp.py pedestrians.avi OUTPUT_DIRECTORY [NAME...]

Only the standard library and an ffmpeg with libx264 and libvpx are needed. Formats: README.md beside this file.
"""

import pathlib
import socket
import struct
import subprocess
import sys
import tempfile

HIGH = "-profile:v high -preset medium -g 20 -crf 30 -frames:v 100"
SMALL = "-preset medium -g 20 -crf 30 -frames:v 60"
# name, filters, encoder options, x264 parameters, payload bytes.
CLIPS = [
    ("pedestrians", "null", "-profile:v baseline -preset medium -tune zerolatency -bf 0 -g 20 -crf 36", "", 592),
    ("high", "scale=384:288", HIGH + " -bf 0", "", 1200),
    # Announces B slices and has none: picture order count type 0, which hardware encoders use too.
    ("high_poc", "scale=384:288", HIGH + " -bf 1 -b_strategy 1", ":b-bias=-100", 1200),
    # Without direct prediction in B slices: openh264 gets a few samples of it wrong by 1 to 3 levels, so
    # that ffmpeg's hashes would not fit.
    ("high_b", "scale=384:288", HIGH + " -bf 3 -direct-pred none", "", 1200),
    ("high_scaling", "scale=192:144", SMALL + " -profile:v high -bf 1 -b_strategy 1", ":b-bias=-100:cqm=jvt", 1200),
    ("main", "scale=192:144", SMALL + " -profile:v main -bf 0", "", 1200),
]

REALTIME = "-deadline realtime -cpu-used 4 -auto-alt-ref 0 -lag-in-frames 0"
# Hidden frames and four token partitions, and an odd size.
ALTREF = "-deadline good -cpu-used 2 -auto-alt-ref 1 -lag-in-frames 16 -arnr-maxframes 5 -slices 4"
# name, filters, encoder options, payload bytes.
VP8_CLIPS = [
    ("vp8", "scale=384:288", REALTIME + " -b:v 130k -g 20 -frames:v 160", 300),
    ("vp8_altref", "scale=255:191", ALTREF + " -b:v 60k -g 40 -frames:v 80", 300),
]


def run(command):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *command], check=True)


def record(stream, packet_bytes):
    """All RTP packets that ffmpeg sends for a stream, in order of sending."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(3)
    url = f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size={packet_bytes}&rtcpport=9"
    sender = subprocess.Popen(
        ["ffmpeg", "-v", "error", "-readrate", "20", "-i", stream, "-c", "copy", "-f", "rtp",
         "-payload_type", "96", "-ssrc", "1", "-seq", "65000", url],
        stdout=subprocess.DEVNULL,
    )
    packets = []
    while True:
        try:
            packets.append(receiver.recv(2048))
        except TimeoutError:
            break
    assert sender.wait() == 0
    numbers = [struct.unpack(">H", packet[2:4])[0] for packet in packets]
    assert all((b - a) % 65536 == 1 for a, b in zip(numbers, numbers[1:])), "the kernel dropped packets"
    return packets


def write(name, stream, packet_bytes, target):
    """The two files of a recording."""
    packets = record(stream, packet_bytes)
    with open(target / f"rtp_{name}.bin", "wb") as file:
        for packet in packets:
            file.write(struct.pack(">H", len(packet)) + packet)
    text = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", stream, "-pix_fmt", "yuv420p", "-fps_mode", "passthrough", "-f", "framehash",
         "-hash", "sha256", "-"], check=True, capture_output=True, text=True).stdout
    hashes = [line.split(",")[-1].strip()[:32] for line in text.splitlines() if not line.startswith("#")]
    (target / f"rtp_{name}.sha256").write_text("\n".join(hashes) + "\n")
    print(name, len(packets), "packets", sum(map(len, packets)), "bytes", len(hashes), "pictures")


def main():
    source, target, names = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    with tempfile.TemporaryDirectory() as scratch:
        for name, filters, options, parameters, packet_bytes in CLIPS:
            if names and name not in names:
                continue
            stream = f"{scratch}/{name}.mp4"
            run(["-i", source, "-vf", filters, "-pix_fmt", "yuv420p", "-c:v", "libx264", *options.split(),
                 "-keyint_min", "20", "-sc_threshold", "0", "-threads", "1",
                 "-x264-params", "repeat-headers=1" + parameters, "-bsf:v", "filter_units=remove_types=6", stream])
            write(name, stream, packet_bytes, target)
        for name, filters, options, packet_bytes in VP8_CLIPS:
            if names and name not in names:
                continue
            stream = f"{scratch}/{name}.webm"
            # libvpx hides frames only when it knows what comes: in the second pass.
            log = ["-passlogfile", f"{scratch}/{name}"]
            passes = [["-pass", "1", *log], ["-pass", "2", *log]] if "-auto-alt-ref 1" in options else [[]]
            for options_of_pass in passes:
                run(["-i", source, "-vf", filters, "-pix_fmt", "yuv420p", "-c:v", "libvpx", *options.split(),
                     "-threads", "1", *options_of_pass, stream])
            write(name, stream, packet_bytes, target)


main()
