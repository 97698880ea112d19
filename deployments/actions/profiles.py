"""How environments are deployed to: saved here, so that each has its line on the board at once."""

from __future__ import annotations

from django.db import transaction

from deployments.models import DeploymentProfile, LiveState


def save_profile(profile: DeploymentProfile) -> DeploymentProfile:
    """Save it, and give its environment a line on the board where it has none."""
    with transaction.atomic():
        profile.save()
        LiveState.objects.get_or_create(environment=profile.environment)
    return profile
