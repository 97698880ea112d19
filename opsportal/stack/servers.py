"""The three servers of the stack: the portal's PostgreSQL, the demo's PostgreSQL, Redis."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from opsportal.stack.folders import Folders
from opsportal.stack.postgres import Cluster
from opsportal.stack.process import Service
from opsportal.stack.programs import postgres_bin, redis_server
from opsportal.stack.redis import Redis

DATABASE = "opsportal"


@dataclass(frozen=True)
class Servers:
    """Those that this start uses; None where the environment names a server of somebody else's."""

    portal: Cluster | None
    demo: Cluster | None
    redis: Redis | None

    @classmethod
    def describe(cls, folders: Folders, *, portal: bool, demo: bool, redis: bool, throwaway: bool = False) -> "Servers":
        """Say what they are and where; nothing is created or started yet."""
        account = folders.account

        def cluster(name: str, title: str) -> Cluster:
            data = folders.servers / name
            return Cluster(
                name=f"postgres-{name}",
                title=title,
                data=data,
                sockets=folders.socket_folder(name),
                bin=postgres_bin(account),
                account=account,
                password=folders.secret(f"postgres-{name}-password", needed_by=data),
                throwaway=throwaway,
            )

        return cls(
            portal=cluster("portal", "portal database") if portal else None,
            demo=cluster("demo", "demo database") if demo else None,
            redis=Redis(
                data=account.own_folder(folders.servers / "redis"),
                sockets=folders.socket_folder("redis"),
                program=redis_server(account),
                account=account,
                password=folders.secret("redis-password"),
                with_admin=throwaway,
            )
            if redis
            else None,
        )

    def create(self) -> None:
        """Make the data folders that do not exist yet, side by side. Raises StackError."""
        jobs: list[tuple[Cluster, Sequence[str]]] = []
        if self.portal:
            jobs.append((self.portal, [DATABASE]))
        if self.demo:
            jobs.append((self.demo, []))
        with ThreadPoolExecutor() as pool:  # over before the first long-lived child is started
            for result in [pool.submit(cluster.create, databases) for cluster, databases in jobs]:
                result.result()

    def services(self) -> list[Service]:
        """For the supervisor."""
        return [server.service() for server in (self.portal, self.demo, self.redis) if server]
