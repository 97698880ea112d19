"""A web server started from its unit, for the proxies."""

from collections.abc import Iterator

import pytest

from tests.deploy.site import Site, production


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    with production() as site:
        site.start("opsportal-web.service")
        site.wait_ready()
        yield site
