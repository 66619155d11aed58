"""The plain configuration, whose tests speak with the app by ASGI: ``API`` in tests/conftest.py."""

from tests.settings import *  # noqa: F403
