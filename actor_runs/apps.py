from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy as _

from actor_runs.checks import check_cache_is_shared, check_settings


class ActorRunsConfig(AppConfig):
    """The app: registers its system checks and does nothing else."""

    name = "actor_runs"
    verbose_name = _("Actor runs")

    def ready(self) -> None:
        checks.register(check_settings)
        checks.register(check_cache_is_shared, checks.Tags.caches, deploy=True)
