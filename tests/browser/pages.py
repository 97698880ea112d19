"""The main pages of a portal with the demo, and how a browser opens them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.portal import Portal

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"1280": {"width": 1280, "height": 900}, "390": {"width": 390, "height": 844}}
THEMES = ("light", "dark")
# As the theme menu does it. A change of the emulated system setting reaches the styles some frames later, and whoever
# looks meanwhile sees a mixture of both themes.
SET_THEME = "(theme) => { document.documentElement.dataset.theme = theme; }"
# Reports what the policy forbids, also when the page that did it is left at once.
WATCH_POLICY = """
document.addEventListener("securitypolicyviolation", (event) =>
  window.reportToTest(`${location.pathname}: ${event.violatedDirective} ${event.blockedURI}`));
"""

_signed_in: dict[tuple[str, str], object] = {}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium."""
    program = shutil.which("chromium", path=f"{os.environ['PATH']}:/usr/bin")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(
    browser: Browser, portal: Portal, role: str = "", *, size: str = "1280", theme: str = "light", **options: object
) -> Iterator[Page]:
    """A window in which somebody of that role has signed in. It fails when a page breaks the policy or throws."""
    state = _state(browser, portal, role) if role else None
    context = browser.new_context(
        base_url=portal.address, viewport=SIZES[size], color_scheme=theme, storage_state=state, **options
    )
    context.set_default_timeout(20_000)
    complaints: list[str] = []
    try:
        watch(context, complaints)
        yield context.new_page()
        assert complaints == []
    finally:
        context.close()


def watch(context: BrowserContext, complaints: list[str]) -> None:
    """Collect violations of the content security policy and errors of our scripts, of every page of the context."""
    context.expose_binding("reportToTest", lambda _, text: complaints.append(text))
    context.add_init_script(WATCH_POLICY)
    context.on(
        "console",
        lambda said: (
            complaints.append(said.text) if "Content Security" in said.text or "Content-Security" in said.text else None
        ),
    )
    context.on("weberror", lambda error: complaints.append(str(error.error)))


def _state(browser: Browser, portal: Portal, role: str) -> object:
    """Cookies of a sign-in through the form, made once a role: the form is slow on purpose."""
    key = (portal.address, role)
    if key not in _signed_in:
        context = browser.new_context(base_url=portal.address)
        sign_in(context.new_page(), portal, role)
        _signed_in[key] = context.storage_state()
        context.close()
    return _signed_in[key]


def sign_in(page: Page, portal: Portal, role: str) -> None:
    """Through the form, as a person does."""
    page.goto("/login/")
    page.fill("#id_username", portal.usernames[role])
    page.fill("#id_password", portal.passwords[role])
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/login/" not in url)


def deployment_pages(portal: Portal) -> dict[str, str]:
    """Those of releases and deployments, as the operator sees them."""
    one, home = portal.value, "/deployments"
    live = one(
        "SELECT l.id FROM deployments_livestate l JOIN catalog_environment e ON e.id = l.environment_id"
        " WHERE e.kind = 'production' ORDER BY l.id LIMIT 1"
    )
    waiting = one("SELECT id FROM deployments_deployment WHERE state = 'waiting' ORDER BY id LIMIT 1")
    done = one("SELECT id FROM deployments_deployment WHERE emergency AND state = 'live' ORDER BY id LIMIT 1")
    back = one("SELECT id FROM deployments_deployment WHERE kind = 'rollback' ORDER BY id LIMIT 1")
    release = one("SELECT id FROM deployments_release WHERE changes_schema ORDER BY id LIMIT 1")
    change = one("SELECT id FROM deployments_configurationchange ORDER BY id LIMIT 1")
    profile = one(
        "SELECT p.id FROM deployments_deploymentprofile p JOIN deployments_livestate l"
        " ON l.environment_id = p.environment_id WHERE l.id = %s",
        live,
    )
    checklist = one("SELECT max(id) FROM deployments_checklisttemplate")
    return {
        "board": f"{home}/livestate/",
        "live": f"{home}/livestate/{live}/",
        "deploy": f"{home}/livestate/{live}/do/deploy/",
        "roll-back": f"{home}/livestate/{live}/do/roll_back/",
        "set": f"{home}/livestate/{live}/do/set/",
        "clean-up-versions": f"{home}/livestate/{live}/do/clean_up/",
        "list-deployments": f"{home}/deployment/",
        "deployment-waiting": f"{home}/deployment/{waiting}/",
        "deployment": f"{home}/deployment/{done}/",
        "rollback": f"{home}/deployment/{back}/",
        "list-releases": f"{home}/release/",
        "release": f"{home}/release/{release}/",
        "release-new": f"{home}/release/add/",
        "attach-scan": f"{home}/release/{release}/do/attach_scan/",
        "list-changes": f"{home}/configurationchange/",
        "change": f"{home}/configurationchange/{change}/",
        "calendar": f"{home}/calendar/",
        "profile": f"{home}/deploymentprofile/{profile}/",
        "checklist": f"{home}/checklisttemplate/{checklist}/",
        "list-freezes": f"{home}/freezewindow/",
    }


