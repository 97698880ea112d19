"""A pod, reached with kubectl."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.connectors.base import Connector, Endpoint
from catalog.connectors.far import carried, far_vector
from catalog.connectors.relay import relayed
from catalog.exceptions import CatalogError
from operations.commands import Command, Result

_EXPLANATIONS = (
    (
        r"connection to the server .* was refused|Unable to connect to the server|no such host|i/o timeout",
        "The cluster of {place} does not answer. Check its address in the kubeconfig and the network.",
    ),
    (
        r"Unauthorized|must be logged in|certificate signed by unknown authority|x509:",
        "The cluster of {place} does not accept these credentials. Correct the kubeconfig of this host.",
    ),
    (
        r"Forbidden|forbidden: User",
        "The account in the kubeconfig may not run commands in {place}. Grant it pods/exec in that namespace.",
    ),
    (
        r"NotFound|not found",
        "The cluster knows nothing of {place}. Start it, or correct its name and namespace in the catalog.",
    ),
    (
        r"context .* does not exist|invalid configuration",
        "The kubeconfig of {place} lacks that context. Correct either.",
    ),
)


class KubectlConnector(Connector):
    """A pod, or what kubectl takes one of: `deployment/api`. `kubeconfig` is the content of that file, a secret."""

    kind = "kubectl"

    def __init__(
        self,
        *,
        pod: str,
        namespace: str,
        context: str = "",
        container: str = "",
        kubeconfig: str = "",
        expected_hostname: str = "",
        inner: Connector | None = None,
    ) -> None:
        super().__init__(expected_hostname=expected_hostname, inner=inner)
        self.pod, self.namespace, self.context, self.container = pod, namespace, context, container
        self._kubeconfig = kubeconfig

    @property
    def place(self) -> str:
        return f"the pod {self.pod} in {self.namespace}{self._from}"

    def wrap(self, command: Command) -> Command:
        context = ("--context", self.context) if self.context else ()
        container = ("-c", self.container) if self.container else ()
        kubectl = ("kubectl", *context, "-n", self.namespace, "exec", "-i", self.pod, *container, "--")
        argv = (*kubectl, *far_vector(command, self.expected_hostname, "child"))
        carrier = carried(command, argv, self.place, self.expected_hostname, self._explain)
        if self._kubeconfig:
            if self.inner is not None:
                raise CatalogError(
                    f"A kubeconfig cannot be handed over to {self.inner.place}. Leave its reference empty: kubectl "
                    "uses the configuration of the user it runs as there."
                )
            carrier = dataclasses.replace(carrier, secret_files={"KUBECONFIG": self._kubeconfig})
        return self._outwards(carrier)

    def _explain(self, result: Result) -> str:
        if result.code != 1:  # what kubectl itself ends with
            return ""
        for pattern, sentence in _EXPLANATIONS:
            if re.search(pattern, result.stderr):
                return sentence.format(place=self.place)
        return ""

    @contextmanager
    def forward(self, host: str, port: int, folder: Path) -> Iterator[Endpoint]:
        with relayed(self.wrap, host, port, folder) as endpoint:
            yield endpoint
