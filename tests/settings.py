"""The plain configuration: the demo project's, with Django's own users and groups.

Nothing refers to runs and nobody listens to their signals, so runs are deleted by one
conditional statement.
"""

import os

from project.settings import *  # noqa: F403
from project.settings import BASE_DIR, DATABASES

# So that two runs of the suite can go on side by side.
SUFFIX = os.environ.get("TEST_DB_SUFFIX", "")

DEBUG = False
SECRET_KEY = "tests"
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, since threads share what is in memory; and Django's own defaults, the harder case,
    # except that no commit waits for the disk: nothing here must outlive a power cut.
    DATABASES["default"]["OPTIONS"] = {"init_command": "PRAGMA synchronous=OFF"}
    DATABASES["default"]["TEST"] = {"NAME": str(BASE_DIR / f"test{SUFFIX}.sqlite3")}

if DATABASES["default"].get("OPTIONS", {}).get("pool"):
    # A URL carries words, not truth; and Django pools connections or keeps them, not both.
    DATABASES["default"]["OPTIONS"]["pool"] = True
    DATABASES["default"]["CONN_MAX_AGE"] = 0

LOGGING = {}
