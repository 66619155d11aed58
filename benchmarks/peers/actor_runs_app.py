"""This app."""

from django.urls import include, path

urlpatterns = [path("v2/", include("actor_runs.urls"))]
