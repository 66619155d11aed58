import actor_runs.owners
from django.conf import settings
from django.db import migrations, models

from actor_runs.conf import conf
from actor_runs.db.migrations import migration_of


class Migration(migrations.Migration):

    dependencies = [
        ('actor_runs', '0001_initial'),
        migration_of(conf.organization_model),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name='run',
            name='build_number',
            field=models.CharField(blank=True, default='0.0.1', help_text='major.minor.build, like 0.1.2.', max_length=16, verbose_name='build number'),
        ),
        migrations.AlterField(
            model_name='run',
            name='organization',
            field=models.ForeignKey(blank=True, db_index=False, help_text='The organization that initiated the run. Either a user or an organization.', null=True, on_delete=actor_runs.owners.delete_finished_runs, related_name='actor_runs', to=conf.organization_model, verbose_name='organization'),
        ),
        migrations.AlterField(
            model_name='run',
            name='user',
            field=models.ForeignKey(blank=True, db_index=False, help_text='The person who initiated the run. Either a user or an organization.', null=True, on_delete=actor_runs.owners.delete_finished_runs, related_name='actor_runs', to=settings.AUTH_USER_MODEL, verbose_name='user'),
        ),
        migrations.AlterConstraint(
            model_name='run',
            name='actor_runs_one_owner',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('organization__isnull', True), ('user__isnull', False)), models.Q(('organization__isnull', False), ('user__isnull', True)), _connector='OR'), name='actor_runs_one_owner', violation_error_message='A run is owned by exactly one: a user or an organization.'),
        ),
        migrations.AlterConstraint(
            model_name='run',
            name='actor_runs_finished_at',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', False), ('status__in', ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED'))), models.Q(models.Q(('status__in', ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED')), _negated=True), ('finished_at__isnull', True)), _connector='OR'), name='actor_runs_finished_at', violation_error_message='A run has an end if and only if it is finished.'),
        ),
    ]
