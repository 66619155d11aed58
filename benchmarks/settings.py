"""What every Django peer shares: the demo project's settings, on PostgreSQL and Redis.

``PEER`` in the environment names the module in ``benchmarks/peers`` that answers; ``LIMITS=0``
switches the rate limits off; ``CACHE_BACKEND`` names another cache backend than django-redis.
"""

import os

from project.settings import *  # noqa: F403

DEBUG = False
ALLOWED_HOSTS = ["*"]
# An API and nothing else, so that no peer's figure is diluted by what all have in common.
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework.authtoken",
    "actor_runs",
]
MIDDLEWARE = []
ROOT_URLCONF = f"benchmarks.peers.{os.environ.get('PEER', 'actor_runs_app')}"
LOGGING_CONFIG = None
CACHES = {
    "default": {
        "BACKEND": os.environ.get("CACHE_BACKEND", "django_redis.cache.RedisCache"),
        "LOCATION": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    }
}
RATELIMIT_ENABLE = os.environ.get("LIMITS", "1") == "1"
