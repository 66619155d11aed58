"""These tests need a browser: they are run by ``make test-browser``, with settings of their own."""

from django.conf import settings

collect_ignore_glob = [] if settings.SETTINGS_MODULE == "tests.browser.settings" else ["test_*"]
