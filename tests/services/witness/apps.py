from django.apps import AppConfig


class WitnessConfig(AppConfig):
    name = "tests.services.witness"
    label = "witness"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        from tests.services.witness import receivers  # noqa: F401
