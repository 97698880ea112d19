"""The band on every page that says which environment the page touches."""

from dataclasses import dataclass

PRODUCTION = "production"
STAGING = "staging"
DEVELOPMENT = "development"
KINDS = (PRODUCTION, STAGING, DEVELOPMENT)


@dataclass(frozen=True)
class EnvironmentBand:
    """What the band shows. `kind` is one of KINDS, or empty where a page touches no single environment.

    Raises ValueError for any other kind: a mistyped kind would show production in a harmless colour.
    """

    label: str
    kind: str = ""

    def __post_init__(self) -> None:
        if self.kind and self.kind.lower() not in KINDS:
            raise ValueError(f"Unknown environment kind {self.kind!r}; use one of {', '.join(KINDS)}.")
        object.__setattr__(self, "kind", self.kind.lower())

    @property
    def word(self) -> str:
        """The kind as it is written on the band, "" for the neutral one."""
        return self.kind.upper()

    @property
    def is_production(self) -> bool:
        return self.kind == PRODUCTION

    def __str__(self) -> str:
        return f"{self.word} · {self.label}" if self.kind else self.label


ALL_ENVIRONMENTS = EnvironmentBand("All environments")
