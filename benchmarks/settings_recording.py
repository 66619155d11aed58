"""The settings of ``bench_recording``: those of the others, and the apps that record tasks."""

import django

from benchmarks.settings import *  # noqa: F403

INSTALLED_APPS += ["django_tasks_db", "django_celery_results"]  # noqa: F405
if django.VERSION < (6, 0):  # which brought django.tasks
    INSTALLED_APPS += ["django_tasks"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
RATELIMIT_ENABLE = False
