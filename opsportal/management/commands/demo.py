"""`manage.py demo`: load the demo into an empty portal, or find it there."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from catalog.models import Service
from core.exceptions import PortalError
from opsportal.demo import load, people, shell, slots
from opsportal.demo.exceptions import DemoError
from opsportal.demo.server import DemoServer


class Command(BaseCommand):
    help = (
        "Load the demo: the databases of a small trading company in a server of their own, the people who look after "
        "them, and thirty days of backups. Does nothing where it is there already."
    )
    requires_system_checks = ()  # the stack has just migrated, and waits for us

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--stop", action="store_true", help="only stop the ERP")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["stop"]:
                self._tell(slots.stop())
            else:
                self._load()
        except PortalError as error:
            raise CommandError(error.message) from error

    def _load(self) -> None:
        server = DemoServer.from_environment()
        begun = time.monotonic()
        if load.is_loaded():
            if not (Path(settings.DATA_DIR) / people.FILE).exists():
                team = people.Team(Path(settings.DATA_DIR))
                team.save()
                team.write_file()
            self.stdout.write("The demo is there.")
        elif Service.objects.exists():
            raise DemoError(
                "This portal already looks after services that are not the demo's, and the demo is for an empty one. "
                "Start this portal with DEMO=false, or see the demo with another DATA_DIR."
            )
        else:
            load.load(server, timezone.now(), self.stdout.write)
            self.stdout.write(f"The demo was loaded in {time.monotonic() - begun:.1f} s.")
        script = shell.write(server)
        self._tell(slots.start())
        self.stdout.write(f"To look into its databases, and to break something: {script} erp")

    def _tell(self, amiss: list[str]) -> None:
        """An ERP that does not run is no reason to be without the demo: the portal says so, and starts it."""
        for sentence in amiss:
            self.stderr.write(sentence)
