#!/usr/bin/env python3
"""A camera that speaks ONVIF, in the manner of one of several makers: it answers as theirs do, and has no pictures.

What is asked of it is checked by the schemas of ONVIF and of WS-Discovery, as the package onvif-zeep-async ships them, and who asks by
its own reading of WS-Security and of HTTP Digest. With --announce it is found by WS-Discovery, through the package WSDiscovery.
Prints "listening PORT", and for each question "asked NAME" or what is wrong with it.
"""
import argparse
import base64
import hashlib
import importlib.metadata
import re
import socket
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lxml import etree

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSSE = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}"
WSU = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd}"
DEVICE = "http://www.onvif.org/ver10/device/wsdl"
MEDIA = "http://www.onvif.org/ver10/media/wsdl"
MEDIA2 = "http://www.onvif.org/ver20/media/wsdl"
DISCOVERY = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
REALM = "IP Camera(C1234)"

parser = argparse.ArgumentParser()
parser.add_argument("shape", choices=["hikvision", "dahua", "axis", "reolink", "recorder", "hostile"])
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--auth", choices=["none", "token", "digest", "basic"], default="token")
parser.add_argument("--user", default="admin")
parser.add_argument("--password", default="")
parser.add_argument("--clock-offset", type=float, default=0, help="seconds that its clock is ahead")
parser.add_argument("--own-host", help="what it calls itself, unless that is --host")
parser.add_argument("--announce", action="store_true")
args = parser.parse_args()


def say(line: str) -> None:
    print(line, flush=True)


# Schemas of what is asked.


