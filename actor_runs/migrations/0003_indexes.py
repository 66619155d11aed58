from typing import Any

from django.conf import settings
from django.db import migrations, models

from actor_runs.conf import conf
from actor_runs.db.indexes import IndexOfValues
from actor_runs.db.migrations import migration_of


def drop_index_for_like(apps: Any, schema_editor: Any) -> None:
    """Drop the second index of the primary key, which Django used to add on PostgreSQL."""
    if schema_editor.connection.vendor == 'postgresql':
        table = apps.get_model('actor_runs', 'Run')._meta.db_table
        name = schema_editor._create_index_name(table, ['id'], suffix='_like')
        schema_editor.execute(f'DROP INDEX IF EXISTS {schema_editor.quote_name(name)}')


class Migration(migrations.Migration):

    dependencies = [
        ('actor_runs', '0002_owners'),
        migration_of(conf.organization_model),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    # The new ones first: MariaDB keeps an index that begins with each foreign key.
    operations = [
        migrations.AddIndex(
            model_name='run',
            index=IndexOfValues(fields=['user', 'started_at', 'id'], name='actor_runs_of_user'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=IndexOfValues(fields=['user', 'status', 'started_at', 'id'], name='actor_runs_of_user_status'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=IndexOfValues(fields=['organization', 'started_at', 'id'], name='actor_runs_of_org'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=IndexOfValues(fields=['organization', 'status', 'started_at', 'id'], name='actor_runs_of_org_status'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=IndexOfValues(fields=['finished_at', 'id'], name='actor_runs_ended'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['act_id', 'started_at'], name='actor_runs_of_actor'),
        ),
        migrations.RemoveIndex(model_name='run', name='actor_runs_user'),
        migrations.RemoveIndex(model_name='run', name='actor_runs_user_status'),
        migrations.RemoveIndex(model_name='run', name='actor_runs_org'),
        migrations.RemoveIndex(model_name='run', name='actor_runs_org_status'),
        migrations.RemoveIndex(model_name='run', name='actor_runs_finished'),
        migrations.RunPython(drop_index_for_like, migrations.RunPython.noop, elidable=True),
    ]
