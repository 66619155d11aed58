"""A host that differs wherever it can: its own users and organizations, rows that depend on
runs, receivers of their signals, ATOMIC_REQUESTS, no USE_TZ, and REST framework settings of its
own.
"""

from tests.settings import *  # noqa: F403
from tests.settings import BASE_DIR, DATABASES, INSTALLED_APPS, SUFFIX

INSTALLED_APPS = [*INSTALLED_APPS, "tests.host"]
AUTH_USER_MODEL = "host.Person"
ACTOR_RUNS = {"ORGANIZATION_MODEL": "host.Company", "ORGANIZATION_MEMBERS": "staff__person"}

DATABASES["default"]["ATOMIC_REQUESTS"] = True
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
        "transaction_mode": "IMMEDIATE",
    }
    DATABASES["default"]["TEST"] = {"NAME": str(BASE_DIR / f"test-host{SUFFIX}.sqlite3")}

USE_TZ = False
TIME_ZONE = "America/New_York"
SILENCED_SYSTEM_CHECKS = ["actor_runs.W003"]  # an hour that comes twice, which this host accepts
LANGUAGE_CODE = "cs"

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "1/day"},
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_VERSION": "1.0",
    "ALLOWED_VERSIONS": ["1.0"],
    "UNAUTHENTICATED_USER": None,
    "COERCE_DECIMAL_TO_STRING": True,
    "DATETIME_FORMAT": "%d",
    "URL_FORMAT_OVERRIDE": "format",
}
