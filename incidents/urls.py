"""Pages beside the admin site."""

from django.urls import URLPattern, path

from core.admin_site import site
from incidents import (
    views,
    views_declare,
    views_report,
    views_restore,
    views_review,
    views_rollback,
    views_status,
    views_updates,
)

ONE = "incidents/incident/<int:pk>/"

urlpatterns: list[URLPattern] = [
    path("incidents/declare/", site.admin_view(views_declare.page), name="incidents-declare"),
    path(f"{ONE}note/", site.admin_view(views.note), name="incidents-note"),
    path(f"{ONE}tick/", site.admin_view(views.tick), name="incidents-tick"),
    path(f"{ONE}entry/<int:entry>/correct/", site.admin_view(views.correct), name="incidents-correct"),
    path(f"{ONE}entry/<int:entry>/pin/", site.admin_view(views.pin), name="incidents-pin"),
    path(f"{ONE}evidence/", site.admin_view(views.upload), name="incidents-evidence"),
    path(f"{ONE}evidence/<int:evidence>/", site.admin_view(views.download), name="incidents-download"),
    path(f"{ONE}beside/", site.admin_view(views.beside), name="incidents-beside"),
    path(f"{ONE}restore/", site.admin_view(views_restore.pick), name="incidents-restore"),
    path(f"{ONE}restore/<int:archive>/", site.admin_view(views_restore.confirm), name="incidents-restore-confirm"),
    path(f"{ONE}backup/", site.admin_view(views_restore.back_up), name="incidents-backup"),
    path(f"{ONE}restore/<int:restore>/undo/", site.admin_view(views_restore.undo), name="incidents-undo"),
    path(f"{ONE}rollback/<int:environment>/", site.admin_view(views_rollback.roll_back), name="incidents-rollback"),
    path("incidents/report/", views_report.month, name="incidents-report"),
    path("incidents/<int:pk>/update/", views_updates.update_page, name="incidents-update"),
    path("incidents/<int:pk>/review/", views_review.review_page, name="incidents-review"),
    path("status/", views_status.page, name="status-page"),
    path("status/history/", views_status.history, name="status-history"),
    path("status.json", views_status.as_json, name="status-json"),
    path("status.rss", views_status.feed, name="status-feed"),
]
