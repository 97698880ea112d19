"""`python -m tests.browser.screenshots`: pictures of the main pages in ./screenshots, both widths, both themes."""

import sys
from pathlib import Path

from playwright.sync_api import Page

from tests.browser.pages import SET_THEME, SIZES, THEMES, administrator_pages, chromium, main_pages, window
from tests.browser.portal import Portal, running_portal

FOLDER = Path("screenshots")


def shoot(page: Page, name: str, size: str) -> None:
    """One picture of the whole page a theme."""
    for theme in THEMES:
        page.evaluate(SET_THEME, theme)
        page.screenshot(path=FOLDER / f"{name}-{size}-{theme}.png", full_page=True)


def take(portal: Portal, only: list[str]) -> int:
    """Take them; how many pages."""
    FOLDER.mkdir(exist_ok=True)
    tours = {"": {"sign-in": "/login/"}, "operator": main_pages(portal)}
    if "root" in portal.passwords:
        tours["root"] = administrator_pages(portal)
    with chromium() as browser:
        for role, pages in tours.items():
            for size in SIZES:
                with window(browser, portal, role, size=size) as page:
                    for name, path in pages.items():
                        if not only or name in only:
                            page.goto(path)
                            shoot(page, name, size)
    return sum(len(pages) for pages in tours.values())


def main() -> None:
    with running_portal() as portal:
        count = take(portal, sys.argv[1:])
    print(f"{count} pages, {len(SIZES)} widths, {len(THEMES)} themes: {FOLDER.resolve()}")


if __name__ == "__main__":
    main()
