"""The API's paths, each with and without a trailing slash."""

from django.urls import re_path

from actor_runs.views import RunViewSet, UnknownPathView

app_name = "actor_runs"

urlpatterns = [
    re_path(
        r"^actor-runs/?\Z",
        RunViewSet.as_view({"get": "list"}, detail=False),
        name="run-list",
    ),
    re_path(
        r"^actor-runs/(?P<run_id>[^/]+)/?\Z",
        RunViewSet.as_view({"get": "retrieve", "delete": "destroy"}, detail=True),
        name="run-detail",
    ),
    # So that a client never meets a page in HTML.
    re_path(r"^actor-runs/", UnknownPathView.as_view()),
]
