"""A small application to deploy: `python app.py PORT_OR_SOCKET`. It ends well when it is asked to.

`/` says its version, `/slow` says it bit by bit within SLOW_S seconds, `/bad` fails, `/health/ready` is ready after
READY_AFTER seconds or never (a negative number). The header `Ask` comes back; what a POST asks is also a line of the
file LEDGER, where one is given: a POST that is carried out twice stands there twice.
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
SLOW_S = float(os.environ.get("SLOW_S", "0.8"))
LEDGER = os.environ.get("LEDGER", "")
under_way = 0
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # the answer is one write

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

    def answer(self, code: int, text: str, within_s: float = 0) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        if ask := self.headers.get("Ask"):
            self.send_header("Ask", ask)
        self.end_headers()
        if within_s:
            for bit in body:
                self.wfile.write(bytes((bit,)))
                self.wfile.flush()
                time.sleep(within_s / len(body))
        else:
            self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/health/ready":
            ready = READY_AFTER >= 0 and time.monotonic() - BEGAN >= READY_AFTER
            self.answer(200 if ready else 503, "ready" if ready else "not yet")
        elif self.path == "/bad":
            self.answer(500, "bad")
        else:
            self.answer(200, os.environ["OPS_VERSION"], SLOW_S if self.path == "/slow" else 0)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if LEDGER:
            line = os.open(LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.write(line, f"{self.headers.get('Ask')}\n".encode())
            os.close(line)
        self.answer(200, os.environ["OPS_VERSION"])


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256


class UnixServer(Server):
    address_family = socket.AF_UNIX


def main() -> None:
    place = sys.argv[1]
    address = ("127.0.0.1", int(place)) if place.isdigit() else place
    server = (Server if place.isdigit() else UnixServer)(address, Handler)  # type: ignore[arg-type]

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
