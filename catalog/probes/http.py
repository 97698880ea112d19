"""A web address: status, contents, JSON, certificate, speed."""

from __future__ import annotations

import json
import math
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from django import forms

from catalog.probes.base import Finding, PlainField, Probe, State, Surroundings, bounded
from catalog.probes.network import dialler
from catalog.secrets import validate_secret_reference
from core.exceptions import PortalError
from core.outbound import Dial, Response, fetch, plain_host
from operations.masking import mask

LONGEST_VALUE = 60


class HttpForm(forms.Form):
    url = forms.URLField(
        label="URL",
        max_length=500,
        assume_scheme="https",
        help_text="For example https://erp.example.org/health/ready.",
    )
    status = forms.IntegerField(label="Expected status", initial=200, min_value=100, max_value=599)
    text = PlainField(label="Expected text", required=False, max_length=200, help_text="Must occur in the answer.")
    json_path = PlainField(
        label="JSON value", required=False, max_length=200, help_text="Path to a value, for example checks.0.status."
    )
    json_value = PlainField(
        label="Expected value", required=False, max_length=200, help_text="Written as JSON or text."
    )
    certificate_days = forms.IntegerField(
        label="Warn before the certificate ends (days)", required=False, min_value=1, max_value=397, initial=30
    )
    requests = forms.IntegerField(
        label="Requests", initial=1, min_value=1, max_value=50, help_text="With several, the slowest 5 % count (p95)."
    )
    limit_s = forms.FloatField(label="Warn above (seconds)", required=False, min_value=0.001, max_value=300)
    token_ref = PlainField(
        label="Bearer token reference",
        required=False,
        max_length=500,
        validators=[validate_secret_reference],
        help_text="Where the token is: env:OPS_SECRET_NAME or file:/run/secrets/name.",
    )

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        if not url.startswith(("http://", "https://")):
            raise forms.ValidationError("Write a URL that begins with https:// or http://.")
        if "@" in url.split("/")[2]:
            raise forms.ValidationError("A URL must not contain a user or a password. Give a token by its reference.")
        try:
            plain_host(url.split("/")[2].rpartition("]")[0].lstrip("[") or url.split("/")[2].partition(":")[0])
        except PortalError as error:
            raise forms.ValidationError(error.message) from None
        return url

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("json_value") and not values.get("json_path"):
            self.add_error("json_path", "Say where in the answer that value stands.")
        return values


class HttpProbe(Probe):
    """Asks once or several times; the answer must be the expected one each time."""

    kind = "http"
    label = "HTTP"
    form = HttpForm
    _token = ""

    def shown(self) -> str:
        return str(self.parameters["url"])

    def ask(self, around: Surroundings) -> Finding:
        headers = {"Accept": "application/json, text/html;q=0.9, */*;q=0.8"}
        if reference := self.parameters.get("token_ref"):
            self._token = around.secret(reference)
            headers["Authorization"] = f"Bearer {self._token}"
        with ExitStack() as stack:
            return self._ask(around, headers, dialler(around, stack))

    def _ask(self, around: Surroundings, headers: dict[str, str], dial: Dial | None) -> Finding:
        latencies: list[float] = []
        give_up = time.monotonic() + around.timeout_s
        for _ in range(self.parameters.get("requests") or 1):
            left = give_up - time.monotonic()
            if left <= 0:
                return Finding(State.BAD, f"Only {len(latencies)} requests were answered in {around.timeout_s:g} s.")
            response = fetch(
                "GET", self.parameters["url"], allow=around.allow, headers=headers, timeout_s=left, dial=dial
            )
            latencies.append(response.seconds)
            if wrong := self._wrong(response):
                return Finding(State.BAD, wrong, response.seconds, {"status": response.status})
        return self._good(response, latencies)

    def _wrong(self, response: Response) -> str:
        """What is not as expected, in a sentence."""
        expected = self.parameters.get("status") or 200
        if response.status != expected:
            place = self._masked(response.headers.get("location", ""))[:200]
            to = f" It leads to {place}." if response.is_redirect else ""
            return f"The answer was {response.status}, expected is {expected}.{to}"
        text = self._masked(response.body.decode("utf-8", "replace"))
        if (wanted := self.parameters.get("text")) and wanted not in text:
            return f"The answer does not contain “{wanted}”."
        if path := self.parameters.get("json_path"):
            return self._wrong_json(text, path)
        return ""

    def _masked(self, text: str) -> str:
        """What came back, without the token: some servers repeat what they were sent."""
        return mask(text, (self._token,))

    def _wrong_json(self, text: str, path: str) -> str:
        try:
            value = json.loads(text)
        except ValueError:
            return "The answer is not JSON."
        for key in path.split("."):
            try:
                value = value[int(key)] if isinstance(value, list) else value[key]
            except (KeyError, IndexError, ValueError, TypeError):
                return f"The answer has no value at {path}."
        expected = self.parameters.get("json_value")
        if expected and not _same(value, expected):
            return f"{path} is {json.dumps(value)[:LONGEST_VALUE]}, expected is {expected}."
        return ""

    def _good(self, response: Response, latencies: list[float]) -> Finding:
        p95 = sorted(latencies)[max(0, math.ceil(0.95 * len(latencies)) - 1)]
        figures = {"status": float(response.status), "p95_s": p95, "requests": float(len(latencies))}
        many = f"{len(latencies)} answers, 95 % of them" if len(latencies) > 1 else f"Status {response.status}"
        finding = Finding(State.OK, f"{many} within {p95:.3f} s.", p95, figures)
        if response.certificate_ends:
            days = (response.certificate_ends - datetime.now(UTC)).total_seconds() / 86400
            finding = Finding(State.OK, finding.sentence, p95, {**figures, "certificate_days": round(days, 1)})
            limit = self.parameters.get("certificate_days")
            if limit and days < limit:
                sentence = f"{finding.sentence} The certificate ends in {days:.0f} days. Renew it."
                return Finding(State.WARN, sentence, p95, finding.figures)
        return bounded(finding, self.parameters.get("limit_s"))


def _same(value: Any, expected: str) -> bool:
    """Whether a JSON value is the one that somebody typed, as JSON or as plain text."""
    try:
        return bool(json.loads(expected) == value) or value == expected
    except ValueError:
        return bool(value == expected)
