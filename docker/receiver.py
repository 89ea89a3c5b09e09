"""A receiver to try webhooks with: verifies each signature and prints each event. Uses only the standard library."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import time

KEY = base64.b64decode(os.environ["SIGNING_SECRET"].removeprefix("whsec_"))
HOST, PORT = os.environ.get("LISTEN_ADDR", "127.0.0.1:9000").rsplit(":", 1)
TOLERANCE_SECONDS = 300


class Webhook(http.server.BaseHTTPRequestHandler):
    """Responds with 204 if the signature is valid and recent, else with 401."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        event_id, timestamp = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        expected = base64.b64encode(
            hmac.digest(KEY, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256)
        ).decode()
        signatures = [signature.removeprefix("v1,") for signature in self.headers["webhook-signature"].split()]
        genuine = any(hmac.compare_digest(expected, signature) for signature in signatures)
        fresh = abs(time.time() - int(timestamp)) < TOLERANCE_SECONDS
        self.send_response(204 if genuine and fresh else 401)
        self.end_headers()
        print(event_id, json.loads(body)["type"] if genuine and fresh else "REFUSED", flush=True)

    def log_message(self, *_):
        """do_POST already prints a line for each message."""


server = http.server.ThreadingHTTPServer((HOST, int(PORT)), Webhook)
print(f"listens on {HOST}:{server.server_port}", flush=True)
server.serve_forever()
