"""The tables: what the migrations make of them is what the models say, in any host."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from actor_runs.db.migrations import migration_of
from actor_runs.models import Run


def tables() -> set[str]:
    return set(connection.introspection.table_names())


@pytest.mark.django_db
def test_no_migration_is_missing():
    output = StringIO()
    call_command("makemigrations", check=True, dry_run=True, stdout=output)
    assert "actor_runs" not in output.getvalue()


def test_organizations_without_migrations_are_no_dependency(settings):
    settings.MIGRATION_MODULES = {"auth": None}
    for label in ("auth.Group", "elsewhere.Company"):
        assert migration_of(label) == (label.split(".")[0], "__first__")


@pytest.mark.django_db(transaction=True)
def test_the_migrations_go_down_and_up_again(alice, run):
    targets = MigrationExecutor(connection).loader.graph.leaf_nodes()
    run.delete()
    try:
        call_command("migrate", "actor_runs", "zero", verbosity=0)
        assert Run._meta.db_table not in tables()
    finally:
        MigrationExecutor(connection).migrate(targets)
    assert Run._meta.db_table in tables()
    assert Run.objects.create(user=alice).owner == alice


@pytest.mark.django_db
def test_the_database_has_the_constraints_and_indexes_of_the_model():
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, Run._meta.db_table)
    checks = {name for name, about in found.items() if about["check"]}
    indexes = {name: about["columns"] for name, about in found.items() if about["index"]}
    assert checks >= {"actor_runs_one_owner", "actor_runs_status", "actor_runs_finished_at"}
    expected = {
        "actor_runs_of_user": ["user_id", "started_at", "id"],
        "actor_runs_of_org": ["organization_id", "started_at", "id"],
        "actor_runs_of_user_status": ["user_id", "status", "started_at", "id"],
        "actor_runs_of_org_status": ["organization_id", "status", "started_at", "id"],
        "actor_runs_started": ["started_at", "id"],
        "actor_runs_of_actor": ["act_id", "started_at"],
        "actor_runs_status_started": ["status", "started_at", "id"],
        "actor_runs_ended": ["finished_at", "id"],
    }
    assert indexes.items() >= expected.items()
    if connection.vendor != "mysql":
        # No other index but that of the primary key, and no entry for a column without a value.
        assert len([name for name, about in found.items() if about["columns"]]) >= len(expected)
        assert not [name for name in found if name.endswith("_like")]


@pytest.mark.postgresql
@pytest.mark.django_db
def test_an_index_of_an_owner_or_of_ends_has_no_entry_without_a_value():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s", [Run._meta.db_table]
        )
        definitions = dict(cursor.fetchall())
    for name, column in (
        ("actor_runs_of_user", "user_id"),
        ("actor_runs_of_user_status", "user_id"),
        ("actor_runs_of_org", "organization_id"),
        ("actor_runs_of_org_status", "organization_id"),
        ("actor_runs_ended", "finished_at"),
    ):
        assert definitions[name].endswith(f"WHERE ({column} IS NOT NULL)")
