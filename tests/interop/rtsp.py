"""An IP camera for tests: GStreamer's RTSP server at rtsp://127.0.0.1:PORT/stream, run by the system's Python, which has gi.
SIGUSR1 holds its pictures back, SIGUSR2 lets them through."""

import argparse
import signal

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

H264 = (
    "x264enc tune=zerolatency speed-preset=superfast key-int-max={gop} bframes={bframes} b-adapt=false {extra} ! "
    "video/x-h264,profile={profile},stream-format={format} ! valve name=valve ! rtph264pay pt=96 config-interval={interval}"
)
ENCODERS = {
    "h264": H264,
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} ! rtph265pay pt=96",
    "jpeg": "jpegenc ! rtpjpegpay pt=26",
}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("--streams", default="h264", help="of h264, h265, jpeg, sound, with commas")
    parser.add_argument("--profile", default="constrained-baseline")
    parser.add_argument("--gop", type=int, default=15)
    parser.add_argument("--bframes", type=int, default=0)
    parser.add_argument("--interlaced", action="store_true")
    parser.add_argument("--sets-in-sdp", action="store_true", help="parameter sets are in the description alone")
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--play", metavar="FILE", help="pictures of an Annex B stream in place of a pattern, over and over")
    parser.add_argument("--loss", type=float, default=0, help="share of packets that are lost")
    parser.add_argument("--auth", choices=["basic", "digest"])
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password", default="")
    parser.add_argument("--transport", choices=["tcp", "udp"])
    return parser.parse_args()


def units(path):
    """The access units of a stream with one slice a picture."""
    unit = b""
    for nal in open(path, "rb").read().split(b"\0\0\1"):
        nal = nal.rstrip(b"\0")
        if not nal:
            continue
        unit += b"\0\0\0\1" + nal
        if nal[0] & 31 in (1, 5):
            yield unit
            unit = b""


def stream(args, number, kind):
    width, height = args.size.split("x")
    if kind == "sound":
        pay = "audiotestsrc is-live=true ! audioconvert ! alawenc ! rtppcmapay pt=8"
    elif args.play:
        pay = "appsrc name=units is-live=true format=time caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! "
        pay += "valve name=valve ! rtph264pay pt=96"
    else:
        raw = {"high-10": "I420_10LE", "high-4:2:2": "Y42B", "high-4:4:4": "Y444"}.get(args.profile, "I420")
        pay = f"videotestsrc is-live=true pattern=ball ! video/x-raw,format={raw},width={width},height={height},framerate={args.fps}/1 ! "
        if args.interlaced:
            pay += "interlace field-pattern=1:1 ! "
        pay += ENCODERS[kind].format(
            gop=args.gop,
            bframes=args.bframes,
            profile=args.profile,
            extra="interlaced=true" if args.interlaced else "",
            format="avc" if args.sets_in_sdp else "byte-stream",
            interval=0 if args.sets_in_sdp else -1,
        )
    if args.loss:
        return f"{pay} ! identity name=pay{number} drop-probability={args.loss}"
    return f"{pay} name=pay{number}"


class Camera:
    def __init__(self, args):
        self.args = args
        self.valves = []
        self.muted = False
        self.server = GstRtspServer.RTSPServer.new()
        self.server.set_address("127.0.0.1")
        self.server.set_service(args.port)
        factory = GstRtspServer.RTSPMediaFactory.new()
        kinds = args.streams.split(",")
        factory.set_launch("( " + " ".join(stream(args, n, kind) for n, kind in enumerate(kinds)) + " )")
        factory.set_shared(True)
        factory.set_latency(0)
        if args.transport:
            way = GstRtsp.RTSPLowerTrans
            factory.set_protocols(way.TCP if args.transport == "tcp" else way.UDP)
        factory.connect("media-configure", self.configure)
        if args.auth:
            self.protect(factory)
        self.server.get_mount_points().add_factory("/stream", factory)
        assert self.server.attach(None), "the port is taken"

    def protect(self, factory):
        auth = GstRtspServer.RTSPAuth.new()
        token = GstRtspServer.RTSPToken.new()
        token.set_string("media.factory.role", "viewer")
        if self.args.auth == "basic":
            basic = GstRtspServer.RTSPAuth.make_basic(self.args.user, self.args.password)
            auth.add_basic(basic, token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(self.args.user, self.args.password, token)
        self.server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions.new()
        for right in ("access", "construct"):
            permissions.add_permission_for_role("viewer", f"media.factory.{right}", True)
        factory.set_permissions(permissions)

    def configure(self, _factory, media):
        print("asked", flush=True)
        element = media.get_element()
        valve = element.get_by_name("valve")
        self.valves = [valve] if valve else []
        self.mute(self.muted)
        source = element.get_by_name("units")
        if source:
            self.play(source)

    def play(self, source):
        pictures, step = list(units(self.args.play)), Gst.SECOND // self.args.fps
        state = {"next": 0}

        def push():
            buffer = Gst.Buffer.new_wrapped(pictures[state["next"] % len(pictures)])
            buffer.pts = buffer.dts = state["next"] * step
            buffer.duration = step
            state["next"] += 1
            return source.emit("push-buffer", buffer) == Gst.FlowReturn.OK

        GLib.timeout_add(1000 // self.args.fps, push)

    def mute(self, muted):
        self.muted = muted
        for valve in self.valves:
            valve.set_property("drop", muted)


def main():
    Gst.init(None)
    camera = Camera(arguments())
    loop = GLib.MainLoop()

    for number, muted in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, lambda muted: camera.mute(muted) or True, muted)
    print("listening", flush=True)
    loop.run()


main()
