"""The API's paths, each with and without a trailing slash."""

from django.urls import re_path

from actor_runs.views import RunViewSet, UnknownPathView

app_name = "actor_runs"

LIST = {"get": "list"}
DETAIL = {"get": "retrieve", "delete": "destroy"}

# The parameter has the API page's name for it, since schemas take it from here.
urlpatterns = [
    re_path(r"^actor-runs\Z", RunViewSet.as_view(LIST, detail=False), name="run-list"),
    re_path(
        r"^actor-runs/(?P<runId>[^/]+)\Z",
        RunViewSet.as_view(DETAIL, detail=True),
        name="run-detail",
    ),
    # The same paths with a trailing slash, hidden from the schema.
    re_path(r"^actor-runs/\Z", RunViewSet.as_view(LIST, detail=False, schema=None)),
    re_path(
        r"^actor-runs/(?P<runId>[^/]+)/\Z",
        RunViewSet.as_view(DETAIL, detail=True, schema=None),
    ),
    # So that a client never meets a page in HTML.
    re_path(r"^actor-runs/", UnknownPathView.as_view()),
]
