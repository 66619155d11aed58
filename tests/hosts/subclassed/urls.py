from django.urls import re_path

from project.urls import urlpatterns as projects
from tests.hosts.subclassed.views import Runs

urlpatterns = [
    re_path(r"^v2/actor-runs/?\Z", Runs.as_view({"get": "list"})),
    re_path(
        r"^v2/actor-runs/(?P<runId>[^/]+)/?\Z",
        Runs.as_view({"get": "retrieve", "delete": "destroy"}),
    ),
    *projects,
]
