"""A place to work at: a browser that is logged in to the admin of a fresh demo."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.demo_server import demo_server

LIST = "/admin/actor_runs/run/"
WIDE = {"width": 1440, "height": 900}

Desk = Callable[..., Any]


@contextmanager
def desk_at_a_fresh_demo(browser: Any, folder: Path) -> Iterator[Desk]:
    """A function that logs in to a fresh demo, as another person each time; returns a page.

    In the end the console must have had no errors, and the server neither.
    """
    faults: list[str] = []
    contexts = []

    with demo_server(folder) as demo:

        def sit_down(
            theme: Any = "light", viewport: Any = WIDE, locale: str = "en-GB", log_in: bool = True
        ) -> Any:
            context = browser.new_context(
                base_url=demo.site, color_scheme=theme, viewport=viewport, locale=locale
            )
            contexts.append(context)
            # Browsers ask for it on their own, and the demo project has none.
            context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
            page = context.new_page()
            page.on(
                "console",
                lambda message: (
                    faults.append(message.text) if message.type in ("error", "warning") else None
                ),
            )
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(f"/admin/login/?next={LIST}")
            if log_in:
                page.locator("#id_username").fill("admin")
                page.locator("#id_password").fill("admin")
                page.locator("#id_password").press("Enter")
                page.wait_for_url(f"**{LIST}")
            return page

        yield sit_down
        for context in contexts:
            context.close()
    assert faults == []
    log = (folder / "server.log").read_text()
    assert "Traceback" not in log
    # The icon is asked for past the route now and then.
    assert not re.findall(r'(?<!/favicon\.ico HTTP/1\.1)" (?:404|5\d\d) ', log)
