from importlib import import_module

from django.apps import AppConfig, apps
from django.core import checks
from django.utils.translation import gettext_lazy as _

from actor_runs.checks import check_cache, check_models, check_settings, check_times, check_urls


class ActorRunsConfig(AppConfig):
    """The app: registers its system checks, and its OpenAPI document where that is wanted."""

    name = "actor_runs"
    verbose_name = _("Actor runs")

    def ready(self) -> None:
        checks.register(check_settings)
        checks.register(check_models, checks.Tags.models)
        checks.register(check_times, checks.Tags.models)
        checks.register(check_urls, checks.Tags.urls)
        checks.register(check_cache, checks.Tags.caches, deploy=True)
        if apps.is_installed("drf_spectacular"):  # pragma: no branch  (make test-hosts)
            import_module("actor_runs.openapi")
