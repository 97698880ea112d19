"""The webhook of CI: who is heard, what comes of it, the same message twice, and what a stranger learns."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from catalog.models import Environment, Service
from deployments import ci, duties
from deployments.models import (
    ChecklistItem,
    ChecklistTemplate,
    Deployment,
    DeploymentProfile,
    Release,
    ReleaseRules,
    Scan,
)
from operations.models import Event
from tests.deployments.api_rows import CHECKSUM
from tests.deployments.conftest import Stage
from tests.furnished import fingerprint
from tests.operations.conftest import at_once
from webhooks import signing

SECRET, OTHER = "whsec_" + "QUJD" * 12, "whsec_" + "REVG" * 12
VARIABLE = "OPS_SECRET_CI_ERP"
ARTEFACT = {"source_kind": "image", "source": "shop/erp", "checksum": CHECKSUM}
MESSAGE = {"event": "release", "version": "v1.4.0", **ARTEFACT}
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "webhooks.md").read_text()


@pytest.fixture
def rules(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> ReleaseRules:
    monkeypatch.setenv(VARIABLE, SECRET)
    return ReleaseRules.objects.create(service=stage.service, ci_secret_ref=f"env:{VARIABLE}")


def send(
    message: Any = None, *, id: str = "run-1", secret: str = SECRET, at: float = 0, to: str = "erp", **headers: str
) -> Any:
    """As CI sends it; `at` is how many seconds from now it was signed."""
    body = message if isinstance(message, bytes) else json.dumps(message or MESSAGE).encode()
    signed = signing.headers(secret, id, int(time.time() + at), body)
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    return client.post(
        f"/hooks/ci/{to}/", body, content_type="application/json", headers={**signed, **headers}, follow=False
    )


class TestWhatComesOfIt:
    def test_a_release_with_what_was_found(self, rules: ReleaseRules) -> None:
        scans = [{"kind": "security", "tool": "scanner", "high": 1}, {"kind": "sbom", "tool": "lister"}]
        more = {
            "ci": "passed",
            "ci_url": "https://ci.example.org/42",
            "scans": scans,
            "notes": "Faster",
            "changes_schema": True,
        }
        answer = send({**MESSAGE, **more, "variables": ["DATABASE_URL"]})
        release = Release.objects.get()
        assert (answer.status_code, answer.json()["release"]["id"]) == (200, release.pk)
        assert answer.json()["deployments"] == []
        assert (release.version, release.ci, release.ci_url) == ("v1.4.0", "passed", "https://ci.example.org/42")
        assert (release.notes, release.changes_schema, release.variables) == ("Faster", True, ["DATABASE_URL"])
        assert list(Scan.objects.order_by("pk").values_list("tool", "high")) == [("scanner", 1), ("lister", 0)]
        event = Event.objects.get(name="release.reported")
        assert event.sentence == "CI reported ERP v1.4.0: passed."
        assert event.data["service"] == "erp" and event.subject_id == release.pk

    def test_a_tag_alone_deploys_nothing(self, rules: ReleaseRules) -> None:
        send()
        assert not Deployment.objects.exists()

    def test_named_environments_start_by_themselves_behind_their_gates(self, rules: ReleaseRules, stage: Stage) -> None:
        dev = Environment.objects.create(service=stage.service, name="dev", slug="dev", kind="development")
        DeploymentProfile.objects.create(environment=dev, settings={"file": str(stage.folder / "dev.json")})
        stage.change(approvals=1, promotes_from=dev)
        found = send({**MESSAGE, "deploy_to": ["dev", "production", "dev"]}).json()["deployments"]
        assert [each["environment"] for each in found] == ["dev", "production"]
        assert found[0]["obstacles"] == []
        assert [sentence.split(".")[0] for sentence in found[1]["obstacles"]] == ["0 of 1 approvals are given", "v1"]
        assert duties.start_due() == 1
        row = Deployment.objects.get(pk=found[0]["id"])
        assert (row.trigger, row.requested_by, row.starts_itself) == ("api", None, True)
        assert stage.carry_out(row).state == "live"
        assert duties.start_due() == 0

    def test_running_first_and_passed_later(self, rules: ReleaseRules, stage: Stage) -> None:
        template = ChecklistTemplate.objects.create(name="CI")
        ChecklistItem.objects.create(template=template, text="CI passes", kind="ci")
        stage.change(checklist=template)
        first = send({**MESSAGE, "ci": "running", "deploy_to": ["production"]}).json()["deployments"][0]
        assert "Let it pass" in first["obstacles"][0] and duties.start_due() == 0
        second = send({**MESSAGE, "ci": "passed", "deploy_to": ["production"]}, id="run-2").json()["deployments"][0]
        assert second["id"] == first["id"] and second["obstacles"] == []
        assert duties.start_due() == 1

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"deploy_to": ["moon"]}, "has no environment “moon”. It has: production."),
            ({"version": "latest"}, "is no version of ERP"),
            ({"version": "v1.0.0; id"}, "is no version of ERP"),
            ({"version": "../../v1"}, "is no version of ERP"),
            ({"source": "--help"}, "does not begin with"),
            ({"event": "push"}, "event"),
            ({"scans": [{"kind": "security", "tool": "x", "high": -1}]}, "scans.0.high"),
            ({"scans": [{"kind": "other", "tool": "x", "report": {"a": "\0"}}]}, "NUL"),
            ({"emergency": True}, "emergency"),
            ({"ci_url": "javascript:alert(1)"}, "valid URL"),
        ],
    )
    def test_of_what_is_not_possible_nothing_is_done(
        self, rules: ReleaseRules, change: dict[str, Any], sentence: str
    ) -> None:
        before = fingerprint()
        answer = send({**MESSAGE, "ci": "passed", **change})
        assert (answer.status_code, answer["Content-Type"]) == (422, "application/problem+json")
        assert sentence in answer.json()["detail"]
        assert fingerprint() == before

    @pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b"\xff", b"[" * 50_000, b'{"event": NaN}'])
    def test_a_body_that_is_none(self, rules: ReleaseRules, body: bytes) -> None:
        assert send(body).status_code == 422 and not Release.objects.exists()

    def test_another_artefact_of_the_same_version(self, rules: ReleaseRules) -> None:
        send()
        answer = send({**MESSAGE, "checksum": f"sha256:{'b' * 64}"}, id="run-2")
        assert answer.status_code == 422 and "A release never changes" in answer.json()["detail"]


class TestTwice:
    def test_the_same_message_gives_what_came_of_the_first(self, rules: ReleaseRules) -> None:
        message = {**MESSAGE, "ci": "passed", "scans": [{"kind": "sbom", "tool": "x"}], "deploy_to": ["production"]}
        answers = at_once(*[lambda: send(message)] * 4)
        assert {answer.status_code for answer in answers} == {200}
        assert len({json.dumps(answer.json()) for answer in answers}) == 1
        assert (Release.objects.count(), Scan.objects.count(), Deployment.objects.count()) == (1, 1, 1)
        assert Event.objects.filter(name="release.reported").count() == 1

    def test_an_earlier_word_of_ci_that_is_sent_again_does_not_count(self, rules: ReleaseRules) -> None:
        send({**MESSAGE, "ci": "passed"})
        send({**MESSAGE, "ci": "failed"}, id="run-2")
        assert send({**MESSAGE, "ci": "passed"}).status_code == 200
        assert Release.objects.get().ci == "failed"

    def test_another_message_under_the_same_id_is_refused(self, rules: ReleaseRules) -> None:
        send()
        answer = send({**MESSAGE, "version": "v1.5.0"})
        assert answer.status_code == 422 and "was used for another message" in answer.json()["detail"]
        assert Release.objects.count() == 1

    def test_the_ids_of_two_services_are_their_own(self, rules: ReleaseRules) -> None:
        other = Service.objects.create(name="Shop", slug="shop")
        ReleaseRules.objects.create(service=other, ci_secret_ref=f"env:{VARIABLE}")
        assert send().status_code == send(to="shop").status_code == 200
        assert Release.objects.count() == 2


class TestStrangers:
    def test_unknown_and_wrong_look_the_same(
        self, rules: ReleaseRules, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Service.objects.create(name="No rules", slug="no-rules")
        ReleaseRules.objects.create(service=Service.objects.create(name="No secret", slug="no-secret"))
        gone = Service.objects.create(name="Gone", slug="gone")
        ReleaseRules.objects.create(service=gone, ci_secret_ref="env:OPS_SECRET_NOT_SET")
        short = Service.objects.create(name="Short", slug="short")
        monkeypatch.setenv("OPS_SECRET_SHORT", "short")
        ReleaseRules.objects.create(service=short, ci_secret_ref="env:OPS_SECRET_SHORT")
        before = fingerprint()
        wrong = send(secret=OTHER)
        nobody = [send(to=slug) for slug in ("nothing", "no-rules", "no-secret", "gone", "short", "a%00b", "ERP")]
        unsigned = Client().post("/hooks/ci/erp/", b"{}", content_type="application/json")
        answers = [wrong, *nobody, unsigned, send(**{"webhook-signature": ""})]
        assert {answer.status_code for answer in answers} == {401}
        assert len({answer.content for answer in answers}) == 1
        assert {answer["Content-Type"] for answer in answers} == {"application/problem+json"}
        assert fingerprint() == before

    @pytest.mark.parametrize("at", [-301, -86_400, 310])
    def test_an_old_message_is_refused(self, rules: ReleaseRules, at: int) -> None:
        answer = send(at=at)
        assert answer.status_code == 401 and "5 minutes" in answer.json()["detail"]
        assert send(at=at, secret=OTHER).json()["detail"] == ci.NOT_TAKEN
        assert not Release.objects.exists()

    @pytest.mark.parametrize(
        "header",
        [
            {"webhook-id": "other"},
            {"webhook-id": ""},
            {"webhook-id": "x" * 300},
            {"webhook-timestamp": "now"},
            {"webhook-timestamp": "-1"},
            {"webhook-timestamp": "9" * 4000},
            {"webhook-timestamp": "१"},
            {"webhook-signature": "v1,"},
            {"webhook-signature": "v1,ü"},
            {"webhook-signature": "v2,AAAA"},
        ],
    )
    def test_what_was_signed_counts(self, rules: ReleaseRules, header: dict[str, str]) -> None:
        assert send(**header).status_code == 401 and not Release.objects.exists()

    def test_several_signatures_and_several_secrets(self, rules: ReleaseRules, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, f"{OTHER}\n{SECRET}\n")
        assert send().status_code == 200
        assert send({**MESSAGE, "version": "v1.5.0"}, id="run-2", secret=OTHER).status_code == 200
        body = json.dumps({**MESSAGE, "version": "v1.6.0"}).encode()
        good = signing.headers(SECRET, "run-3", int(time.time()), body)["webhook-signature"]
        assert (
            send(body, id="run-3", secret="whsec_" + "AAAA" * 12, **{"webhook-signature": f"v1,x {good}"}).status_code
            == 200
        )

    def test_a_get_is_none_and_a_big_one_is_too_big(self, rules: ReleaseRules) -> None:
        assert Client().get("/hooks/ci/erp/").status_code == 405
        assert send({**MESSAGE, "notes": "x" * (ci.MOST_BYTES + 1)}).status_code == 413
        assert send({**MESSAGE, "notes": "x" * 5_000_000}).status_code == 413
        assert not Release.objects.exists()

    def test_no_secret_is_logged(self, rules: ReleaseRules, caplog: pytest.LogCaptureFixture) -> None:
        send(secret=OTHER)
        send(to="a%0a2026-01-01 ERROR forged")
        assert "was not taken" in caplog.text and "\n2026-01-01 ERROR forged" not in caplog.text
        assert SECRET not in caplog.text and OTHER not in caplog.text and "QUJD" not in caplog.text


@pytest.mark.needs("openssl", "base64", "od")
def test_the_documented_shell_signs_what_is_taken(rules: ReleaseRules, tmp_path: Path) -> None:
    code = next(block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "hexkey" in block)
    code = code.replace("sha256:…", CHECKSUM).replace('["dev", "staging"]', '["production"]')
    code = re.sub(r"curl .*", 'printf "%s\\\\n%s\\\\n%s\\\\n%s" "$id" "$now" "$mac" "$body"', code, flags=re.DOTALL)
    done = subprocess.run(
        ["sh", "-c", code], env={"SECRET": SECRET, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    message_id, moment, mac, body = done.stdout.split("\n", 3)
    headers = {"webhook-id": message_id, "webhook-timestamp": moment, "webhook-signature": f"v1,{mac}"}
    answer = send(body.encode(), **headers)
    assert answer.status_code == 200, answer.content
    assert Release.objects.get().ci == "passed" and Deployment.objects.get().requested_at <= timezone.now()
