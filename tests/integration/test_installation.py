"""The app beside what a project has already: its models, middleware, URLs and settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.http import HttpResponse
from django.urls import include, path, re_path

from tests.hosts.follow import ROOT
from tests.support.api import assert_error

NOT_FOUND = (404, "record-not-found", "The requested resource was not found.")

# Its organizations are made by its second migration, its permission imports runs, and it has
# templates, but no admin.
PROJECT = {
    "settings.py": """
SECRET_KEY = "tests"
INSTALLED_APPS = (
    "django.contrib.auth", "django.contrib.contenttypes", "rest_framework",
    "rest_framework.authtoken", "shop", "actor_runs",
)
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ACTOR_RUNS = {"ORGANIZATION_MODEL": "shop.Company", "ORGANIZATION_MEMBERS": ["members", "owner"]}
REST_FRAMEWORK = {"DEFAULT_PERMISSION_CLASSES": ["shop.permissions.HasRuns"]}
""",
    "shop/__init__.py": "",
    "shop/models.py": """
from django.conf import settings
from django.db import models
class Product(models.Model):
    pass
class Company(models.Model):
    members = models.ManyToManyField(settings.AUTH_USER_MODEL)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="companies")
""",
    "shop/permissions.py": """
from rest_framework.permissions import BasePermission
from actor_runs.models import Run
class HasRuns(BasePermission):
    def has_permission(self, request, view):
        return Run.objects.owned_by(request.user).exists()
""",
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """
from django.db import migrations, models
class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel("Product", [("id", models.BigAutoField(primary_key=True))]),
    ]
""",
    "shop/migrations/0002_company.py": """
from django.conf import settings
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [
        ("shop", "0001_initial"), migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel("Firm", [
            ("id", models.BigAutoField(
                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
            )),
            ("members", models.ManyToManyField(to=settings.AUTH_USER_MODEL)),
        ]),
    ]
""",
    "shop/migrations/0003_rename.py": """
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [("shop", "0002_company")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RenameModel("Firm", "Company")], [migrations.RenameModel("Firm", "Company")]
        ),
        migrations.AddField("Company", "owner", models.ForeignKey(
            to=settings.AUTH_USER_MODEL, on_delete=django.db.models.deletion.CASCADE,
            related_name="companies",
        )),
        migrations.AlterField("Product", "id", models.BigAutoField(
            auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
        )),
    ]
""",
    "use.py": """
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from actor_runs.models import Run
from shop.models import Company
call_command("check")
call_command("migrate", verbosity=0)
call_command("makemigrations", check_changes=True, dry_run=True)
alice, bob = User.objects.create_user("alice"), User.objects.create_user("bob")
company = Company.objects.create(owner=alice)
company.members.add(bob)
run = Run.objects.create(organization=company, status="SUCCEEDED")
assert Run.objects.owned_by(alice).get() == Run.objects.owned_by(bob).get() == run
alice.delete()
assert not Run.objects.exists()
""",
}


# It has neither Django's users nor its permissions, content types or sessions.
BARE_PROJECT = {
    "settings.py": """
SECRET_KEY = "tests"
INSTALLED_APPS = ["rest_framework", "members", "actor_runs"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ROOT_URLCONF = "actor_runs.urls"
AUTH_USER_MODEL = "members.Member"
ACTOR_RUNS = {
    "ORGANIZATION_MODEL": "members.Team", "ORGANIZATION_MEMBERS": "members",
    "AUTHENTICATION_CLASSES": ["members.authentication.ByAddress"],
}
REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []}
""",
    "members/__init__.py": "",
    "members/models.py": """
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models
class Member(AbstractBaseUser):
    address = models.EmailField(primary_key=True)
    USERNAME_FIELD = "address"
class Team(models.Model):
    members = models.ManyToManyField(Member)
""",
    "members/authentication.py": """
from rest_framework.authentication import TokenAuthentication
from members.models import Member
class ByAddress(TokenAuthentication):
    keyword = "Bearer"
    def authenticate_credentials(self, key):
        return Member.objects.get(address=key), key
""",
    "use.py": """
import django
django.setup()
from django.core.management import call_command
from django.test import Client
from actor_runs.models import Run
from members.models import Member
call_command("check")
call_command("migrate", verbosity=0, run_syncdb=True)
call_command("makemigrations", "actor_runs", check_changes=True, dry_run=True)
run = Run.objects.create(user=Member.objects.create(address="a@b.c"), status="SUCCEEDED")
client, headers = Client(), {"Authorization": "Bearer a@b.c"}
path = f"/actor-runs/{run.pk}"
assert client.get(path).status_code == 401
assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
assert client.get("/actor-runs", headers=headers).json()["data"]["total"] == 1
assert client.delete(path, headers=headers).status_code == 204
""",
}


def use(project: dict[str, str], folder: Path) -> None:
    """Write the files of a project, and run its ``use.py``."""
    for name, code in project.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "use.py"],
        cwd=folder,
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "No changes detected" in done.stdout


def test_a_project_whose_organizations_come_late_and_whose_permissions_import_runs(tmp_path: Path):
    use(PROJECT, tmp_path)


def test_a_project_without_djangos_users_and_content_types(tmp_path: Path):
    use(BARE_PROJECT, tmp_path)


def page(request: Any, path: str = "") -> HttpResponse:
    return HttpResponse("<html>a page of the host</html>")


@pytest.mark.parametrize("prefix_default_language", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
@pytest.mark.parametrize("path_", ["/unknown", "/unknown/", "/unknown/log", "/unknown/log/"])
def test_beside_translated_pages_that_take_every_path_a_404_is_the_apps(
    api, alice, settings, method, path_, prefix_default_language
):
    settings.LANGUAGE_CODE = "en"
    settings.LANGUAGES = [("en", "English"), ("de", "German")]
    settings.ROOT_URLCONF = (
        path("v2/", include("actor_runs.urls")),
        *i18n_patterns(
            re_path(r"^(?P<path>.*)$", page), prefix_default_language=prefix_default_language
        ),
    )
    response = api(method, path_, user=alice, HTTP_ACCEPT_LANGUAGE="de")
    if method == "POST" and "log" not in path_:
        assert response.status_code == 405
    elif method == "HEAD":
        assert (response.status_code, response["Content-Type"]) == (404, "application/json")
    else:
        assert_error(response, *NOT_FOUND)
    assert api.client.get("/de/v2/").content.startswith(b"<html>")


def test_a_host_that_asks_for_a_login_everywhere_leaves_the_api_open(api, alice, run, settings):
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    assert api.get(f"/{run.pk}").status_code == 401
    assert api.get(f"/{run.pk}/log").status_code == 404
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


class ReadsTheBody:
    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        assert request.body is not None
        assert request.POST is not None
        assert request.user is not None
        return self.get_response(request)


@pytest.mark.parametrize(("body", "status"), [("", 204), ("{}", 204), ("[]", 400), ("{", 400)])
@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_that_a_middleware_has_read_is_checked(
    api, alice, run, settings, body, status, content_type
):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.ReadsTheBody"]
    response = api.delete(f"/{run.pk}", user=alice, body=body, content_type=content_type)
    assert response.status_code == status
