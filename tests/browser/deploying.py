"""What a person does on the pages of deployments, in words."""

import re

from playwright.sync_api import Page

from tests.browser.portal import Portal
from tests.browser.steps import confirm, press

BOARD = "/deployments/livestate/"


def environment(portal: Portal, slug: str = "production") -> str:
    """Path of one of the ERP's environments on the board."""
    row = portal.value(
        "SELECT l.id FROM deployments_livestate l JOIN catalog_environment e ON e.id = l.environment_id"
        " JOIN catalog_service s ON s.id = e.service_id WHERE s.slug = 'erp' AND e.slug = %s",
        slug,
    )
    return f"{BOARD}{row}/"


def on_deployment(page: Page, portal: Portal) -> str:
    """Wait for the page of a deployment; its path."""
    page.wait_for_url(re.compile(r"/deployments/deployment/\d+/$"))
    return page.url.removeprefix(portal.address)


def fill_deploy(page: Page, portal: Portal, version: str, reason: str = "", slug: str = "production") -> None:
    """The form that asks for a release."""
    page.goto(environment(portal, slug))
    press(page, "deploy")
    option = page.locator("#id_release option", has_text=version).first
    page.select_option("#id_release", option.get_attribute("value"))
    page.fill("#id_reason", reason)


def ask_for(page: Page, portal: Portal, version: str) -> str:
    """Ask for a release in production; the path of the deployment's page, which is shown."""
    fill_deploy(page, portal, version, "The shop has waited for it.")
    confirm(page)
    return on_deployment(page, portal)


def answer(page: Page, portal: Portal, path: str, name: str, **fields: str) -> None:
    """A button of a deployment's page, its form and back."""
    page.goto(path)
    press(page, name)
    for field, text in fields.items():
        page.fill(f"#id_{field}", text)
    confirm(page)
    on_deployment(page, portal)


def state_of(portal: Portal, path: str) -> str:
    return str(portal.value("SELECT state FROM deployments_deployment WHERE id = %s", int(path.split("/")[-2])))
