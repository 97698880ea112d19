"""Exit code 0 when the portal in this container is ready. It asks under a name that ALLOWED_HOSTS lets in."""

import http.client
import os
import sys

name = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().removeprefix(".")
connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["PORT"]), timeout=4)
try:
    connection.request("GET", "/health/ready", headers={"Host": name if name not in ("", "*") else "127.0.0.1"})
    answer = connection.getresponse()
    sys.exit(0 if answer.status == 200 else f"{answer.status} {answer.read(500).decode(errors='replace')}")
except OSError as error:
    sys.exit(f"The web server does not answer: {error}")
