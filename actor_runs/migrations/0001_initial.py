import actor_runs.fields
import actor_runs.models
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from actor_runs.conf import conf
from actor_runs.db.migrations import migration_of


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        # The host's choice: the same value here, in the foreign key below and in models.py.
        migration_of(conf.organization_model),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', actor_runs.fields.RunIDField(default=actor_runs.fields.generate_id, editable=False, help_text='Up to 32 letters, digits, hyphens and underscores.', max_length=32, primary_key=True, serialize=False, verbose_name='run ID')),
                ('status', actor_runs.fields.ExactCharField(choices=[('READY', 'Ready'), ('RUNNING', 'Running'), ('SUCCEEDED', 'Succeeded'), ('FAILED', 'Failed'), ('TIMING-OUT', 'Timing out'), ('TIMED-OUT', 'Timed out'), ('ABORTING', 'Aborting'), ('ABORTED', 'Aborted')], default='READY', max_length=16, verbose_name='status')),
                ('started_at', actor_runs.fields.MillisecondDateTimeField(default=django.utils.timezone.now, verbose_name='started at')),
                ('finished_at', actor_runs.fields.MillisecondDateTimeField(blank=True, null=True, verbose_name='finished at')),
                ('act_id', models.CharField(default=actor_runs.fields.generate_id, max_length=64, verbose_name='Actor ID')),
                ('actor_task_id', models.CharField(blank=True, default='', max_length=64, verbose_name='Actor task ID')),
                ('build_id', models.CharField(default=actor_runs.fields.generate_id, max_length=64, verbose_name='build ID')),
                ('build_number', models.CharField(blank=True, default='', help_text='major.minor.build, like 0.1.2.', max_length=16, verbose_name='build number')),
                ('exit_code', models.IntegerField(blank=True, null=True, verbose_name='exit code')),
                ('status_message', models.TextField(blank=True, default='', verbose_name='status message')),
                ('is_status_message_terminal', models.BooleanField(blank=True, null=True, verbose_name='status message is final')),
                ('general_access', models.CharField(choices=[('FOLLOW_USER_SETTING', 'As set for the whole site'), ('ANYONE_WITH_ID_CAN_READ', 'Anyone with the ID can read'), ('ANYONE_WITH_NAME_CAN_READ', 'Anyone with the name can read'), ('RESTRICTED', 'Only the owner can read')], default='FOLLOW_USER_SETTING', help_text='Who, besides the owner, can read the run.', max_length=32, verbose_name='general access')),
                ('default_key_value_store_id', models.CharField(default=actor_runs.fields.generate_id, max_length=64, verbose_name='default key-value store ID')),
                ('default_dataset_id', models.CharField(default=actor_runs.fields.generate_id, max_length=64, verbose_name='default dataset ID')),
                ('default_request_queue_id', models.CharField(default=actor_runs.fields.generate_id, max_length=64, verbose_name='default request queue ID')),
                ('storage_ids', models.JSONField(blank=True, null=True, verbose_name='storage IDs')),
                ('container_url', models.CharField(blank=True, default='', max_length=2000, verbose_name='container URL')),
                ('is_container_server_ready', models.BooleanField(blank=True, null=True, verbose_name='container server is ready')),
                ('git_branch_name', models.CharField(blank=True, default='', max_length=255, verbose_name='Git branch name')),
                ('meta', models.JSONField(default=actor_runs.models.default_meta, verbose_name='origin')),
                ('options', models.JSONField(default=actor_runs.models.default_options, verbose_name='options')),
                ('stats', models.JSONField(blank=True, default=actor_runs.models.default_stats, verbose_name='statistics')),
                ('usage', models.JSONField(blank=True, null=True, verbose_name='usage')),
                ('usage_usd', models.JSONField(blank=True, help_text='In the API, only the owner can read it.', null=True, verbose_name='usage in USD')),
                ('usage_total_usd', models.FloatField(blank=True, help_text='In the API, only the owner can read it.', null=True, verbose_name='total usage in USD')),
                ('charged_event_counts', models.JSONField(blank=True, null=True, verbose_name='charged events')),
                ('pricing_info', models.JSONField(blank=True, null=True, verbose_name='pricing')),
                ('platform_usage_billing_model', models.CharField(blank=True, default='', max_length=64, verbose_name='platform usage billing model')),
                ('metamorphs', models.JSONField(blank=True, null=True, verbose_name='metamorphs')),
                ('version', models.PositiveIntegerField(default=0, editable=False, verbose_name='version')),
                ('organization', models.ForeignKey(blank=True, db_index=False, help_text='The organization that initiated the run. Either a user or an organization.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='actor_runs', to=conf.organization_model, verbose_name='organization')),
                ('user', models.ForeignKey(blank=True, db_index=False, help_text='The person who initiated the run. Either a user or an organization.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='actor_runs', to=settings.AUTH_USER_MODEL, verbose_name='user')),
            ],
            options={
                'verbose_name': 'run',
                'verbose_name_plural': 'runs',
                'get_latest_by': 'started_at',
                'base_manager_name': 'objects',
                'indexes': [models.Index(fields=['user', 'started_at', 'id'], name='actor_runs_user'), models.Index(fields=['organization', 'started_at', 'id'], name='actor_runs_org'), models.Index(fields=['user', 'status', 'started_at', 'id'], name='actor_runs_user_status'), models.Index(fields=['organization', 'status', 'started_at', 'id'], name='actor_runs_org_status'), models.Index(fields=['started_at', 'id'], name='actor_runs_started'), models.Index(fields=['status', 'started_at', 'id'], name='actor_runs_status_started'), models.Index(fields=['finished_at', 'id'], name='actor_runs_finished')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('organization__isnull', True), ('user__isnull', False)), models.Q(('organization__isnull', False), ('user__isnull', True)), _connector='OR'), name='actor_runs_one_owner'), models.CheckConstraint(condition=models.Q(('status__in', ['READY', 'RUNNING', 'SUCCEEDED', 'FAILED', 'TIMING-OUT', 'TIMED-OUT', 'ABORTING', 'ABORTED'])), name='actor_runs_status'), models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', False), ('status__in', ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED'))), models.Q(models.Q(('status__in', ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED')), _negated=True), ('finished_at__isnull', True)), _connector='OR'), name='actor_runs_finished_at')],
            },
        ),
    ]
