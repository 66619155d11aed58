"""What the site takes from code: options of commands, fields of a run, and all public names.

The build warns, and so fails, if a public name is missing from the reference.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from types import FunctionType
from typing import Any

from django.core.management import BaseCommand, load_command_class
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from actor_runs.models import Run
from actor_runs.schemas import to_camel_case

logger = logging.getLogger(__name__)

# Everything that these name in __all__ is public, and nothing else is.
PUBLIC = [
    *("models", "recording", "exceptions", "signals", "querysets", "pruning"),
    *("importing", "importing.sources", "admin", "views", "generics", "authentication"),
    *("permissions", "throttling", "pagination", "filters", "serializers", "openapi"),
]


class Generated(SphinxDirective):
    """A directive that stands for the Markdown that ``lines`` returns."""

    def lines(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        container = nodes.container()
        self.state.nested_parse(StringList(self.lines()), 0, container)
        return container.children


class CommandOptions(Generated):
    """The help, the usage and the options of a management command, from its parser."""

    required_arguments = 1

    def lines(self) -> list[str]:
        name = self.arguments[0]
        parser = load_command_class("actor_runs", name).create_parser("manage.py", name)
        # Without Django's own, which every command has.
        known = {
            option
            for action in BaseCommand().create_parser("manage.py", name)._actions
            for option in action.option_strings
        }
        rows = [
            f"| `{self.spelling(action)}` | {self.meaning(action)} |"
            for action in parser._actions
            if not known & set(action.option_strings)
        ]
        return [str(parser.description), "", "| option | meaning |", "| --- | --- |", *rows]

    def spelling(self, action: Any) -> str:
        value = action.metavar or "|".join(map(str, action.choices or ()))
        if not action.option_strings:
            return f"{value} ..."
        is_flag = action.nargs == 0
        return " ".join(filter(None, [action.option_strings[0], "" if is_flag else value])).replace(
            "|", "\\|"
        )

    def meaning(self, action: Any) -> str:
        text = (action.help or "").replace("%%", "%")
        return f"{text} Required." if action.required and action.option_strings else text


class RunFields(Generated):
    """The fields of a run, with the key of the API and the default of each."""

    def lines(self) -> list[str]:
        rows = ["| field | key of the API | type | default |", "| --- | --- | --- | --- |"]
        for field in Run._meta.concrete_fields:
            key = "userId" if field.is_relation else to_camel_case(field.name)
            key = "" if field.name == "version" else f"`{key}`"
            rows.append(f"| `{field.name}` | {key} | {self.kind(field)} | {self.default(field)} |")
        return rows

    def kind(self, field: Any) -> str:
        if field.is_relation:
            return "an owner"
        names = {
            "RunIDField": "str",
            "ExactCharField": "str",
            "CharField": "str",
            "TextField": "str",
            "MillisecondDateTimeField": "datetime",
            "JSONField": "JSON",
            "IntegerField": "int",
            "PositiveIntegerField": "int",
            "FloatField": "float",
            "BooleanField": "bool",
        }
        name = names[type(field).__name__]
        return f"{name} or None" if field.null else name

    def default(self, field: Any) -> str:
        if field.is_relation:
            return "one of the two is needed"
        if not field.has_default():
            return "`None`" if field.null else ""
        value = field.default
        if not callable(value):
            return f"`{str(value)!r}`" if isinstance(value, str) else f"`{value!r}`"
        return {"generate_id": "17 random characters", "now": "now", "default_stats": "all 0"}.get(
            value.__name__, f"`{value()!r}`"
        )


def public_names() -> list[str]:
    """Return the full names of all public objects, and of the methods that they define."""
    names = []
    for module_name in PUBLIC:
        module = import_module(f"actor_runs.{module_name}")
        for name in module.__all__:
            full_name = f"{module.__name__}.{name}"
            names.append(full_name)
            value = getattr(module, name)
            if inspect.isclass(value):
                names += [f"{full_name}.{method}" for method in own_methods(value)]
    return names


def own_methods(value: type) -> list[str]:
    """Return the public methods and properties that a class adds to those of its bases."""
    return [
        name
        for name, member in vars(value).items()
        if not name.startswith("_")
        and isinstance(member, (FunctionType, classmethod, staticmethod, property))
        and not any(hasattr(base, name) for base in value.__bases__)
    ]


def check_public_names(app: Any, env: Any) -> None:
    documented = {entry[0] for entry in env.get_domain("py").get_objects()}
    names = public_names()
    for name in names:
        if name not in documented:
            logger.warning("%s is public, and not in the reference", name)
    found = sum(name in documented for name in names)
    print(f"{found} of {len(names)} public names are in the reference.")


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("command", CommandOptions)
    app.add_directive("run-fields", RunFields)
    app.connect("env-check-consistency", check_public_names)
    return {"parallel_read_safe": True}
