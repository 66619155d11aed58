"""What the Django subjects share: the configuration that docs/how-to/deployment.md prescribes.

``PEER`` in the environment names the module in ``benchmarks/peers`` that answers; ``LIMITS=0``
switches the rate limits off; ``CACHE=django`` uses Django's own Redis backend in place of
django-redis. DATABASE_URL and REDIS_URL name the servers.
"""

import os

from project.settings import *  # noqa: F403

PEER = os.environ.get("PEER", "actor_runs_app")

DEBUG = False
ALLOWED_HOSTS = ["*"]
# An API and nothing else, so that what all have in common hides no difference.
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework.authtoken",
    "actor_runs",
]
if PEER in ("drf_modelviewset", "ninja"):
    INSTALLED_APPS += ["benchmarks.peers"]  # they bring a model of their own
MIDDLEWARE = []
ROOT_URLCONF = f"benchmarks.peers.{PEER}"
LOGGING_CONFIG = None

DATABASE = DATABASES["default"]  # noqa: F405
if DATABASE["ENGINE"] == "django.db.backends.postgresql":
    DATABASE["OPTIONS"] = {
        "connect_timeout": 3,
        "options": "-c lock_timeout=5s -c statement_timeout=30s",
    }
elif DATABASE["ENGINE"] == "django.db.backends.mysql":
    DATABASE["OPTIONS"] = {
        "connect_timeout": 3,
        "init_command": "SET innodb_lock_wait_timeout=5",
    }
if DATABASE["ENGINE"] != "django.db.backends.sqlite3":
    DATABASE["CONN_MAX_AGE"] = 60
    DATABASE["CONN_HEALTH_CHECKS"] = True

if os.environ.get("CACHE") == "django":
    BACKEND = "django.core.cache.backends.redis.RedisCache"
    TIMEOUTS = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
else:
    BACKEND = "django_redis.cache.RedisCache"
    TIMEOUTS = {"SOCKET_TIMEOUT": 0.5, "SOCKET_CONNECT_TIMEOUT": 0.5}
CACHES = {
    "default": {
        "BACKEND": BACKEND,
        "LOCATION": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
        "OPTIONS": TIMEOUTS,
    }
}
RATELIMIT_ENABLE = os.environ.get("LIMITS", "1") == "1"
