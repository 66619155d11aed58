"""The app's policies, for a view that is the host's own."""

from __future__ import annotations

from rest_framework.renderers import JSONRenderer

from actor_runs.authentication import BearerTokenAuthentication
from actor_runs.filters import RunFilter
from actor_runs.permissions import RunPermission
from actor_runs.throttling import RateLimitThrottle


class AppPolicies:
    authentication_classes = [BearerTokenAuthentication]
    throttle_classes = [RateLimitThrottle]
    permission_classes = [RunPermission]
    filter_backends = [RunFilter]
    renderer_classes = [JSONRenderer]
    versioning_class = None
