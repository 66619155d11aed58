"""The plain configuration on an engine, with somebody who hears of deletions where asked for.

``SETTINGS`` in the environment, a JSON object, overrides it: DATABASES, above all.
``WITNESS_LOG`` is where the witness writes; without it nobody listens, and the app deletes
by one conditional statement.
"""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

# Limits are not what is tested, and local memory counts for one process alone.
ACTOR_RUNS = {"RATE_LIMIT": None, "RUN_RATE_LIMIT": None}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

if "WITNESS_LOG" in os.environ:
    INSTALLED_APPS = [*INSTALLED_APPS, "tests.engines.witness"]

globals().update(json.loads(os.environ.get("SETTINGS", "{}")))
