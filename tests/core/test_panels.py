import pytest

from core import panels
from core.models import User
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


@pytest.mark.django_db(transaction=True)
def test_a_tile_that_breaks_while_it_is_drawn_does_not_take_down_the_page(registry, signed_in, caplog):
    lazy = User.objects.extra(where=["1 / (id - id) = 1"])  # the database refuses it, and only when it is read
    registry("lazy", title="Lazy tile", order=1, template="operations/panels/wrong.html")(
        lambda request: {"operations": lazy}
    )
    registry("torn", title="Torn tile", order=2, template="nowhere.html")(lambda request: {})
    registry("astray", title="Astray tile", order=3, template="core/partials/empty.html", url="admin:nowhere")(
        lambda request: {}
    )
    registry("sound", title="Sound tile", order=4, template="core/partials/empty.html")(lambda request: {"count": 0})
    response = signed_in(Role.MANAGER).get("/")
    html = response.content.decode()
    assert response.status_code == 200
    assert html.count("Cannot be read now") == 3
    assert html.index("Lazy tile") < html.index("Torn tile") < html.index("Astray tile") < html.index("Sound tile")
    assert '<span class="count">0</span>' in html
    assert all(f"Panel {name} failed" in caplog.text for name in ("lazy", "torn", "astray"))


def test_a_tile_escapes_what_it_shows(registry, signed_in):
    registry("a", title="<b>", template="core/partials/empty.html")(lambda request: {"count": "<i>"})
    html = signed_in(Role.MANAGER).get("/").content.decode()
    assert "<b>" not in html and "<i>" not in html


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
