import os

from django.apps import AppConfig


class PlantedConfig(AppConfig):
    name = "tests.history.planted"
    label = "planted"

    def ready(self):
        from tests.history.planted import FAULTS

        FAULTS[os.environ["PLANTED_FAULT"]]()
