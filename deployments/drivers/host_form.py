"""What every driver asks for that starts programs on a host itself."""

from __future__ import annotations

from django import forms

from deployments.drivers.fields import ArgvField, PathField, PlainField

BEFORE_PROXY = ("root", "argv", "ready_path")
"""The order on the page: these, then the proxy with what its driver asks for, then the rest."""


class HostForm(forms.Form):
    """Where it all is, how the program is started, what is asked of it, and what else is known of the proxy."""

    root = PathField(label="Folder", max_length=300, help_text="Everything of this environment lives here: /srv/erp.")
    argv = ArgvField(
        label="Start command",
        help_text="One argument a line. {port}, {socket}, {folder}, {version} and {slot} are filled in.",
    )
    ready_path = PlainField(label="Health check", initial="/health/ready", max_length=200)
    access_log = PathField(
        label="Access log of the proxy",
        required=False,
        max_length=300,
        help_text="Caddy's JSON or nginx's combined. Errors are counted in it. Empty: they are not watched.",
    )
    proxy_address = PlainField(
        label="Address of the proxy", required=False, max_length=200, help_text="host:port, asked before a deployment."
    )
    python = PlainField(label="Python there", required=False, max_length=200, help_text="Empty: python3.")

    def clean_ready_path(self) -> str:
        path: str = self.cleaned_data["ready_path"]
        if not path.startswith("/") or " " in path:
            raise forms.ValidationError("Write a path such as /health/ready.")
        return path
