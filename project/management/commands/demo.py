"""``manage.py demo``: fresh data, lines to paste, and a server that answers them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from rest_framework.authtoken.models import Token

from project import demo_data
from project.demo_data import (
    ALICE_TOKEN,
    BOB_TOKEN,
    BOBS_RUN,
    FAILED_RUN,
    PUBLIC_RUN,
    RUNNING_RUN,
    SUCCEEDED_RUN,
)

ALICE = f"-H 'Authorization: Bearer {ALICE_TOKEN}'"
NOBODY = "-H 'Authorization: Bearer no-such-token'"

# What each line shows, curl's arguments, and the answer, with ... for what is left out.
EXAMPLES = [
    (
        "Alice lists her runs and Acme's, newest first.",
        f"'{{url}}?desc=1&limit=2' {ALICE}",
        '200 {"data":{"total":10,"offset":0,"limit":2,"count":2,"desc":true,"items":[...]}}',
    ),
    (
        "She reads one.",
        f"{{url}}/{FAILED_RUN} {ALICE}",
        f'200 {{"data":{{"id":"{FAILED_RUN}",..."status":"FAILED",...}}}}',
    ),
    (
        "Anyone reads a public run.",
        f"{{url}}/{PUBLIC_RUN}",
        f'200 {{"data":{{"id":"{PUBLIC_RUN}",..."generalAccess":"ANYONE_WITH_ID_CAN_READ",...}}}}',
    ),
    (
        "Alice deletes a finished run of hers.",
        f"-X DELETE {{url}}/{SUCCEEDED_RUN} {ALICE}",
        "204",
    ),
    (
        "It is gone.",
        f"-X DELETE {{url}}/{SUCCEEDED_RUN} {ALICE}",
        '404 {"error":{"type":"record-not-found",'
        '"message":"The requested resource was not found."}}',
    ),
    (
        "A run that is not finished stays.",
        f"-X DELETE {{url}}/{RUNNING_RUN} {ALICE}",
        '400 {"error":{"type":"cannot-remove-running-run","message":'
        f'"Only finished runs can be deleted (run ID: {RUNNING_RUN}, status: RUNNING)."}}}}',
    ),
    (
        "A body that is no JSON object is refused.",
        f"-X DELETE {{url}}/{FAILED_RUN} {ALICE} -d '[]'",
        '400 {"error":{"type":"invalid-input","message":'
        '"Invalid input: The request body contains invalid data."}}',
    ),
    (
        "So is a wrong token.",
        f"-X DELETE {{url}}/{FAILED_RUN} {NOBODY}",
        '401 {"error":{"type":"token-not-valid","message":"Authentication token is not valid."}}',
    ),
    (
        "Bob's run is not Alice's to delete.",
        f"-X DELETE {{url}}/{BOBS_RUN} {ALICE}",
        '403 {"error":{"type":"permission-denied",'
        '"message":"You do not have permission to perform this action."}}',
    ),
    (
        "There is no way to delete all at once.",
        f"-X DELETE {{url}} {ALICE}",
        '405 {"error":{"type":"method-not-allowed","message":"This API end-point can only be '
        'accessed using the following HTTP methods: OPTIONS,GET"}}',
    ),
]


class Command(BaseCommand):
    """Erases the database of the demo project: never one that the demo did not make."""

    help = "Start the demo again from the same data, print what to try, and serve it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="port to serve on")

    def handle(self, *, port: int, **options: Any) -> None:
        self.refuse_other_data()
        call_command("migrate", verbosity=0)
        call_command("flush", interactive=False, verbosity=0)
        demo_data.create()
        self.stdout.write(introduction(f"http://127.0.0.1:{port}"))
        call_command("runserver", f"127.0.0.1:{port}", use_reloader=False)

    def refuse_other_data(self) -> None:
        tables = connection.introspection.table_names()
        if not tables or (
            Token._meta.db_table in tables and Token.objects.filter(key=ALICE_TOKEN).exists()
        ):
            return
        raise CommandError(
            "The database has tables, but not the demo's data, which would replace everything in "
            "it. Let DATABASE_URL name an empty database."
        )


def introduction(site: str) -> str:
    """Return what is there, and what to try."""
    lines = [
        "",
        "Two people, alice and bob, and the organization Acme, of which alice is a member.",
        "Some hundreds of other runs, of the last weeks, are those of carol, dave and Globex.",
        "",
        f"Token of alice: {ALICE_TOKEN}",
        f"Token of bob:   {BOB_TOKEN}",
        f"Admin:          {site}/admin/ (admin, password admin)",
        f"Overview:       {site}/admin/actor_runs/run/overview/",
        f"OpenAPI:        {site}/schema/ui/",
        "",
        "Paste these into another terminal, in this order:",
    ]
    for what, arguments, answer in EXAMPLES:
        lines += [
            "",
            f"# {what}",
            "curl -i " + arguments.format(url=f"{site}/v2/actor-runs"),
            f"# {answer}",
        ]
    return "\n".join([*lines, ""])
