"""The engines' settings, and a fault in the app where a test of the checker plants one."""

import os

from tests.engines.settings import *  # noqa: F403
from tests.engines.settings import INSTALLED_APPS

if "PLANTED_FAULT" in os.environ:
    INSTALLED_APPS = [*INSTALLED_APPS, "tests.history.planted"]
