"""From the POST of a button, over real HTTP, to the moment the operation's first step starts."""

from __future__ import annotations

import http.client
import re
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from operations.models import Operation, OperationStep
from opsportal.bench.exceptions import BenchError
from opsportal.bench.portal import Place, Portal, finished, now
from opsportal.bench.report import Figure

GOAL_S = 1.0
_FIELD = re.compile(r'name="(csrfmiddlewaretoken|request_key)" value="([^"]+)"')


class Browser:
    """As much of a browser as a form needs: cookies, hidden fields."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}

    def sign_in(self, place: Place) -> None:
        """As the operator of the measurement."""
        fields = self.get("/login/")
        self.post("/login/", {**fields, "username": place.by.username, "password": place.password})

    def read(self, path: str) -> str:
        """A page as text; anything but 200 is an error."""
        status, body = self._ask("GET", path)
        if status != 200:
            raise BenchError(f"{path} answered {status}; see the log of the web server.")
        return body

    def get(self, path: str) -> dict[str, str]:
        """The hidden fields of the page's form."""
        fields = dict(_FIELD.findall(self.read(path)))
        if "csrfmiddlewaretoken" not in fields:
            raise BenchError(f"{path} came without the form that was expected.")
        return fields

    def post(self, path: str, values: dict[str, str]) -> None:
        """Send the form; anything but a redirect is an error."""
        status, body = self._ask("POST", path, urlencode(values))
        if status != 302:
            said = re.search(r'role="alert">.*?<span>(.*?)</span>', body, re.DOTALL)
            raise BenchError(f"POST {path} answered {status}: {said[1] if said else 'see the log of the web server'}")

    def _ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        web = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
            if method == "POST":
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            web.request(method, path, body=body or None, headers=headers)
            answer = web.getresponse()
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    self.cookies |= {key: morsel.value for key, morsel in SimpleCookie(value).items()}
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            web.close()


def measure(portal: Portal, place: Place, count: int) -> tuple[list[float], list[float]]:
    """Seconds from the POST to the first step, and of the answer to the POST itself, `count` times."""
    browser = Browser(portal.port)
    browser.sign_in(place)
    # A clean-up that finds nothing: the shortest operation that has a button.
    path = f"/backups/plan/{place.plan.pk}/do/prune/"
    to_step, to_answer = [], []
    for _ in range(count):
        fields = browser.get(path)
        clicked = now()
        browser.post(path, {**fields, "reason": "Measurement"})
        to_answer.append(now() - clicked)
        operation = finished(Operation.objects.get(idempotency_key=fields["request_key"]))
        first = OperationStep.objects.in_order().filter(operation=operation).first()
        assert first is not None and first.started_at
        to_step.append(first.started_at.timestamp() - clicked)
    return to_step, to_answer


def figures(to_step: list[float], to_answer: list[float]) -> list[Figure]:
    """For the report."""
    return [
        Figure("Click to first step", "s", to_step, GOAL_S, "p95"),
        Figure("Click to first step", "s", to_step, statistic="p50"),
        Figure("  answer to the click", "s", to_answer, statistic="p95"),
    ]
