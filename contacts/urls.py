"""Pages beside the admin site."""

from django.urls import URLPattern, path

from contacts import views_answer, views_oncall

urlpatterns: list[URLPattern] = [
    path("oncall/<int:pk>/month/", views_oncall.month_page, name="oncall-month"),
    path("oncall/feed/<str:secret>.ics", views_oncall.feed, name="oncall-feed"),
    path("answer/<str:token>/", views_answer.answer_page, name="answer"),
]
