"""The example environment, the settings and the README name the same variables; Django finds nothing to say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.site import EXAMPLE
from tests.deploy.units import CHECKOUT, DEPLOY, UNITS, Unit, environment_file

SETTINGS = (CHECKOUT / "opsportal" / "settings.py").read_text()
READ = set(re.findall(r'\benv\.\w+\(\s*"(\w+)"', SETTINGS))  # env.str("NAME" and the like
# Read by the suite alone.
NOT_FOR_PRODUCTION = {"TEST_DB_NAME"}


def test_every_variable_of_the_example_exists() -> None:
    assert environment_file(EXAMPLE).keys() <= READ


def test_every_setting_is_explained() -> None:
    table = re.findall(r"^\| (`[A-Z].*?) \|", (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    patterns = [name.replace("…", r"\w+") for cell in table for name in re.findall(r"`(\S+)`", cell)]
    named = {name for name in READ for pattern in patterns if re.fullmatch(pattern, name)}
    assert READ - NOT_FOR_PRODUCTION - environment_file(EXAMPLE).keys() - named == set()


@pytest.mark.parametrize("path", [*UNITS.glob("*.service"), DEPLOY / "compose.yaml"], ids=lambda path: path.name)
def test_secrets_given_as_files_are_settings(path: Path) -> None:
    named = set(re.findall(r"\b(\w+)_FILE[=:]", path.read_text())) - {"POSTGRES_PASSWORD"}
    assert named == {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"}


def test_no_secret_stands_in_the_example() -> None:
    assert not {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"} & environment_file(EXAMPLE).keys()
    assert "EnvironmentFile" in Unit.read("opsportal-web.service").values


def test_django_finds_nothing_to_say_about_it() -> None:
    outer = {key: os.environ[key] for key in ("DATABASE_URL", "REDIS_URL", "PATH") if key in os.environ}
    env = outer | environment_file(EXAMPLE) | {"SECRET_KEY": "k" * 10 + os.urandom(40).hex()}
    argv = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(argv, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout
