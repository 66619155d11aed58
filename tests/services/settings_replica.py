"""Two databases: reads of runs may go to a replica, as a host's router decides."""

from tests.services.settings import *  # noqa: F403
from tests.services.settings import BASE_DIR, DATABASES, SUFFIX

# A database of its own and no mirror of the first: a replica that is behind is what matters.
DATABASES["replica"] = {**DATABASES["default"], "NAME": f"{DATABASES['default']['NAME']}_replica"}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    for alias in DATABASES:
        name = str(BASE_DIR / f"test-{alias}{SUFFIX}.sqlite3")
        DATABASES[alias] = {**DATABASES[alias], "TEST": {"NAME": name}}

DATABASE_ROUTERS = ["tests.services.routers.ReadFromReplica"]
