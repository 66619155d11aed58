"""Tests of a host that has the code of docs/how-to/customizing.md: they run in its project."""

from __future__ import annotations

from typing import Any

from crawls.models import Crawl
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import TestCase
from rest_framework.authtoken.models import Token

from actor_runs.models import Run, RunStatus


class CustomizedHostTests(TestCase):
    def setUp(self) -> None:
        cache.clear()
        self.alice = User.objects.create_superuser("alice")
        token = Token.objects.create(user=self.alice)
        self.headers = {"Authorization": f"Bearer {token.key}"}

    def make_run(self, tenant: str = "acme", **fields: Any) -> Run:
        run = Run.objects.create(user=self.alice, **{"status": RunStatus.SUCCEEDED} | fields)
        Crawl.objects.create(run=run, site="https://example.com", tenant=tenant)
        return run

    def call(self, method: str, path: str) -> tuple[int, Any]:
        answer = self.client.generic(method, path, headers=self.headers)
        return answer.status_code, answer.json() if answer.content else None

    def test_a_crawl_goes_with_its_run(self) -> None:
        run = self.make_run()
        assert self.call("DELETE", f"/v2/actor-runs/{run.pk}")[0] == 204
        assert not Crawl.objects.exists()

    def test_the_api_is_scoped_to_a_tenant(self) -> None:
        run, other = self.make_run(), self.make_run("other")
        listed = self.call("GET", "/acme/v2/actor-runs")[1]["data"]["items"]
        assert [each["id"] for each in listed] == [run.pk]
        for method in ("GET", "DELETE"):
            assert self.call(method, f"/acme/v2/actor-runs/{other.pk}")[0] == 404
        assert self.call("DELETE", f"/acme/v2/actor-runs/{run.pk}")[0] == 204

    def test_a_serializer_adds_a_key(self) -> None:
        from crawls.serializers import CrawlSerializer

        assert CrawlSerializer(self.make_run()).data["site"] == "https://example.com"
        without = Run.objects.create(user=self.alice)
        assert CrawlSerializer(without).data["site"] is None

    def test_one_view_authenticates_by_session(self) -> None:
        run = self.make_run()
        assert self.call("GET", f"/pages/runs/{run.pk}/")[0] == 401
        self.client.force_login(self.alice)
        assert self.client.get(f"/pages/runs/{run.pk}/").status_code == 200

    def test_an_archived_run_cannot_be_deleted(self) -> None:
        run = self.make_run(git_branch_name="archive")
        assert self.call("GET", f"/careful/v2/actor-runs/{run.pk}")[0] == 200
        status, body = self.call("DELETE", f"/careful/v2/actor-runs/{run.pk}")
        assert status == 403
        error = {"type": "permission-denied", "message": "This crawl is archived."}
        assert body == {"error": error}

    def test_the_third_deletion_of_a_minute_is_throttled(self) -> None:
        paths = [f"/careful/v2/actor-runs/{self.make_run().pk}" for _ in range(3)]
        assert [self.call("DELETE", path)[0] for path in paths] == [204, 204, 429]
        assert self.call("GET", paths[2])[0] == 200

    def test_the_admin_has_a_column_a_filter_an_action_and_an_inline(self) -> None:
        run, other = self.make_run(), self.make_run("other")
        self.client.force_login(self.alice)
        url = "/admin/actor_runs/run/"
        self.assertContains(self.client.get(url), "https://example.com", count=2)
        filtered = self.client.get(url, {"crawl__tenant": "acme"})
        self.assertContains(filtered, run.pk)
        self.assertNotContains(filtered, other.pk)
        data = {"action": "open_to_all", "_selected_action": [run.pk]}
        self.assertRedirects(self.client.post(url, data), url)
        run.refresh_from_db()
        assert run.is_public
        self.assertContains(self.client.get(f"{url}{run.pk}/change/"), 'name="crawl-0-site"')

    def test_another_view_of_the_host_has_the_apps_errors(self) -> None:
        from django.test import RequestFactory
        from rest_framework.permissions import IsAuthenticated
        from rest_framework.views import APIView

        class Own(APIView):
            permission_classes = [IsAuthenticated]

        answer = Own.as_view()(RequestFactory().get("/")).render()
        assert answer.data["error"]["type"] == "permission-denied"
