"""The WSGI application of the Django subjects; ``PROFILE=calls`` or ``samples`` profiles it."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

application = get_wsgi_application()

if kind := os.environ.get("PROFILE"):
    from benchmarks.profiled import BY

    application = BY[kind](application)
