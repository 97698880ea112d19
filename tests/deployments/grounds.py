"""What tests of drivers stand on: real slots, real proxies, clients that count. The bench has them too."""

from opsportal.bench.ground import Ground, caddy, free_port, ground, nginx
from opsportal.bench.traffic import Seen, load

__all__ = ["Ground", "Seen", "caddy", "free_port", "ground", "load", "nginx"]
