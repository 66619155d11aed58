"""The project under WSGI, announcing its writes where a test asks for it."""

from tests.services.announcements import announce_writes_if_asked

announce_writes_if_asked()

from project.wsgi import application  # noqa: E402, F401
