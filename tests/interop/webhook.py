"""Receives what a node posts, checks each signature with the function that docs/guide/webhooks.md gives to its readers, and writes a
line of JSON for each event. It answers 200."""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, GUIDE, SECRET = int(sys.argv[1]), sys.argv[2], open(sys.argv[3], "rb").read().strip()

snippet = re.search(r"```python\n(.*?is_genuine.*?)```", open(GUIDE, encoding="utf-8").read(), re.S)
names = {}
exec(snippet.group(1), names)
is_genuine = names["is_genuine"]


class Hook(BaseHTTPRequestHandler):
    # Connections are kept, as by real servers.
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signature = self.headers["Twinsight-Signature"]
        t, v1 = signature.split(",")
        wrong = [
            (signature, body + b" "),
            (f"t={int(t[2:]) + 1},{v1}", body),
            (f"{t},v1=00", body),
            (t, body),
            ("", body),
        ]
        line = {
            "event": self.headers["Twinsight-Event"],
            "delivery": self.headers["Twinsight-Delivery"],
            "path": self.path,
            "genuine": is_genuine(SECRET, signature, body),
            "fooled": any(is_genuine(SECRET, *each) for each in wrong)
            or is_genuine(b"another secret", signature, body)
            # The same request an hour later, when it has been recorded.
            or is_genuine(SECRET, signature, body, tolerance_s=-1),
            "data": json.loads(body),
        }
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        # Only now, since who reads this line may end this program, and a request without an answer is made again.
        print(json.dumps(line), flush=True)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", PORT), Hook)
print("listening", server.server_address[1], flush=True)
server.serve_forever()
