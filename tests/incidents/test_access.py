"""Who may do what, by role, by being named in it, and by working alone."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied

from contacts.actions import escalation as escalations
from contacts.models import Notification
from core.roles import Role
from incidents import access
from incidents.actions import evidence, joined, people, relate, triage, work
from incidents.actions.declare import declare
from incidents.exceptions import IncidentError
from incidents.forms import AssignForm
from incidents.models import Assignment, Incident, IncidentRole, ProfileRole, TimelineEntry
from tests.contacts.factories import ContactFactory, SeverityFactory
from tests.factories import ArchiveFactory, PersonFactory, PlanFactory
from tests.incidents.factories import IncidentFactory, ProfileFactory

pytestmark = pytest.mark.django_db


def rights(user, incident):
    """see, work, command, restore"""
    return tuple(
        check(user, incident)
        for check in (access.may_see, access.may_work, access.may_command, access.may_restore_from)
    )


def named(incident, user, role="commander", backup=False):
    contact = ContactFactory(user=user)
    place = {"backup": contact, "primary": ContactFactory()} if backup else {"primary": contact}
    return Assignment.objects.create(incident=incident, role=role, **place)


class TestByRole:
    @pytest.mark.parametrize(
        ("role", "expected"),
        [
            (None, (False, False, False, False)),
            (Role.MANAGER, (True, False, False, False)),
            (Role.APPROVER, (True, False, False, False)),
            (Role.RESPONDER, (True, True, False, False)),
            (Role.OPERATOR, (True, True, False, True)),
            (Role.ADMINISTRATOR, (True, True, True, True)),
        ],
    )
    def test_an_open_one(self, role, expected):
        assert rights(PersonFactory(role=role), IncidentFactory()) == expected

    def test_somebody_who_is_not_signed_in(self):
        assert rights(AnonymousUser(), IncidentFactory()) == (False,) * 4

    def test_somebody_who_was_switched_off(self):
        gone = PersonFactory(role=Role.ADMINISTRATOR, is_active=False)
        assert rights(gone, IncidentFactory(declared_by=gone)) == (False,) * 4


class TestByName:
    @pytest.mark.parametrize("backup", [False, True])
    def test_the_commander_commands_as_primary_and_as_backup(self, rene, backup):
        incident = IncidentFactory()
        named(incident, rene, backup=backup)
        assert rights(rene, incident) == (True, True, True, False)

    def test_other_roles_work_and_do_not_command(self, rene):
        incident = IncidentFactory()
        named(incident, rene, role="communications")
        assert rights(rene, incident) == (True, True, False, False)
        assert access.may_publish(rene, incident)

    @pytest.mark.parametrize("role", list(IncidentRole))
    def test_a_role_in_it_lets_no_manager_act(self, mona, role):
        incident = IncidentFactory(solo=True, declared_by=mona)
        named(incident, mona, role=role)
        assert rights(mona, incident) == (True, False, False, False)
        assert not access.may_publish(mona, incident)

    def test_only_those_who_may_work_on_incidents_are_given_roles(self, mona, rene, olga):
        incident = IncidentFactory()
        manager, responder, nobody = ContactFactory(user=mona), ContactFactory(user=rene), ContactFactory()
        for pair in ({"primary": manager}, {"primary": responder, "backup": manager}):
            with pytest.raises(IncidentError, match="may not work on incidents"):
                people.assign(incident, "support", by=olga, **pair)
        assert not incident.assignments.exists()
        people.assign(incident, "support", primary=responder, backup=nobody, by=olga)
        offered = set(AssignForm(incident=incident).fields["primary"].queryset)
        assert {responder, nobody} <= offered and manager not in offered

    def test_a_profile_gives_no_role_to_a_manager(self, mona, rene, olga):
        profile = ProfileFactory()
        manager, responder = ContactFactory(user=mona), ContactFactory(user=rene)
        ProfileRole.objects.create(profile=profile, role="communications", primary=manager, backup=responder)
        (held,) = declare("x", by=olga).assignments.all()
        assert (held.primary, held.backup) == (responder, None)


class TestConfidential:
    def test_it_does_not_exist_for_others(self, olga, ada, mona):
        incident = IncidentFactory(confidential=True)
        assert rights(olga, incident) == rights(mona, incident) == (False,) * 4
        assert rights(ada, incident) == (True,) * 4

    def test_those_named_and_whoever_declared_it_see_it(self, olga, mona):
        incident = IncidentFactory(confidential=True, declared_by=olga)
        assert access.may_see(olga, incident) and access.may_work(olga, incident)
        named(incident, mona, role="support")
        assert access.may_see(mona, incident)

    def test_lists_agree_with_the_pages(self, olga, ada, mona):
        incidents = [
            IncidentFactory(),
            IncidentFactory(confidential=True),
            IncidentFactory(confidential=True, declared_by=olga),
        ]
        named(incidents[1], mona, role="support", backup=True)
        for user in (olga, ada, mona):
            seen = set(Incident.objects.visible_to(user))
            assert seen == {incident for incident in incidents if access.may_see(user, incident)}

    def test_who_was_paged_or_has_answered_sees_it(self, ada, mona, olga, rene):
        """Whoever is called for help must be able to read what for."""
        incident, other = (declare("x", by=ada, confidential=True) for _ in range(2))
        ladder = escalations.current(incident)
        Notification.objects.create(key="1", contact=ContactFactory(user=mona), subject="x", escalation=ladder)
        withdrawn = ContactFactory(user=rene)
        Notification.objects.create(
            key="2", contact=withdrawn, subject="x", escalation=ladder, state="cancelled", due_at=None
        )
        escalations.acknowledge(ladder, contact=ContactFactory(user=olga))
        Notification.objects.filter(key="1").update(state="sent", due_at=None, sent_at=incident.declared_at)
        for user, sees in ((mona, True), (olga, True), (rene, False)):
            assert access.may_see(user, incident) is sees and not access.may_see(user, other)
            assert (incident in Incident.objects.visible_to(user)) is sees

    def test_every_action_refuses_those_who_may_not_see_it(self, olga):
        incident, other = IncidentFactory(confidential=True), IncidentFactory()
        entry = TimelineEntry.objects.create(
            incident=incident, sequence=1, at=incident.declared_at, source="portal", actor="x", text="x", hash="0" * 64
        )
        archive = ArchiveFactory()
        attempts = [
            lambda: work.acknowledge(incident, by=olga),
            lambda: work.mitigate(incident, by=olga),
            lambda: work.resolve(incident, by=olga),
            lambda: work.close(incident, by=olga),
            lambda: work.reopen(incident, by=olga, reason="x"),
            lambda: work.note(incident, "x", by=olga),
            lambda: work.correct(entry, "x", by=olga),
            lambda: work.pin(entry, by=olga),
            lambda: work.unpin(entry, by=olga),
            lambda: work.tick(incident, "x", gate=True, by=olga),
            lambda: work.untick(incident, "x", gate=True, by=olga),
            lambda: triage.change_severity(incident, SeverityFactory(), reason="x", by=olga),
            lambda: triage.change_situation(incident, "x", by=olga),
            lambda: triage.edit(incident, by=olga, title="x"),
            lambda: triage.set_confidential(incident, False, reason="x", by=olga),
            lambda: people.assign(incident, "support", primary=ContactFactory(), by=olga),
            lambda: people.take_command(incident, by=olga),
            lambda: people.set_solo(incident, True, by=olga),
            lambda: relate.merge(incident, other, reason="x", by=olga),
            lambda: relate.merge(other, incident, reason="x", by=olga),
            lambda: relate.set_parent(incident, other, by=olga),
            lambda: relate.set_parent(other, incident, by=olga),
            lambda: relate.relate(incident, other, by=olga),
            lambda: relate.relate(other, incident, by=olga),
            lambda: relate.unrelate(incident, other, by=olga),
            lambda: evidence.add(incident, name="a", content_type="text/plain", data=b"x", by=olga),
            lambda: joined.start_restore(incident, archive, by=olga, typed_name=archive.target.database),
            lambda: joined.take_backup(incident, PlanFactory(), by=olga),
        ]
        for number, attempt in enumerate(attempts):
            with pytest.raises(PermissionDenied):
                attempt()
                pytest.fail(f"attempt {number} was not refused")
        assert incident.timeline.count() == 1

    def test_a_manager_changes_nothing(self, mona):
        incident = IncidentFactory()
        for attempt in (
            lambda: work.acknowledge(incident, by=mona),
            lambda: work.note(incident, "x", by=mona),
            lambda: triage.edit(incident, by=mona, title="x"),
            lambda: people.take_command(incident, by=mona),
        ):
            with pytest.raises(PermissionDenied):
                attempt()


class TestSolo:
    def test_whoever_declared_it_commands_and_restores_while_it_is_open(self, rene, olga):
        incident = IncidentFactory(declared_by=rene, solo=True)
        assert rights(rene, incident) == (True, True, True, True)
        assert rights(olga, incident) == (True, True, False, True)
        incident = work.resolve(incident, by=rene)
        assert rights(rene, incident) == (True, True, True, False)

    def test_only_within_the_service_of_the_incident(self, rene):
        archive = ArchiveFactory()
        service = archive.target.component.environment.service
        mine = IncidentFactory(declared_by=rene, solo=True, severity=SeverityFactory(service=service))
        assert access.may_restore(rene, mine, archive)
        assert not access.may_restore(rene, IncidentFactory(declared_by=rene, solo=True), archive)
        nowhere = IncidentFactory(declared_by=rene, solo=True, severity=None)
        assert nowhere.service is None and not access.may_restore(rene, nowhere, archive)

    def test_switching_it_on_is_flagged_for_the_review_for_good(self, rene, olga):
        incident = IncidentFactory(declared_by=rene)
        with pytest.raises(PermissionDenied):
            people.set_solo(incident, True, by=olga)
        assert people.set_solo(incident, True, by=rene).solo_review
        incident = people.set_solo(incident, False, by=rene)
        assert incident.solo_review and not incident.solo
