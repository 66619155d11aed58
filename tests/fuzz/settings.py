"""The demo project, with limits that fuzzing does not meet at once."""

from project.settings import *  # noqa: F403

# Far away, and still announced in the headers.
ACTOR_RUNS = {"RATE_LIMIT": None, "RUN_RATE_LIMIT": "1000000/s", "MAX_WAIT_FOR_FINISH": 0.02}
ALLOWED_HOSTS = ["127.0.0.1"]
DEBUG = False
LOGGING = {}
