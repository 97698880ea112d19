import pytest
from django.test import Client

from core.models import User
from core.roles import Role
from tests.core.conftest import PASSWORD

pytestmark = pytest.mark.django_db


def sign_in(client: Client, username: str, password: str, address: str = "10.0.0.1"):
    return client.post("/login/", {"username": username, "password": password}, REMOTE_ADDR=address)


def test_everyone_with_an_active_account_may_sign_in(client, person):
    user = person(Role.MANAGER)
    assert not user.is_staff
    assert sign_in(client, "manager", PASSWORD).status_code == 302
    assert client.get("/").status_code == 200


def test_a_switched_off_account_may_not(client, person):
    person(Role.MANAGER, is_active=False)
    assert sign_in(client, "manager", PASSWORD).status_code == 200
    assert client.get("/").status_code == 302


def test_a_page_asks_a_stranger_to_sign_in_and_says_nothing(client, person):
    user = person(Role.MANAGER)
    for path in ("/", "/core/user/", f"/core/user/{user.pk}/", "/me/", "/no/such/page/"):
        response = client.get(path)
        assert response.status_code == 302, path
        assert response["Location"].startswith("/login/?next=")


def test_the_fifth_wrong_password_locks_the_account_for_this_address(client, person):
    person(Role.MANAGER)
    answers = [sign_in(client, "manager", "wrong").status_code for _ in range(5)]
    assert answers[:4] == [200] * 4
    assert answers[4] == 429
    locked = sign_in(client, "manager", PASSWORD)
    assert locked.status_code == 429
    text = locked.content.decode()
    assert "15 min" in text
    assert "Locked for a while" in text
    assert sign_in(Client(), "manager", PASSWORD, "10.0.0.2").status_code == 302


def test_a_person_chooses_the_zone_in_which_times_are_shown(signed_in):
    client = signed_in(Role.MANAGER)
    assert client.post("/me/", {"time_zone": "Asia/Tokyo"}).status_code == 302
    assert User.objects.get(username="manager").time_zone == "Asia/Tokyo"
    assert "JST" in client.get("/me/").content.decode()
    refused = client.post("/me/", {"time_zone": "Mars/Olympus"})
    assert "Select a valid choice" in refused.content.decode()


def test_signing_out_takes_a_post(signed_in):
    client = signed_in(Role.MANAGER)
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/").status_code == 200
    assert client.get("/").status_code == 302
