"""Who changed what: every editable model is tracked by django-auditlog, with secrets masked."""

from auditlog.registry import auditlog
from django.db.models import Model


def track(
    model: type[Model],
    *,
    mask: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    m2m: tuple[str, ...] = (),
) -> None:
    """Record every create, update and delete of `model`. Call it once, from the app's `admin.py`.

    `mask`: fields whose values are shown as asterisks. `exclude`: fields that change without meaning (heartbeats).
    `m2m`: many-to-many fields to follow. A second call for the same model changes nothing.
    """
    if not auditlog.contains(model):
        auditlog.register(model, mask_fields=list(mask), exclude_fields=list(exclude), m2m_fields=set(m2m))


def is_tracked(model: type[Model]) -> bool:
    """True if changes of `model` leave a trail."""
    return bool(auditlog.contains(model))
