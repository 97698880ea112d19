"""Form fields and forms of the inventory: durations with units, commands one argument a line."""

import re
from datetime import timedelta
from typing import Any

from django import forms
from django.utils.text import slugify

from catalog.models import Environment, Probe, Service, ServiceControlCommands
from catalog.probes import PROBES

UNITS = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}
PART = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*(d|h|min|m|s)(?![a-z])\s*")
CLOCK = re.compile(r"([0-9]{1,4}):([0-5][0-9]):([0-5][0-9])")
NO_DURATION = "Write a number with its unit: 90 s, 15 min, 4 h, 1 d or 1 h 30 min."


class HumanDurationField(forms.DurationField):
    """A duration as people write it: `15 min`, `1 h 30 min`, `0`, or `hh:mm:ss`.

    A number without a unit is refused: the stock field reads it as seconds, whoever types 15 means minutes.
    """

    default_error_messages = {"invalid": NO_DURATION, "overflow": NO_DURATION}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"widget": forms.TextInput(attrs={"autocomplete": "off", "size": 16}), **kwargs})

    def prepare_value(self, value: Any) -> Any:
        return written(value) if isinstance(value, timedelta) else value

    def to_python(self, value: Any) -> timedelta | None:
        if value is None or isinstance(value, timedelta):
            return value
        text = str(value).strip().lower()
        if not text:
            return None
        if text == "0":
            return timedelta(0)
        if clock := CLOCK.fullmatch(text):
            hours, minutes, seconds = map(int, clock.groups())
            return timedelta(hours=hours, minutes=minutes, seconds=seconds)
        parts = list(PART.finditer(text))
        if not parts or "".join(part[0] for part in parts) != text:
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        return sum((timedelta(seconds=UNITS[part[2]]) * float(part[1]) for part in parts), timedelta(0))


def written(value: timedelta) -> str:
    """A duration in the form the field reads, without loss: `1 h 30 min`, `0.2 s`."""
    seconds, parts = value // timedelta(seconds=1), []
    for unit in ("d", "h", "min"):
        count, seconds = divmod(seconds, UNITS[unit])
        if count:
            parts.append(f"{count} {unit}")
    fraction = f".{value.microseconds:06d}".rstrip("0").rstrip(".")
    if seconds or fraction:
        parts.append(f"{seconds}{fraction} s")
    return " ".join(parts) or "0"


class ArgumentVectorField(forms.CharField):
    """A command, one argument a line: what stands on a line reaches the program as it is, no quoting, no shell."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocapitalize": "none"})
        super().__init__(*args, **{"widget": widget, **kwargs})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        return [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]


class SlugFromNameForm(forms.ModelForm):
    """Makes the slug from the name where none is typed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "slug" in self.fields:
            self.fields["slug"].required = False
            self.fields["slug"].help_text = "Short name in addresses and folders. Empty: made from the name."

    def clean_slug(self) -> str:
        slug = self.cleaned_data["slug"] or slugify(self.cleaned_data.get("name", ""))
        if not slug and self.cleaned_data.get("name"):
            raise forms.ValidationError("Write a slug: the name has no plain letters to make one from.")
        return str(slug)


class ServiceForm(SlugFromNameForm):
    class Meta:
        model = Service
        fields = ("name", "slug", "description", "owner_team", "time_zone", "business_hours")


class EnvironmentForm(SlugFromNameForm):
    class Meta:
        model = Environment
        fields = ("service", "name", "slug", "kind", "allowed_networks")


class PinKeyForm(forms.Form):
    """Which of the keys that the machine shows is the right one. Compare before you choose."""

    key = forms.ChoiceField(
        label="Key of the machine",
        widget=forms.RadioSelect,
        help_text="On the machine itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
    )

    def __init__(self, *args: Any, keys: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["key"].choices = keys  # type: ignore[attr-defined]


class ServiceControlForm(forms.ModelForm):
    """The three commands, one argument a line."""

    start = ArgumentVectorField(
        label="Start command",
        help_text="One argument a line, the program first. It returns at once, without waiting for readiness.",
    )
    stop = ArgumentVectorField(
        label="Stop command", help_text="One argument a line. It returns when the service has stopped."
    )
    status = ArgumentVectorField(
        label="Status command",
        help_text="One argument a line. It ends with 0 when the service is ready and with 3 when it is stopped.",
    )

    class Meta:
        model = ServiceControlCommands
        fields = ("environment", "host", "start", "stop", "status", "timeout_s", "ready_timeout_s")


class ProbeFields(forms.ModelForm):
    """What every probe has; `probe_form` adds what its kind asks for."""

    kind_of_probe = ""

    class Meta:
        model = Probe
        fields = ("environment", "component", "name", "looks_from", "use", "timeout_s")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in (self.instance.parameters or {}).items():
            self.initial[name] = "\n".join(value) if isinstance(value, list) else value

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        component, environment = values.get("component"), values.get("environment")
        if component is not None and environment is not None and component.environment_id != environment.pk:
            self.add_error("component", "This component belongs to another environment. Choose one of this.")
        self.instance.kind = self.kind_of_probe
        names = PROBES[self.kind_of_probe].form.base_fields
        self.instance.parameters = {name: values[name] for name in names if values.get(name) not in (None, "")}
        return values


def probe_form(kind: str) -> type[ProbeFields]:
    """The form of one kind of probe. Raises KeyError for an unknown one."""
    return type(f"{kind.title()}ProbeForm", (PROBES[kind].form, ProbeFields), {"kind_of_probe": kind})
