"""The runs' table as a team would describe it for its own API: Django's own fields, no rules.

The peers that use the ORM read and delete by this model, so that they do not pay for what the
app's own model promises (a deletion under a lock, times cut to the millisecond).
"""

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models


class PeerRun(models.Model):
    FINISHED = ("SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED")

    id = models.CharField(max_length=32, primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, db_index=False, related_name="+"
    )
    organization = models.ForeignKey(
        Group, models.PROTECT, null=True, db_index=False, related_name="+"
    )
    status = models.CharField(max_length=16)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    act_id = models.CharField(max_length=64)
    actor_task_id = models.CharField(max_length=64)
    build_id = models.CharField(max_length=64)
    build_number = models.CharField(max_length=16)
    exit_code = models.IntegerField(null=True)
    status_message = models.TextField()
    is_status_message_terminal = models.BooleanField(null=True)
    general_access = models.CharField(max_length=32)
    default_key_value_store_id = models.CharField(max_length=64)
    default_dataset_id = models.CharField(max_length=64)
    default_request_queue_id = models.CharField(max_length=64)
    storage_ids = models.JSONField(null=True)
    container_url = models.CharField(max_length=2000)
    is_container_server_ready = models.BooleanField(null=True)
    git_branch_name = models.CharField(max_length=255)
    meta = models.JSONField()
    options = models.JSONField()
    stats = models.JSONField()
    usage = models.JSONField(null=True)
    usage_usd = models.JSONField(null=True)
    usage_total_usd = models.FloatField(null=True)
    charged_event_counts = models.JSONField(null=True)
    pricing_info = models.JSONField(null=True)
    platform_usage_billing_model = models.CharField(max_length=64)
    metamorphs = models.JSONField(null=True)

    class Meta:
        managed = False
        db_table = "actor_runs_run"

    def __str__(self):
        return self.id

    @property
    def is_finished(self):
        return self.status in self.FINISHED


# What a list shows of a run.
SHORT = (
    "id", "act_id", "user", "organization", "actor_task_id", "status", "started_at",
    "finished_at", "build_id", "build_number", "meta", "usage_total_usd",
    "default_key_value_store_id", "default_dataset_id", "default_request_queue_id",
)  # fmt: skip