def main_pages(portal: Portal) -> dict[str, str]:
    """Name -> path of what the operator sees. Objects are picked for having something to show."""
    one = portal.value
    failed = one("SELECT id FROM operations_operation WHERE state = 'failed' ORDER BY id DESC LIMIT 1")
    done = one(
        "SELECT operation_id FROM backups_archive WHERE state = 'available' AND verification = 'verified'"
        " ORDER BY requested_at DESC LIMIT 1"
    )
    plan, target = one("SELECT id FROM backups_plan WHERE name = 'ERP nightly'"), None
    target = one("SELECT target_id FROM backups_plan WHERE id = %s", plan)
    archive = one("SELECT id FROM backups_archive WHERE operation_id = %s", done)
    restore = one("SELECT id FROM backups_restore ORDER BY id DESC LIMIT 1")
    schedule = one("SELECT schedule_id FROM backups_plan WHERE id = %s", plan)
    review = one("SELECT id FROM incidents_review ORDER BY id DESC LIMIT 1")
    contact = one("SELECT id FROM contacts_contact WHERE name = 'PostgreSQL support'")
    rota = one("SELECT id FROM contacts_oncallschedule ORDER BY id LIMIT 1")
    matrix = one("SELECT id FROM contacts_escalationpolicy WHERE service_id IS NOT NULL ORDER BY id LIMIT 1")
    queue = one("SELECT id FROM contacts_queue ORDER BY id LIMIT 1")
    ongoing = one(
        "SELECT id FROM incidents_incident WHERE state NOT IN ('resolved', 'closed') AND NOT confidential"
        " ORDER BY id LIMIT 1"
    )
    lists = {
        "incidents": "/incidents/incident/",
        "incident-profiles": "/incidents/incidentprofile/",
        "incident-workflows": "/incidents/workflow/",
        "incident-rules": "/incidents/causerule/",
        "public-components": "/incidents/publiccomponent/",
        "maintenance": "/incidents/maintenance/",
        "archives": "/backups/archive/",
        "plans": "/backups/plan/",
        "restores": "/backups/restore/",
        "storages": "/backups/storage/",
        "operations": "/operations/operation/",
        "schedules": "/operations/schedule/",
        "decisions": "/operations/slot/",
        "workers": "/operations/workernode/",
        "services": "/catalog/service/",
        "environments": "/catalog/environment/",
        "components": "/catalog/component/",
        "hosts": "/catalog/host/",
        "databases": "/catalog/databasetarget/",
        "severities": "/catalog/severity/",
        "service-control": "/catalog/servicecontrolcommands/",
        "audit": "/auditlog/logentry/",
        "events": "/operations/event/",
        "webhooks": "/webhooks/webhook/",
        "deliveries": "/webhooks/delivery/",
        "tokens": "/core/apitoken/",
        "reviews": "/incidents/review/",
        "action-items": "/incidents/actionitem/",
        "updates": "/incidents/update/",
        "update-templates": "/incidents/messagetemplate/",
        "people": "/core/user/",
        "contacts": "/contacts/contact/",
        "teams": "/contacts/team/",
        "contact-roles": "/contacts/role/",
        "queues": "/contacts/queue/",
        "on-call": "/contacts/oncallschedule/",
        "overrides": "/contacts/override/",
        "on-call-records": "/contacts/oncallrecord/",
        "matrices": "/contacts/escalationpolicy/",
        "escalations": "/contacts/escalation/",
        "messages": "/contacts/notification/",
        "channels": "/contacts/channel/",
        "providers": "/contacts/provider/",
        "business-hours": "/catalog/businesshours/",
    }
    return {
        "home": "/",
        **{f"list-{name}": path for name, path in lists.items()},
        "operation-done": f"/operations/operation/{done}/",
        "operation-failed": f"/operations/operation/{failed}/",
        "archive": f"/backups/archive/{archive}/",
        "plan": f"/backups/plan/{plan}/",
        "back-up": f"/backups/plan/{plan}/do/back_up/",
        "adopt": f"/backups/plan/{plan}/do/adopt/",
        "token-new": "/core/apitoken/new/",
        "storage": "/backups/storage/1/",
        "clean-up": f"/backups/plan/{plan}/do/prune/",
        "restore-databases": "/backups/archive/restore/",
        "restore-points": f"/backups/archive/restore/?target={target}",
        "restore-confirm": f"/backups/archive/{archive}/do/restore/",
        "restore": f"/backups/restore/{restore}/",
        "schedule": f"/operations/schedule/{schedule}/",
        "database": f"/catalog/databasetarget/{target}/",
        "the-portal-itself": "/survival/secondplace/1/",
        "list-portal-backups": "/survival/portalbackup/",
        "list-cards": "/survival/cardcopy/",
        "list-breakglass": "/survival/breakglass/",
        "offline-card": "/offline-card/",
        "health": "/health/status",
        "review": f"/incidents/review/{review}/",
        "incident-update": f"/incidents/{ongoing}/update/",
        "month-report": "/incidents/report/",
        "status-page": "/status/",
        "status-history": "/status/history/",
        "declare": "/incidents/declare/",
        "incident": f"/incidents/incident/{ongoing}/",
        "incident-edit": f"/incidents/incident/{ongoing}/do/edit/",
        "incident-resolve": f"/incidents/incident/{ongoing}/do/resolve/",
        "incident-beside": f"/incidents/incident/{ongoing}/beside/",
        "incident-evidence": f"/incidents/incident/{ongoing}/evidence/",
        "incident-restore": f"/incidents/incident/{ongoing}/restore/",
        "contact": f"/contacts/contact/{contact}/",
        "contact-edit": f"/contacts/contact/{contact}/change/",
        "contact-import": "/contacts/contact/import/",
        "queue": f"/contacts/queue/{queue}/",
        "rota": f"/contacts/oncallschedule/{rota}/",
        "rota-edit": f"/contacts/oncallschedule/{rota}/change/",
        "stand-in": f"/contacts/oncallschedule/{rota}/do/stand_in/",
        "month": f"/oncall/{rota}/month/",
        "matrix": f"/contacts/escalationpolicy/{matrix}/",
        "matrix-edit": f"/contacts/escalationpolicy/{matrix}/edit/",
        "matrix-versions": f"/contacts/escalationpolicy/{matrix}/versions/",
        **deployment_pages(portal),
        "settings": "/me/",
        "not-found": "/nothing/",
    }


