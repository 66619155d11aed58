"""A host's own models: people with UUID keys, companies with keys of text, and rows on runs."""

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models

from actor_runs.models import Run, RunStatus
from actor_runs.querysets import RunQuerySet


class Person(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class Company(models.Model):
    slug = models.CharField(max_length=40, primary_key=True)
    name = models.CharField(max_length=150, default="")

    def __str__(self):
        return self.name or self.slug


class Staff(models.Model):
    company = models.ForeignKey(Company, on_delete=models.CASCADE, related_name="staff")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)


class Note(models.Model):
    """Goes with its run."""

    run = models.ForeignKey("actor_runs.Run", on_delete=models.CASCADE, related_name="notes")


class Invoice(models.Model):
    """Keeps its run."""

    run = models.ForeignKey("actor_runs.Run", on_delete=models.PROTECT)


class Archive(models.Model):
    """Keeps its run, unless it goes as well."""

    run = models.ForeignKey("actor_runs.Run", on_delete=models.RESTRICT)


class Bookmark(models.Model):
    """Outlives its run."""

    run = models.ForeignKey("actor_runs.Run", on_delete=models.SET_NULL, null=True)


class Ledger(models.Model):
    """Keeps its run by the database's own constraint alone."""

    run = models.ForeignKey("actor_runs.Run", on_delete=models.DO_NOTHING)


class Crawl(models.Model):
    """Goes with its run, and with its person."""

    run = models.OneToOneField("actor_runs.Run", on_delete=models.CASCADE)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)


class Page(models.Model):
    """Goes with its crawl."""

    crawl = models.ForeignKey(Crawl, on_delete=models.CASCADE, related_name="pages")


class WaitingManager(models.Manager.from_queryset(RunQuerySet)):
    def get_queryset(self):
        return super().get_queryset().filter(status=RunStatus.READY)


class WaitingRun(Run):
    """A queue: a run leaves it when it starts."""

    objects = WaitingManager()

    class Meta:
        proxy = True


class AuditedRun(Run):
    """A proxy with a ``delete()`` of its own."""

    class Meta:
        proxy = True

    def delete(self, *args, **kwargs):
        Company.objects.create(slug=f"deleted-{self.pk}")
        return super().delete(*args, **kwargs)