class Beside(etree.Resolver):
    """Finds schemas by their names beside the others, so that nothing is fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def resolve(self, url, _public_id, context):
        name = url.rsplit("/", 1)[-1]
        return self.resolve_filename(str(self.folder / name), context)


def schemas() -> dict[str, etree.XMLSchema]:
    """The schema of each service, by its namespace. That of `ver20` is not in the package."""
    files = importlib.metadata.distribution("onvif-zeep-async").files or []
    folder = next(Path(str(file.locate())) for file in files if file.name == "media.wsdl").parent
    parse = etree.XMLParser()
    parse.resolvers.add(Beside(folder))
    found = {}
    for namespace, name in [(DEVICE, "devicemgmt.wsdl"), (MEDIA, "media.wsdl"), (DISCOVERY, "ws-discovery.xsd")]:
        document = etree.parse(str(folder / name), parse)
        schema = document.getroot()
        if schema.tag.endswith("definitions"):
            schema = document.find(".//{http://www.w3.org/2001/XMLSchema}schema")
        text = etree.tostring(schema)
        found[namespace] = etree.XMLSchema(etree.fromstring(text, parse, base_url=str(folder / name)))
    return found


SCHEMAS = schemas()


def problem_of(body) -> str | None:
    """What is wrong with a question by its schema."""
    namespace = etree.QName(body).namespace
    if namespace == MEDIA2:
        return None
    schema = SCHEMAS.get(namespace)
    if schema is None:
        return f"no schema of {namespace}"
    # Within its envelope a question has namespaces that its own text does not declare.
    alone = etree.fromstring(etree.tostring(body))
    return None if schema.validate(alone) else str(schema.error_log.last_error)


# Who asks.

NONCES: set[str] = set()


def is_known_by_token(envelope) -> bool:
    token = envelope.find(f".//{WSSE}UsernameToken")
    if token is None:
        return False
    password = token.find(f"{WSSE}Password")
    nonce, created = token.findtext(f"{WSSE}Nonce"), token.findtext(f"{WSU}Created")
    if not password.get("Type").endswith("#PasswordDigest") or nonce in NONCES:
        return False
    NONCES.add(nonce)
    age = now() - datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    if abs(age.total_seconds()) > 5:
        say(f"stale {created}")
        return False
    digest = hashlib.sha1(base64.b64decode(nonce) + created.encode() + args.password.encode()).digest()
    return token.findtext(f"{WSSE}Username") == args.user and password.text == base64.b64encode(digest).decode()


def is_known_by_digest(header: str | None, path: str) -> bool:
    if not header or not header.startswith("Digest "):
        return False
    given = {name: quoted or bare for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', header)}

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    secret = md5(f"{args.user}:{REALM}:{args.password}")
    question = md5(f"POST:{path}")
    expected = md5(f"{secret}:{given['nonce']}:{given['nc']}:{given['cnonce']}:auth:{question}")
    return given["username"] == args.user and given["uri"] == path and given["response"] == expected


def now() -> datetime:
    return datetime.now(timezone.utc) + timedelta(seconds=args.clock_offset)


# What it answers. Each maker has prefixes, services, tokens and addresses of its own.


class Shape:
    def __init__(self, manufacturer, model, streams, media2=True, services=True, prefix="SOAP-ENV"):
        self.manufacturer, self.model, self.streams = manufacturer, model, streams
        self.media2, self.services, self.prefix = media2, services, prefix


# token, name, source, codec, width, height, frames a second, GOP, kbit/s, address of the stream
SHAPES = {
    "hikvision": Shape("HIKVISION", "DS-2CD2042WD-I", [
        ("Profile_1", "mainStream", "VideoSource_1", "H265", 2688, 1520, 20, 40, 4096,
         "rtsp://{host}:554/Streaming/Channels/101?transportmode=unicast&profile=Profile_1"),
        ("Profile_2", "subStream", "VideoSource_1", "H264", 640, 360, 10, 50, 512,
         "rtsp://{host}:554/Streaming/Channels/102?transportmode=unicast&profile=Profile_2"),
    ], prefix="env"),
    "dahua": Shape("Dahua", "IPC-HDW2431T-ZS-S2", [
        ("MediaProfile00000", "MediaProfile_Channel1_MainStream", "00000", "H264", 2688, 1520, 25, 50, 4096,
         "rtsp://{host}:554/cam/realmonitor?channel=1&subtype=0&unicast=true&proto=Onvif"),
        ("MediaProfile00001", "MediaProfile_Channel1_SubStream1", "00000", "H264", 704, 576, 15, 15, 512,
         "rtsp://{host}:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif"),
    ], media2=False, prefix="s"),
    "axis": Shape("AXIS", "M3045-V", [
        ("profile_1_h264", "profile_1 h264", "0", "H264", 1920, 1080, 30, 32, 2147483647,
         "rtsp://{host}/onvif-media/media.amp?profile=profile_1_h264&sessiontimeout=60&streamtype=unicast"),
        ("profile_1_jpeg", "profile_1 jpeg", "0", "JPEG", 1920, 1080, 30, 0, 2147483647,
         "rtsp://{host}/onvif-media/media.amp?profile=profile_1_jpeg&sessiontimeout=60&streamtype=unicast"),
    ]),
    "reolink": Shape("Reolink", "RLC-810A", [
        ("000", "Profile_H265_000", "000", "H265", 3840, 2160, 25, 50, 8192, "rtsp://{host}:554/h265Preview_01_main"),
    ], services=False),
    "recorder": Shape("Dahua", "NVR4108", [
        (f"MediaProfile{channel:03}0{n}", f"Channel{channel + 1} {n}", f"{channel:05}", "H264", width, width * 9 // 16,
         10, 10, 512, "rtsp://admin:hush-hush@{host}:554/cam/realmonitor?channel=%d&subtype=%d" % (channel + 1, n))
        for channel in range(3) for n, width in enumerate((1920, 640))
    ], media2=False, prefix="s"),
}
SHAPES["hostile"] = SHAPES["dahua"]


def own_address(path: str) -> str:
    return f"http://{args.own_host or args.host}:{PORT}{path}"


def scopes_of(shape: Shape) -> list[str]:
    scopes = ["type/video_encoder", "Profile/Streaming", f"name/{shape.manufacturer}%20{shape.model}",
              f"hardware/{shape.model}", "location/country/china"]
    return [f"onvif://www.onvif.org/{scope}" for scope in scopes]


def profile(shape: Shape, stream, version2: bool) -> str:
    token, name, source, codec, width, height, fps, gop, kbps, _ = stream
    resolution = f"<tt:Resolution><tt:Width>{width}</tt:Width><tt:Height>{height}</tt:Height></tt:Resolution>"
    if version2:
        return (
            f'<tr2:Profiles token="{token}" fixed="true"><tr2:Name>{name}</tr2:Name><tr2:Configurations>'
            f'<tr2:VideoSource token="s"><tt:Name>s</tt:Name><tt:SourceToken>{source}</tt:SourceToken></tr2:VideoSource>'
            f'<tr2:VideoEncoder token="e" GovLength="{gop}" Profile="Main"><tt:Name>e</tt:Name><tt:Encoding>{codec}</tt:Encoding>'
            f'{resolution}<tt:RateControl ConstantBitRate="false"><tt:FrameRateLimit>{fps}.0</tt:FrameRateLimit>'
            f"<tt:BitrateLimit>{kbps}</tt:BitrateLimit></tt:RateControl></tr2:VideoEncoder></tr2:Configurations></tr2:Profiles>"
        )
    h264 = f"<tt:H264><tt:GovLength>{gop}</tt:GovLength><tt:H264Profile>Main</tt:H264Profile></tt:H264>" if codec == "H264" else ""
    return (
        f'<trt:Profiles token="{token}" fixed="true"><tt:Name>{name}</tt:Name><tt:VideoSourceConfiguration token="s">'
        f"<tt:SourceToken>{source}</tt:SourceToken></tt:VideoSourceConfiguration>"
        f'<tt:VideoEncoderConfiguration token="e"><tt:Encoding>{codec}</tt:Encoding>{resolution}<tt:RateControl>'
        f"<tt:FrameRateLimit>{fps}</tt:FrameRateLimit><tt:BitrateLimit>{kbps}</tt:BitrateLimit></tt:RateControl>{h264}"
        "</tt:VideoEncoderConfiguration></trt:Profiles>"
    )


def answer(shape: Shape, question) -> str:
    name = etree.QName(question).localname
    version2 = etree.QName(question).namespace == MEDIA2
    t = now()
    match name:
        case "GetSystemDateAndTime":
            return (
                "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>Manual</tt:DateTimeType>"
                f"<tt:UTCDateTime><tt:Time><tt:Hour>{t.hour}</tt:Hour><tt:Minute>{t.minute}</tt:Minute><tt:Second>{t.second}"
                f"</tt:Second></tt:Time><tt:Date><tt:Year>{t.year}</tt:Year><tt:Month>{t.month}</tt:Month><tt:Day>{t.day}</tt:Day>"
                "</tt:Date></tt:UTCDateTime></tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"
            )
        case "GetServices" if shape.services:
            services = [(DEVICE, "/onvif/device_service"), (MEDIA, "/onvif/Media")]
            services += [(MEDIA2, "/onvif/Media2")] if shape.media2 else []
            return "<tds:GetServicesResponse>" + "".join(
                f"<tds:Service><tds:Namespace>{namespace}</tds:Namespace><tds:XAddr>{own_address(path)}</tds:XAddr></tds:Service>"
                for namespace, path in services
            ) + "</tds:GetServicesResponse>"
        case "GetCapabilities":
            return (
                "<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>"
                f"{own_address('/onvif/Media')}</tt:XAddr></tt:Media></tds:Capabilities></tds:GetCapabilitiesResponse>"
            )
        case "GetDeviceInformation":
            return (
                f"<tds:GetDeviceInformationResponse><tds:Manufacturer>{shape.manufacturer}</tds:Manufacturer><tds:Model>"
                f"{shape.model}</tds:Model><tds:FirmwareVersion>V5.4.5</tds:FirmwareVersion><tds:SerialNumber>{shape.model}-0815"
                "</tds:SerialNumber><tds:HardwareId>88</tds:HardwareId></tds:GetDeviceInformationResponse>"
            )
        case "GetScopes":
            return "<tds:GetScopesResponse>" + "".join(
                f"<tds:Scopes><tt:ScopeDef>Fixed</tt:ScopeDef><tt:ScopeItem>{scope}</tt:ScopeItem></tds:Scopes>"
                for scope in scopes_of(shape)
            ) + "</tds:GetScopesResponse>"
        case "GetProfiles" if not version2 or shape.media2:
            inner = "".join(profile(shape, stream, version2) for stream in shape.streams)
            prefix = "tr2" if version2 else "trt"
            return f"<{prefix}:GetProfilesResponse>{inner}</{prefix}:GetProfilesResponse>"
        case "GetStreamUri":
            token = question.findtext("{*}ProfileToken")
            uri = next(stream[-1] for stream in shape.streams if stream[0] == token)
            uri = uri.format(host=args.own_host or args.host).replace("&", "&amp;")
            if version2:
                return f"<tr2:GetStreamUriResponse><tr2:Uri>{uri}</tr2:Uri></tr2:GetStreamUriResponse>"
            return f"<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>{uri}</tt:Uri></trt:MediaUri></trt:GetStreamUriResponse>"
    return ""


def envelope(shape: Shape, inner: str) -> bytes:
    p = shape.prefix
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{p}:Envelope xmlns:{p}="{SOAP}" xmlns:tds="{DEVICE}" xmlns:trt="{MEDIA}"'
        f' xmlns:tr2="{MEDIA2}" xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:ter="http://www.onvif.org/ver10/error">'
        f"<{p}:Header/><{p}:Body>{inner}</{p}:Body></{p}:Envelope>"
    )
    # Some firmware sends the zero at the end of its buffer, too.
    return text.encode() + (b"\0" if p == "s" else b"")


def fault(shape: Shape, code: str, reason: str) -> bytes:
    p = shape.prefix
    return envelope(shape, (
        f"<{p}:Fault><{p}:Code><{p}:Value>{p}:Sender</{p}:Value><{p}:Subcode><{p}:Value>ter:{code}</{p}:Value></{p}:Subcode></{p}:Code>"
        f'<{p}:Reason><{p}:Text xml:lang="en">{reason}</{p}:Text></{p}:Reason></{p}:Fault>'
    ))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def reply(self, status: int, body: bytes, headers=()) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        shape = SHAPES[args.shape]
        text = self.rfile.read(int(self.headers["Content-Length"]))
        if args.password and args.password.encode() in text + str(self.headers).encode():
            say("the password came in the clear")
        if "Basic" in self.headers.get("Authorization", ""):
            say("Basic")
        question = etree.fromstring(text).find(f"{{{SOAP}}}Body")[0]
        name = etree.QName(question).localname
        say(f"asked {name}" if (wrong := problem_of(question)) is None else f"wrong {name}: {wrong}")
        if not name.startswith("Get"):
            say(f"{name} is no question")
        if args.shape == "hostile" and name == "GetProfiles":
            # Far more than an answer may be, of a kind that grows when it is read.
            return self.reply(200, b"<a>" * (4 << 20))
        if name not in ("GetSystemDateAndTime", "GetServices", "GetCapabilities"):
            known = {
                "none": lambda: True,
                "token": lambda: is_known_by_token(etree.fromstring(text)),
                "digest": lambda: is_known_by_digest(self.headers.get("Authorization"), self.path),
                "basic": lambda: False,
            }[args.auth]()
            if not known:
                refusal = fault(shape, "NotAuthorized", "Sender not Authorized")
                challenge = {
                    "digest": f'Digest qop="auth", realm="{REALM}", nonce="{time.time_ns():x}", stale="FALSE"',
                    "basic": f'Basic realm="{REALM}"',
                }.get(args.auth)
                if challenge:
                    return self.reply(401, refusal, [("WWW-Authenticate", challenge)])
                return self.reply(400, refusal)
        inner = answer(shape, question)
        if not inner:
            return self.reply(500, fault(shape, "ActionNotSupported", "Optional Action Not Implemented"))
        self.reply(200, envelope(shape, inner))


class Server(ThreadingHTTPServer):
    def handle_error(self, *_) -> None:
        """Who goes away before the end of an answer has read enough."""


server = Server((args.host, args.port), Handler)
PORT = server.server_address[1]

if args.announce:
    from wsdiscovery import QName, Scope
    from wsdiscovery.publishing import ThreadedWSPublishing

    def overhear() -> None:
        """Checks questions to all by the schema. Whether they are answered is the package's decision."""
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind(("239.255.255.250", 3702))
        member = socket.inet_aton("239.255.255.250") + socket.inet_aton(args.host)
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        while True:
            question = etree.fromstring(ear.recv(65535)).find(f"{{{SOAP}}}Body")[0]
            name = etree.QName(question).localname
            if name == "Probe":
                wrong = problem_of(question)
                say(f"asked Probe {question.findtext('{*}Types')}" if wrong is None else f"wrong Probe: {wrong}")

    threading.Thread(target=overhear, daemon=True).start()
    publisher = ThreadedWSPublishing()
    publisher.start()
    publisher.publishService(
        types=[QName("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter", "dn")],
        scopes=[Scope(scope) for scope in scopes_of(SHAPES[args.shape])],
        xAddrs=[own_address("/onvif/device_service")],
    )

say(f"listening {PORT}")
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit()
