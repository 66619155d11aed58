"""Profilers: of WSGI applications, which answer with the profile at ``/profile``, and of code.

The applications are meant for a server that answers one request at a time, in its main thread.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from types import CodeType
from typing import Any, NamedTuple

from benchmarks.databases import ROOT

SAMPLE_SECONDS = 0.001  # of CPU time; most kernels make 4 ms of it

FUNCTIONS_SHOWN = 40

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Function(NamedTuple):
    """A function and its time in seconds; no calls where nobody counted them."""

    name: str
    calls: float
    own: float
    cumulative: float


class Profiled:
    """The base: passes requests on and counts them."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.reset()

    def reset(self) -> None:
        self.requests = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/profile":
            answer = {"requests": self.requests, "functions": self.functions()}
            self.reset()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(answer).encode()]
        self.requests += 1
        return self.call(environ, start_response)

    def call(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self.application(environ, start_response)

    def functions(self) -> list[Function]:
        """Return what each function took."""
        raise NotImplementedError


class ProfiledByCalls(Profiled):
    """With Python's own profiler: exact counts, but each call of a function costs more.

    The time is wall time: what waits for the database is in it.
    """

    def reset(self) -> None:
        super().reset()
        self.profile = cProfile.Profile()

    def call(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.profile.enable()
        try:
            answer = self.application(environ, start_response)
            body = b"".join(answer)
            getattr(answer, "close", lambda: None)()
        finally:
            self.profile.disable()
        return [body]

    def functions(self) -> list[Function]:
        if not self.requests:
            return []
        stats: Any = pstats.Stats(self.profile)
        return [
            Function(pstats.func_std_string(function), calls, own, cumulative)
            for function, (_, calls, own, cumulative, _callers) in stats.stats.items()
        ]


class Sampler:
    """Looks at the stack every few milliseconds of CPU time, which costs next to nothing.

    Only of the main thread. Time in functions written in C counts for the Python function that
    calls them. ``top`` is the code below which a stack is of no interest; a stack without it
    counts as ``elsewhere``.
    """

    def __init__(self, top: CodeType, elsewhere: str) -> None:
        self.top = top
        self.elsewhere = elsewhere
        self.samples = 0
        self.own: Counter[str] = Counter()
        self.cumulative: Counter[str] = Counter()

    def start(self) -> None:
        self.began = time.process_time()
        signal.signal(signal.SIGPROF, self.sample)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.seconds = time.process_time() - self.began

    def sample(self, _signal: int, frame: Any) -> None:
        stack = []
        while frame is not None and frame.f_code is not self.top:
            stack.append(name_of(frame.f_code))
            frame = frame.f_back
        if frame is None:
            stack = [self.elsewhere]
        self.samples += 1
        self.own[stack[0] if stack else "the profiler"] += 1
        self.cumulative.update(set(stack))

    def functions(self) -> list[Function]:
        seconds = self.seconds / max(self.samples, 1)
        return [
            Function(name, 0, self.own[name] * seconds, count * seconds)
            for name, count in self.cumulative.items()
        ]


class ProfiledBySamples(Profiled):
    """By samples of CPU time of the process, the server's own share included."""

    def reset(self) -> None:
        super().reset()
        top = ProfiledBySamples.call.__code__
        self.sampler = Sampler(top, "the server, outside of the application")

    def call(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self.requests == 1:
            self.sampler.start()
        return super().call(environ, start_response)

    def functions(self) -> list[Function]:
        if not self.requests:
            return []
        self.sampler.stop()
        return self.sampler.functions()


BY = {"calls": ProfiledByCalls, "samples": ProfiledBySamples}


def name_of(code: CodeType) -> str:
    return f"{code.co_filename}:{code.co_firstlineno}({code.co_name})"


def table(title: str, times: int, functions: list[Function]) -> Iterator[str]:
    """Yield the functions that took most, of something done so many times, by two orders."""
    total = sum(function.own for function in functions)
    for order in ("cumulative", "own"):
        yield f"\n{title}: {total / times * 1e6:.0f} µs for each of {times}; by {order} time"
        yield f"{'calls':>7} {'own µs':>8} {'cumul. µs':>10} {'share':>6}  function"
        ranked = sorted(functions, key=attrgetter(order), reverse=True)
        for function in ranked[:FUNCTIONS_SHOWN]:
            calls = f"{function.calls / times:.1f}" if function.calls else ""
            place = function.name.rpartition("site-packages/")[2].removeprefix(f"{ROOT}/")
            yield (
                f"{calls:>7} {function.own / times * 1e6:8.1f} "
                f"{function.cumulative / times * 1e6:10.1f} "
                f"{getattr(function, order) / total:6.1%}  {place}"
            )
