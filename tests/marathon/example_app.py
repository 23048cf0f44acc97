"""An app to try a Marathon with: `python example_app.py`, listening at PORT0, told by its environment how to behave.

SICK_FILE: unhealthy while it exists. SLOW: seconds before it listens. READY_FILE: unready until it exists.
DEAF: SIGTERM is ignored.
"""

from __future__ import annotations

import os
import signal
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        sick, ready = os.environ.get("SICK_FILE"), os.environ.get("READY_FILE")
        bad = (self.path == "/healthz" and sick and os.path.exists(sick)) or (
            self.path == "/readyz" and ready and not os.path.exists(ready)
        )
        body = os.environ.get("SAYS", "").encode()
        self.send_response(503 if bad else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("DEAF") else lambda *_: os._exit(0))
time.sleep(float(os.environ.get("SLOW", "0")))
print("listening", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT0"])), Answers).serve_forever()