def administrator_pages(portal: Portal) -> dict[str, str]:
    """What only an administrator or the superuser may open."""
    plan = portal.value("SELECT id FROM backups_plan WHERE name = 'ERP nightly'")
    task = portal.value("SELECT id FROM django_celery_beat_periodictask ORDER BY id LIMIT 1")
    service = portal.value("SELECT id FROM catalog_service ORDER BY id LIMIT 1")
    profile = portal.value("SELECT id FROM deployments_deploymentprofile ORDER BY id LIMIT 1")
    checklist = portal.value("SELECT id FROM deployments_checklisttemplate ORDER BY id LIMIT 1")
    return {
        "plan-edit": f"/backups/plan/{plan}/change/",
        "plan-add": "/backups/plan/add/",
        "webhook-add": "/webhooks/webhook/add/",
        "first-service": "/backups/plan/first/",
        "service-edit": f"/catalog/service/{service}/change/",
        "confirm-key": "/survival/secondplace/1/do/confirm_key/",
        "profile-edit": f"/deployments/deploymentprofile/{profile}/change/",
        "profile-drivers": "/deployments/deploymentprofile/add/",
        "checklist-edit": f"/deployments/checklisttemplate/{checklist}/change/",
        "list-beat": "/django_celery_beat/periodictask/",
        "beat-add": "/django_celery_beat/periodictask/add/",
        "beat-change": f"/django_celery_beat/periodictask/{task}/change/",
    }
