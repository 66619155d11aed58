from django.db import models


class Heard(models.Model):
    """One signal that one process heard, in the transaction in which it did."""

    signal = models.CharField(max_length=16)
    run_id = models.CharField(max_length=32)
