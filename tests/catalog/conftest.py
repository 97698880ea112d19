"""A small inventory and people with roles."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group

from catalog.models import Component, DatabaseTarget, Environment, Service
from core.models import User
from core.roles import Role


@pytest.fixture
def environment(db):
    service = Service.objects.create(name="ERP", slug="erp", owner_team="Orders team", time_zone="Europe/Berlin")
    return Environment.objects.create(service=service, name="production", slug="production", kind="production")


@pytest.fixture
def component(environment):
    return Component.objects.create(
        environment=environment, name="database", kind="database", rto=timedelta(minutes=30), rpo=timedelta(0)
    )


@pytest.fixture
def target(component):
    return DatabaseTarget.objects.create(
        component=component, name="erp", host="db1.example.org", database="erp", user="backup"
    )


@pytest.fixture
def person(db):
    """`person(Role.MANAGER)`: a user with that role and no other right."""

    def make(role: Role) -> User:
        user = User.objects.create_user(f"some-{role.name.lower()}", password="a long password 123")
        user.groups.add(Group.objects.get(name=role.value))
        return user

    return make


@pytest.fixture
def signed_in(client, person):
    """`signed_in(Role.MANAGER)`: a browser in which that person is signed in."""

    def make(role: Role):
        client.force_login(person(role))
        return client

    return make
