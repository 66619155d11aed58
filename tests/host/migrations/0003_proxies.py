from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("actor_runs", "0003_indexes"),
        ("host", "0002_rows_on_runs"),
    ]

    operations = [
        migrations.CreateModel(
            name=name,
            fields=[],
            options={"proxy": True, "indexes": [], "constraints": []},
            bases=("actor_runs.run",),
        )
        for name in ("WaitingRun", "AuditedRun")
    ]
