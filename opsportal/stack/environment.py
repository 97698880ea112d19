"""What a person may set (PORT, HOST, DATA_DIR ...), and the environment that the portal's processes get."""

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opsportal.stack import StackError
from opsportal.stack.folders import CHECKOUT, Folders, write_private
from opsportal.stack.postgres import USER
from opsportal.stack.programs import postgres_bin
from opsportal.stack.servers import DATABASE, Servers


@dataclass(frozen=True)
class Wishes:
    """What the environment asks for."""

    host: str
    port: int
    data: Path
    own_database: bool  # False: DATABASE_URL names one
    own_redis: bool
    demo: bool

    @classmethod
    def read(cls, env: Mapping[str, str]) -> "Wishes":
        """Raises StackError for a value that makes no sense."""
        text = env.get("PORT") or "8800"
        if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 65536:
            raise StackError(f"PORT={text} is not a port; choose a number from 1 to 65535, as in PORT=8801 make run.")
        own_database = not _given(env, "DATABASE_URL")
        demo = env.get("DEMO", "true" if own_database else "false").lower() in ("true", "1", "yes", "on")
        data = Path(env.get("DATA_DIR") or CHECKOUT / "var").expanduser()
        return cls(
            host=env.get("HOST") or "127.0.0.1",
            port=int(text),
            data=data.absolute(),
            own_database=own_database,
            own_redis=not _given(env, "REDIS_URL"),
            demo=demo,
        )

    @property
    def bind(self) -> str:
        """Where the web server listens."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def here(self) -> str:
        """A host name under which this machine itself reaches the web server."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - recognised, not bound

    @property
    def address(self) -> str:
        """The address to open in a browser."""
        return f"http://[{self.here}]:{self.port}/" if ":" in self.here else f"http://{self.here}:{self.port}/"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def check_port(self) -> None:
        """Raise StackError while somebody else has the port, before anything is started."""
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, proto) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the web server does
                probe.bind(address)
        except socket.gaierror:
            raise StackError(
                f"HOST={self.host} is not an address of this machine; leave it out for 127.0.0.1."
            ) from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                other = self.port + 1 if self.port < 65535 else self.port - 1
                raise StackError(f"Port {self.port} is taken; choose another with PORT={other} make run.") from None
            if error.errno == errno.EACCES:
                raise StackError(
                    f"Port {self.port} needs root; choose one from 1024, as in PORT=8800 make run."
                ) from None
            raise StackError(f"The portal cannot listen on {self.bind}: {error.strerror}.") from None


def portal_environment(wishes: Wishes, folders: Folders, servers: Servers, env: Mapping[str, str]) -> dict[str, str]:
    """Environment of web, workers, beat and manage.py. Secrets are named by file; what a person has set wins."""
    local_names = ["localhost", "127.0.0.1", "[::1]"]
    defaults = {
        "HTTPS": "false",  # plain HTTP on loopback; a proxy in front sets HTTPS=true
        "ALLOWED_HOSTS": ",".join(dict.fromkeys(local_names + ([] if wishes.is_local else _names(wishes.host)))),
        # Cookies ignore ports: two portals on one machine must not sign each other's people out.
        "SESSION_COOKIE_NAME": f"opsportal_session_{wishes.port}",
        "CSRF_COOKIE_NAME": f"opsportal_csrf_{wishes.port}",
        # Not the folder with the portal's own secrets: a password reference must not reach those.
        "SECRET_DIRS": str(folders.data / "target-secrets"),
        "PG_BIN": str(postgres_bin(folders.account)),
        "PORTAL_URL": wishes.address.rstrip("/"),
        "PYTHONUNBUFFERED": "1",
    }
    result = {**defaults, **env, "DATA_DIR": str(folders.data), "DJANGO_SETTINGS_MODULE": "opsportal.settings"}
    result["PORT"] = str(wishes.port)  # so that the portal knows which address is its own
    result.pop("GUNICORN_CMD_ARGS", None)
    if not _given(env, "SECRET_KEY"):
        folders.secret("django-secret-key")
        result["SECRET_KEY_FILE"] = str(folders.secrets / "django-secret-key")
    if servers.portal:
        result["DATABASE_URL_FILE"] = _url_file(folders, "database-url", servers.portal.url(DATABASE))
    if servers.redis:
        result["REDIS_URL_FILE"] = _url_file(folders, "redis-url", servers.redis.url())
    if servers.demo:
        if not _given(env, "EMAIL_HOST"):
            result.setdefault("EMAIL_DIR", str(folders.data / "demo" / "mail"))
        result["DEMO_PG_HOST"] = str(servers.demo.sockets)
        result["DEMO_PG_USER"] = USER
        result["DEMO_PG_PASSWORD_FILE"] = str(folders.secrets / "postgres-demo-password")
    return result


def _url_file(folders: Folders, name: str, url: str) -> str:
    path = folders.secrets / name
    write_private(path, url)
    return str(path)


def _given(env: Mapping[str, str], name: str) -> bool:
    return bool(env.get(name) or env.get(f"{name}_FILE"))


def _names(host: str) -> list[str]:
    """Host names under which a browser elsewhere may ask for us when we listen on this address."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - recognised, not bound
        return [f"[{host}]" if ":" in host else host]
    name = socket.gethostname()
    names = [name, f"{name}.local"]
    try:
        names += [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except OSError:
        pass
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; the kernel picks the address we would use
            names.append(probe.getsockname()[0])
    except OSError:
        pass
    return [f"[{name}]" if ":" in name else name for name in names]
