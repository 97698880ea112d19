"""Screens of probes: a form for each kind, Check now, and who may."""

from __future__ import annotations

import pytest

from catalog.models import Probe, Service
from catalog.probes import PROBES
from core.roles import Role
from operations import engine
from operations.models import Operation
from tests import factories
from tests.core.test_outbound import serving, url
from tests.pages import page_of

pytestmark = pytest.mark.django_db

ANSWERS: dict[str, dict[str, str]] = {
    "http": {"url": "https://erp.example.org/health", "status": "200", "requests": "5", "certificate_days": "30"},
    "tcp": {"host": "db1.example.org", "port": "5432"},
    "postgresql": {"host": "db1.example.org", "port": "5432", "database": "erp", "user": "ops"},
    "redis": {"host": "cache.example.org", "port": "6379", "password_ref": "env:OPS_SECRET_R"},
    "sqlite": {"path": "/srv/erp/erp.db", "tables": "users, orders"},
    "disk": {"path": "/srv", "warn_percent": "80", "bad_percent": "90"},
    "port_free": {"port": "8001"},
    "command": {"argv": "systemctl\nstatus\nnginx", "code": "0"},
}
WRONG: list[tuple[str, dict[str, str], str]] = [
    ("http", {"url": "ftp://example.org/"}, "begins with https:// or http://"),
    ("http", {"url": "http://user:pw@example.org/"}, "must not contain a user"),
    ("http", {"url": "http://0x7f.1/"}, "Enter a valid URL"),
    ("http", {"json_value": "ok"}, "Say where in the answer"),
    ("http", {"token_ref": "s3cret"}, "not a reference to a secret"),
    ("tcp", {"host": "-oProxyCommand=x"}, "one host name"),
    ("tcp", {"port": "70000"}, "less than or equal to 65535"),
    ("disk", {"path": "etc"}, "absolute path"),
    ("disk", {"path": "/srv/../etc"}, "absolute path"),
    ("disk", {"warn_percent": "95"}, "Warn before it is bad"),
    ("sqlite", {"path": "/a\nb"}, "invisible control characters"),
    ("command", {"argv": "-x"}, "must be a program"),
    ("command", {"argv": "\n"}, "required"),
]


@pytest.fixture
def administrator():
    return factories.browser(factories.PersonFactory(username="ada", role=Role.ADMINISTRATOR))


def test_every_kind_has_its_case():
    assert set(ANSWERS) == set(PROBES)


def test_the_kind_is_chosen_first(administrator):
    page = page_of(administrator.get("/catalog/probe/add/"))
    assert {f"/catalog/probe/add/?kind={kind}" for kind in PROBES} <= set(page.links)


@pytest.mark.parametrize("kind", ANSWERS)
def test_adding_and_changing_one(administrator, kind):
    environment = factories.EnvironmentFactory()
    address = f"/catalog/probe/add/?kind={kind}"
    form = page_of(administrator.get(address)).post
    values = {**form.fields, "environment": str(environment.pk), "name": "Health", "use": "check", **ANSWERS[kind]}
    response = administrator.post(address, values)
    assert response.status_code == 302, page_of(response).text
    probe = Probe.objects.get()
    assert probe.kind == kind
    for name, value in ANSWERS[kind].items():
        stored = probe.parameters[name]
        assert stored == (value.splitlines() if name == "argv" else type(stored)(value))
    assert page_of(administrator.get(f"/catalog/probe/{probe.pk}/")).text
    change = page_of(administrator.get(f"/catalog/probe/{probe.pk}/change/")).post
    again = administrator.post(f"/catalog/probe/{probe.pk}/change/", {**change.fields, "name": "Other"})
    assert again.status_code == 302
    before = probe.parameters
    probe.refresh_from_db()
    assert (probe.name, probe.parameters) == ("Other", before)


@pytest.mark.parametrize(("kind", "wrong", "words"), WRONG)
def test_bad_input_is_said_and_kept(administrator, kind, wrong, words):
    environment = factories.EnvironmentFactory()
    address = f"/catalog/probe/add/?kind={kind}"
    form = page_of(administrator.get(address)).post
    values = {**form.fields, "environment": str(environment.pk), "name": "Health", "use": "check", **ANSWERS[kind]}
    response = administrator.post(address, {**values, **wrong})
    assert response.status_code == 200
    page = page_of(response)
    assert words in page.text
    assert page.post.fields["name"] == "Health"
    assert not Probe.objects.exists()


def test_a_component_of_another_environment(administrator):
    form = page_of(administrator.get("/catalog/probe/add/?kind=tcp")).post
    other = factories.ComponentFactory()
    values = {**form.fields, **ANSWERS["tcp"], "environment": str(factories.EnvironmentFactory().pk), "name": "x"}
    response = administrator.post("/catalog/probe/add/?kind=tcp", {**values, "component": str(other.pk)})
    assert "belongs to another environment" in page_of(response).text


class TestCheckNow:
    def ask(self, address: str, role: Role = Role.RESPONDER) -> Operation:
        client = factories.browser(factories.PersonFactory(role=role))
        page = page_of(client.get(address))
        form = next(form for form in page.forms if form.action.endswith("/do/check_probes/"))
        response = client.post(form.action, form.fields)
        assert response.status_code == 302
        return Operation.objects.latest("pk")

    @pytest.mark.django_db(transaction=True)
    def test_a_probe_an_environment_and_a_service(self):
        with serving() as server:
            environment = factories.EnvironmentFactory(allowed_networks="127.0.0.0/8")
            good = factories.ProbeFactory(environment=environment, kind="http", parameters={"url": url(server)})
            bad = factories.ProbeFactory(environment=environment)
            other = factories.ProbeFactory(
                environment=factories.EnvironmentFactory(service=environment.service, slug="staging")
            )
            service: Service = environment.service
            for address, count in (
                (f"/catalog/probe/{good.pk}/", 1),
                (f"/catalog/environment/{environment.pk}/", 2),
                (f"/catalog/service/{service.pk}/", 3),
            ):
                operation = self.ask(address)
                engine.run(operation.pk, "worker-1")
                operation.refresh_from_db()
                assert operation.state == Operation.State.SUCCEEDED, operation.traceback
                assert f"1 of {count} probes are good" in operation.message
        for probe, state in ((good, "ok"), (bad, "bad"), (other, "unknown")):
            probe.refresh_from_db()
            assert probe.state == state, probe.sentence
        assert good.results.count() == 3
        client = factories.browser(factories.PersonFactory(role=Role.MANAGER))
        home = page_of(client.get("/")).text
        assert str(bad) in home and str(good) not in home, home
        assert "Nothing answers at 127.0.0.1" in page_of(client.get(f"/catalog/probe/{bad.pk}/")).text

    def test_a_manager_may_look_and_not_ask(self):
        probe = factories.ProbeFactory()
        client = factories.browser(factories.PersonFactory(role=Role.MANAGER))
        assert "/do/check_probes/" not in client.get(f"/catalog/probe/{probe.pk}/").content.decode()
        assert client.post(f"/catalog/probe/{probe.pk}/do/check_probes/").status_code == 403
        assert client.get("/catalog/probe/add/").status_code == 403
        assert not Operation.objects.exists()
