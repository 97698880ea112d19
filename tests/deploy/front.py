"""A browser in front of a proxy with TLS."""

import http.client
import re
import socket
import ssl
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from tests.deploy.site import NAME


@dataclass
class Front:
    """It checks the certificate and keeps cookies."""

    tls: ssl.SSLContext
    https_port: int
    http_port: int
    cookies: SimpleCookie = field(default_factory=SimpleCookie)

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, dict, str]:
        connection = http.client.HTTPSConnection(NAME, self.https_port, context=self.tls, timeout=30)
        plain = socket.create_connection(("127.0.0.1", self.https_port))
        connection.sock = self.tls.wrap_socket(plain, server_hostname=NAME)
        kept = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        headers = {"Host": NAME, "Cookie": kept, **headers}
        if form is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Referer": f"https://{NAME}{path}"}
            headers |= {"Origin": f"https://{NAME}"}
        connection.request(method, path, body=urlencode(form) if form else None, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        for value in answer.headers.get_all("Set-Cookie", []):
            self.cookies.load(value)
        connection.close()
        return answer.status, dict(answer.headers), body

    def sign_in(self, password: str) -> int:
        body = self.ask("GET", "/login/")[2]
        (token,) = set(re.findall('name="csrfmiddlewaretoken" value="(.+?)"', body))
        form = {"csrfmiddlewaretoken": token, "username": "ada", "password": password, "next": "/"}
        return self.ask("POST", "/login/", form)[0]


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
