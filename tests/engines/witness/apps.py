from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_delete


class WitnessConfig(AppConfig):
    name = "tests.engines.witness"
    label = "engines_witness"

    def ready(self):
        from actor_runs.models import Run
        from tests.engines.witness import hear, note_connection

        post_delete.connect(hear, sender=Run)
        connection_created.connect(note_connection)
