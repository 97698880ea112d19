import pytest

from core.models import User
from core.roles import Role
from tests.core import portal_under_test
from tests.core.conftest import Page

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("small_portal")]
KEY = "6f1c2a34-5b67-4c89-9d01-23456789abcd"


@pytest.fixture
def target(person) -> User:
    return person(None, "target")


def address(user: User, button: str = "poke") -> str:
    return f"/core/user/{user.pk}/do/{button}/"


def test_a_manager_is_refused_the_confirm_page_and_the_post(signed_in, target):
    manager = signed_in(Role.MANAGER)
    for response in (manager.get(address(target)), manager.post(address(target), {"request_key": KEY, "reason": "x"})):
        assert response.status_code == 403
        assert "Ask an administrator" in response.content.decode()
    assert portal_under_test.pressed == []


def test_a_manager_may_not_edit_either(signed_in, target):
    manager = signed_in(Role.MANAGER)
    assert manager.get(f"/core/user/{target.pk}/").status_code == 200
    assert manager.post(f"/core/user/{target.pk}/change/", {"username": "taken"}).status_code == 403
    assert manager.get("/core/user/add/").status_code == 403
    target.refresh_from_db()
    assert target.username == "target"


def test_somebody_without_a_role_sees_no_object_and_presses_no_button(signed_in, target):
    nobody = signed_in(None)
    for path in (f"/core/user/{target.pk}/", f"/core/user/{target.pk}/live/", address(target), "/core/user/export/"):
        assert nobody.get(path).status_code == 403, path


def test_asking_changes_nothing(signed_in, target):
    page = signed_in(Role.ADMINISTRATOR).get(address(target))
    assert page.status_code == 200
    html = page.content.decode()
    assert "target is poked." in html
    assert portal_under_test.pressed == []


def test_a_double_click_brings_the_same_key_twice(signed_in, target):
    administrator = signed_in(Role.ADMINISTRATOR)
    key = Page(administrator.get(address(target)).content.decode()).fields["request_key"]
    for _ in range(2):
        response = administrator.post(address(target), {"request_key": key, "reason": "because"})
        assert response.status_code == 302
        assert response["Location"] == f"/core/user/{target.pk}/"
    assert [(who, obj, data, given) for who, obj, data, given in portal_under_test.pressed] == [
        ("administrator", target, {"reason": "because"}, key)
    ] * 2


def test_two_confirm_pages_have_two_keys(signed_in, target):
    administrator = signed_in(Role.ADMINISTRATOR)
    keys = {Page(administrator.get(address(target)).content.decode()).fields["request_key"] for _ in range(2)}
    assert len(keys) == 2


def test_a_refusal_shows_the_sentence_and_what_was_typed(signed_in, target):
    response = signed_in(Role.ADMINISTRATOR).post(address(target), {"request_key": KEY, "reason": "refuse"})
    html = response.content.decode()
    assert response.status_code == 200
    assert "The database is busy. Wait until operation 12 has ended." in html
    assert ">\nrefuse</textarea>" in html
    assert Page(html).fields["request_key"] == KEY


def test_a_form_with_a_mistake_runs_nothing(signed_in, target):
    response = signed_in(Role.ADMINISTRATOR).post(address(target), {"request_key": KEY, "reason": ""})
    assert "This field is required" in response.content.decode()
    assert portal_under_test.pressed == []


@pytest.mark.parametrize("key", ["", "not-a-key"])
def test_a_post_without_a_proper_key_runs_nothing_and_keeps_what_was_typed(signed_in, target, key):
    response = signed_in(Role.ADMINISTRATOR).post(address(target), {"request_key": key, "reason": "because"})
    assert "Nothing was done" in response.content.decode()
    assert "because</textarea>" in response.content.decode()
    assert portal_under_test.pressed == []


def test_run_may_lead_elsewhere(signed_in, target):
    response = signed_in(Role.ADMINISTRATOR).post(address(target), {"request_key": KEY, "reason": "elsewhere"})
    assert response["Location"] == "/core/user/"


def test_a_button_without_a_confirm_page_answers_post_only(signed_in, target):
    administrator = signed_in(Role.ADMINISTRATOR)
    assert administrator.get(address(target, "wave")).status_code == 405
    response = administrator.post(address(target, "wave"), {"request_key": KEY}, follow=True)
    assert "Waved." in response.content.decode()
    assert len(portal_under_test.pressed) == 1


def test_a_button_that_is_not_offered_now_leads_back_and_runs_nothing(signed_in, target):
    administrator = signed_in(Role.ADMINISTRATOR)
    for response in (
        administrator.get(address(target, "hidden"), follow=True),
        administrator.post(address(target, "hidden"), {"request_key": KEY}, follow=True),
    ):
        assert "not possible any more" in response.content.decode()
    assert portal_under_test.pressed == []


def test_unknown_buttons_and_objects_are_not_found(signed_in, target):
    administrator = signed_in(Role.ADMINISTRATOR)
    assert administrator.get(address(target, "nothing")).status_code == 404
    assert administrator.get("/core/user/999999/do/poke/").status_code == 404
    assert administrator.get("/core/user/abc/").status_code == 404


def test_the_detail_page_offers_only_what_this_person_may_press(signed_in, target):
    page = f"/core/user/{target.pk}/"
    administrator, manager = signed_in(Role.ADMINISTRATOR), signed_in(Role.MANAGER)
    assert f'href="{address(target)}"' in administrator.get(page).content.decode()
    assert "/do/" not in manager.get(page).content.decode()
    assert "/do/hidden/" not in administrator.get(page).content.decode()


def test_the_live_part_stops_when_nothing_more_will_change(signed_in, person, target):
    manager = signed_in(Role.MANAGER)
    running = manager.get(f"/core/user/{target.pk}/live/")
    assert running.status_code == 200
    assert "Working" in running.content.decode()
    assert "<html" not in running.content.decode()
    ended = person(None, "ended", is_active=False)
    assert manager.get(f"/core/user/{ended.pk}/live/").status_code == 286
    assert 'hx-trigger="every 1s"' in manager.get(f"/core/user/{target.pk}/").content.decode()
    assert "hx-trigger" not in manager.get(f"/core/user/{ended.pk}/").content.decode()
