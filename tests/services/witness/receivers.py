"""A host that listens, and that fails or takes forever where a run's message says so."""

import os
import threading

from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver

from actor_runs.models import Run
from tests.services.announcements import announce
from tests.services.witness.models import Heard


@receiver(pre_delete, sender=Run)
def before(instance, using, **kwargs):
    Heard.objects.using(using).create(signal="pre_delete", run_id=instance.pk)


@receiver(post_delete, sender=Run)
def after(instance, using, **kwargs):
    Heard.objects.using(using).create(signal="post_delete", run_id=instance.pk)
    if instance.status_message == "raise":
        raise LookupError("the host's own receiver failed")
    if instance.status_message == "hold":
        announce(f"held by {os.getpid()}")
        threading.Event().wait()
