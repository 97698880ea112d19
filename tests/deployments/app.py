"""A small application to deploy: `python app.py PORT_OR_SOCKET`. It ends well when it is asked to.

`/` says its version, `/slow` takes 0.8 s, `/bad` fails, `/health/ready` is ready after READY_AFTER seconds or never (a
negative number).
"""

import os
import signal
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler

BEGAN = time.monotonic()
READY_AFTER = float(os.environ.get("READY_AFTER", "0"))
under_way = 0
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        global under_way
        with lock:
            under_way += 1
        try:
            super().handle_one_request()
        finally:
            with lock:
                under_way -= 1

    def answer(self, code: int, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/health/ready":
            ready = READY_AFTER >= 0 and time.monotonic() - BEGAN >= READY_AFTER
            self.answer(200 if ready else 503, "ready" if ready else "not yet")
        elif self.path == "/bad":
            self.answer(500, "bad")
        else:
            if self.path == "/slow":
                time.sleep(0.8)
            self.answer(200, os.environ["OPS_VERSION"])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(200, os.environ["OPS_VERSION"])


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256


class UnixServer(Server):
    address_family = socket.AF_UNIX


def main() -> None:
    place = sys.argv[1]
    server = Server(("127.0.0.1", int(place)), Handler) if place.isdigit() else UnixServer(place, Handler)

    def end(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    print(f"{os.environ['OPS_VERSION']} listens on {place}", flush=True)
    server.serve_forever(0.05)
    server.server_close()
    give_up = time.monotonic() + 5
    while under_way and time.monotonic() < give_up:
        time.sleep(0.02)


if __name__ == "__main__":
    main()
