"""The host's configuration, and an app that writes down which signals it heard."""

import json
import os

from tests.settings_host import *  # noqa: F403
from tests.settings_host import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.services.witness"]

globals().update(json.loads(os.environ.get("SETTINGS", "{}")))
