"""Places where commands run. How one is reached is in `catalog.reach`; the ways are in `catalog.connectors`."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from catalog import validators
from catalog.constraints import not_empty
from catalog.secrets import validate_secret_reference
from core.links import detail_url


class Host(models.Model):
    """A place where commands run: a machine, a container or a pod, and the way there.

    `via` is the host from which this one is reached: a jump host, or the machine whose Docker engine runs a container.
    Without it, that is the worker's own machine.
    """

    class Kind(models.TextChoices):
        LOCAL = "local", "The worker's own machine"
        SSH = "ssh", "Machine over SSH"
        DOCKER = "docker", "Container"
        COMPOSE = "compose", "Service of a Compose project"
        KUBECTL = "kubectl", "Pod in Kubernetes"

    name = models.CharField(max_length=80, unique=True, validators=[validators.validate_printable])
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.LOCAL)
    address = models.CharField(max_length=253, blank=True, validators=[validators.validate_host_name])
    queue = models.CharField(
        max_length=64,
        default="operations",
        validators=[validators.validate_queue_name],
        help_text="The Celery queue whose worker reaches this host.",
    )
    expected_hostname = models.CharField(
        max_length=253,
        blank=True,
        validators=[validators.validate_host_name],
        help_text="What “uname -n” prints there. Any other name stops every command. Empty means not checked.",
    )
    via = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="behind",
        help_text="The host from which this one is reached. Empty: the worker's own machine.",
    )
    # SSH
    port = models.PositiveIntegerField(
        "SSH port", null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(65535)]
    )
    user = models.CharField("SSH user", max_length=64, blank=True, validators=[validators.validate_login])
    key_ref = models.CharField(
        "key reference",
        max_length=500,
        blank=True,
        validators=[validate_secret_reference],
        help_text="Where the private key is: file:/run/secrets/name. An OpenSSH key without a passphrase.",
    )
    host_keys = models.TextField(
        blank=True,
        validators=[validators.validate_host_keys],
        help_text="Pinned public keys of the machine, one a line: type and base64. “Pin host key” fills this in.",
    )
    # Containers and pods
    container = models.CharField(
        max_length=253,
        blank=True,
        validators=[validators.validate_container],
        help_text="Name of the container, of the Compose service, or of the pod; for example deployment/api.",
    )
    docker_socket = models.CharField(
        max_length=100,
        blank=True,
        validators=[validators.validate_path],
        help_text="Socket of the Docker engine. Empty: the usual one.",
    )
    compose_file = models.CharField(max_length=500, blank=True, validators=[validators.validate_path])
    compose_project = models.CharField(max_length=100, blank=True, validators=[validators.validate_container])
    namespace = models.CharField(max_length=63, blank=True, validators=[validators.validate_container])
    context = models.CharField(max_length=253, blank=True, validators=[validators.validate_context])
    pod_container = models.CharField(
        "container in the pod", max_length=63, blank=True, validators=[validators.validate_container]
    )
    kubeconfig_ref = models.CharField(
        "kubeconfig reference",
        max_length=500,
        blank=True,
        validators=[validate_secret_reference],
        help_text="Where the kubeconfig is. Empty: that of the user who runs kubectl.",
    )

    class Meta:
        ordering = ("name",)
        permissions = [("check_host", "Can check how a host is reached"), ("pin_host", "Can pin the key of a host")]
        constraints = [
            not_empty("host", "name"),
            not_empty("host", "queue"),
            models.CheckConstraint(
                condition=Q(kind__in=["local", "ssh", "docker", "compose", "kubectl"]), name="host_kind_known"
            ),
            models.CheckConstraint(
                condition=~Q(kind="ssh") | ~Q(address="") & ~Q(user="") & ~Q(key_ref="") & Q(port__isnull=False),
                name="host_ssh_complete",
                violation_error_message="A machine over SSH needs an address, a port, a user and a key reference.",
            ),
            models.CheckConstraint(
                condition=~Q(kind__in=["docker", "compose", "kubectl"]) | ~Q(container=""),
                name="host_container_named",
                violation_error_message="Name the container, the Compose service or the pod.",
            ),
            models.CheckConstraint(
                condition=~Q(kind="compose") | ~Q(compose_file=""),
                name="host_compose_file",
                violation_error_message="Name the Compose file with its whole path.",
            ),
            models.CheckConstraint(
                condition=~Q(kind="kubectl") | ~Q(namespace=""),
                name="host_namespace",
                violation_error_message="Name the namespace of the pod.",
            ),
            models.CheckConstraint(
                condition=~Q(kind="local") | Q(via__isnull=True),
                name="host_local_direct",
                violation_error_message="The worker's own machine is not reached over another host.",
            ),
            models.CheckConstraint(
                condition=Q(via__isnull=True) | ~Q(via=F("id")),
                name="host_not_behind_itself",
                violation_error_message="A host cannot be reached over itself.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def way(self) -> str:
        """How it is reached, in short: “deploy@db1.example.org, via bastion”."""
        place = {
            self.Kind.LOCAL: "this machine",
            self.Kind.SSH: f"{self.user}@{self.address}" + (f":{self.port}" if self.port != 22 else ""),
            self.Kind.DOCKER: f"container {self.container}",
            self.Kind.COMPOSE: f"{self.container} of {self.compose_file}",
            self.Kind.KUBECTL: f"{self.container} in {self.namespace}",
        }[self.Kind(self.kind)]
        return f"{place}, via {self.via}" if self.via else place

    @property
    def host_key_lines(self) -> tuple[str, ...]:
        """The pinned keys, each "type base64"."""
        return tuple(line.strip() for line in self.host_keys.splitlines() if line.strip())
