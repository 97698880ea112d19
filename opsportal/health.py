"""Two questions for a load balancer: does the process answer, and may it get traffic.

Ready means database and migrations, nothing else. A check that also looked at Redis, beat or lag would take the portal
out of its balancer in the middle of the very outage it is there for.
"""

from django.db import Error as AnyDatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

# Migrations only ever get applied while this code runs, so "all applied" stays true and is asked once.
_migrated = False


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """200 as long as the process answers."""
    return JsonResponse({"status": "live"})


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 once the database answers and no migration is missing; else 503 with a sentence."""
    reason = _why_not_ready()
    if reason:
        return JsonResponse({"status": "not ready", "reason": reason}, status=503)
    return JsonResponse({"status": "ready"})


def _why_not_ready() -> str:
    global _migrated
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not _migrated:
            executor = MigrationExecutor(connection)
            missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
            if missing:
                return f"The database lacks {missing} migration{'s' * (missing > 1)}: run manage.py migrate."
            _migrated = True
    except AnyDatabaseError:
        # The driver's own words may name hosts and users; they go to the log of whoever asks the database next.
        return "The database does not answer."
    return ""


urlpatterns = [path("live", live, name="health-live"), path("ready", ready, name="health-ready")]
