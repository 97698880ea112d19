import pytest

from core import panels
from core.roles import Role

pytestmark = pytest.mark.django_db


@pytest.fixture
def registry(monkeypatch):
    """Only the panels of the test."""
    monkeypatch.setattr(panels, "_registry", {})
    return panels.panel


def test_home_shows_the_tiles_a_person_may_see_in_order(registry, signed_in):
    template = "core/partials/empty.html"
    registry("b", title="Second tile", order=2, template=template)(lambda request: {"count": 7})
    registry("a", title="First tile", order=1, template=template, permission="core.view_user")(lambda request: {})
    registry("c", title="Secret tile", order=3, template=template, permission="core.delete_user")(lambda request: {})
    registry("d", title="Absent tile", order=4, template=template)(lambda request: None)
    html = signed_in(Role.MANAGER).get("/").content.decode()
    assert html.index("First tile") < html.index("Second tile")
    assert '<span class="count">7</span>' in html
    assert "Secret tile" not in html
    assert "Absent tile" not in html
    other = signed_in(None).get("/").content.decode()
    assert "First tile" not in other
    assert "Second tile" in other


def test_a_person_who_may_see_no_tile_is_told_what_to_do(registry, signed_in):
    assert "ask an administrator for a role" in signed_in(None).get("/").content.decode()


def test_a_broken_tile_does_not_take_down_the_page(registry, signed_in, caplog):
    registry("broken", title="Broken tile", template="core/partials/empty.html")(lambda request: 1 / 0)
    response = signed_in(Role.MANAGER).get("/")
    assert response.status_code == 200
    assert "Cannot be read now" in response.content.decode()
    assert "Panel broken failed" in caplog.text


def test_a_refresh_asks_for_the_tiles_alone(registry, signed_in):
    registry("a", title="First tile", template="core/partials/empty.html")(lambda request: {})
    html = signed_in(Role.MANAGER).get("/", headers={"HX-Request": "true"}).content.decode()
    assert "First tile" in html
    assert "<html" not in html


def test_a_name_is_used_once(registry):
    registry("a", title="One", template="x.html")(lambda request: {})

    def other(request):
        return {}

    other.__module__ = "elsewhere.panels"
    with pytest.raises(ValueError, match="Two panels"):
        registry("a", title="Two", template="x.html")(other)
