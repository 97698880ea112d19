"""Objects in a bucket that speaks S3: written whole, or not at all.

Requests are signed by AWS Signature Version 4
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html) and go through `core.outbound`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from core import outbound
from core.exceptions import PortalError

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Service:
    """Where the buckets are and who writes. The secret stays out of `repr`."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    allow: outbound.Allowed = field(default_factory=outbound.Allowed)

    def put(self, bucket: str, key: str, data: bytes, content_type: str) -> None:
        """Write one object. Raises PortalError with a sentence."""
        parts = urlsplit(self.endpoint)
        path = f"{parts.path.rstrip('/')}/{quote(bucket, safe='')}/{quote(key, safe='/')}"
        now = datetime.now(UTC)
        digest = hashlib.sha256(data).hexdigest()
        headers = {
            "content-type": content_type,
            "host": parts.netloc,
            "x-amz-content-sha256": digest,
            "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}",
        }
        headers["authorization"] = authorization("PUT", path, headers, self)
        answer = outbound.fetch(
            "PUT",
            f"{parts.scheme}://{parts.netloc}{path}",
            allow=self.allow,
            headers={"Host": headers.pop("host"), **headers},
            body=data,
            timeout_s=TIMEOUT_S,
            max_bytes=16_384,
        )
        if answer.status != 200:
            raise PortalError(_sentence(answer, bucket, key))


def authorization(method: str, path: str, headers: Mapping[str, str], service: Service) -> str:
    """The Authorization header. `path` is percent-encoded; `headers` are those that are signed, in small letters."""
    names = sorted(headers)
    moment = headers["x-amz-date"]
    scope = f"{moment[:8]}/{service.region}/s3/aws4_request"
    lines = [f"{name}:{' '.join(headers[name].split())}" for name in names]
    request = "\n".join([method, path, "", *lines, "", ";".join(names), headers["x-amz-content-sha256"]])
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{service.secret_key}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    credential = f"Credential={service.access_key}/{scope}"
    return f"AWS4-HMAC-SHA256 {credential},SignedHeaders={';'.join(names)},Signature={key.hex()}"


def _sentence(answer: outbound.Response, bucket: str, key: str) -> str:
    """What the service's XML says, if it says something."""
    text = answer.body.decode("utf-8", "replace")
    code = re.search(r"<Code>(\w{1,60})</Code>", text)
    why = f"{answer.status} {code[1]}" if code else str(answer.status)
    return f"The bucket {bucket} did not take {key} ({why}). Check its name, the region, and what the key may write."
