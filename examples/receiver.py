"""Receives webhooks at http://127.0.0.1:9000/webhook and verifies their signature (SIGNING_SECRET)."""

import base64, hashlib, hmac, http.server, json, os, time

KEY = base64.b64decode(os.environ["SIGNING_SECRET"].removeprefix("whsec_"))

class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        event_id, timestamp = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        signed = f"{event_id}.{timestamp}.".encode() + body
        expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        signatures = [s.removeprefix("v1,") for s in self.headers["webhook-signature"].split()]
        genuine = any(hmac.compare_digest(expected, s) for s in signatures)
        fresh = abs(time.time() - int(timestamp)) < 300
        self.send_response(204 if genuine and fresh else 401)
        self.end_headers()
        if genuine and fresh:
            print(event_id, json.loads(body)["type"], flush=True)  # work after the response; skip repeated ids

http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Webhook).serve_forever()
