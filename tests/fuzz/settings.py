"""The demo project, with both ways to send a token, and limits that are not met at once."""

from project.settings import *  # noqa: F403

# Far away, and still announced in the headers.
ACTOR_RUNS = {
    "AUTHENTICATION_CLASSES": [
        "actor_runs.authentication.BearerTokenAuthentication",
        "actor_runs.authentication.QueryTokenAuthentication",
    ],
    "RATE_LIMIT": None,
    "RUN_RATE_LIMIT": "1000000/s",
    "MAX_WAIT_FOR_FINISH": 0.02,
}
ALLOWED_HOSTS = ["127.0.0.1"]
DEBUG = False
LOGGING = {}
