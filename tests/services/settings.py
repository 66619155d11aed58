"""The plain configuration, for tests with server processes.

Those processes load it too: ``SETTINGS`` in their environment, a JSON object, overrides it.
"""

import json
import os

from tests.settings import *  # noqa: F403

globals().update(json.loads(os.environ.get("SETTINGS", "{}")))
