"""What ``make test-browser`` runs with. The demo project itself is a process of its own."""

from tests.settings import *  # noqa: F403
