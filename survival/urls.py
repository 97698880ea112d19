from django.urls import path

from survival import views

urlpatterns = [
    path("health/status", views.status, name="health-status"),
    path("metrics", views.figures, name="metrics"),
    path("offline-card/", views.offline_card, name="offline-card"),
    path("breakglass/<str:token>/", views.break_glass, name="breakglass"),
]
