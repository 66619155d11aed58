"""The form of a run in the admin."""

from __future__ import annotations

import copy
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget, AutocompleteSelect
from django.core.exceptions import ValidationError
from django.db import connections, router
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from actor_runs.admin.owners import can_see
from actor_runs.models import ONE_OWNER, Run


def remember_values(run: Run) -> None:
    """Note the values of a run that was just read, for ``changed_fields``."""
    run._values_read = copy.deepcopy(_values(run))  # type: ignore[attr-defined]


def changed_fields(run: Run) -> list[str] | None:
    """Return the names of the fields that were set since the run was read; None if unknown."""
    read = getattr(run, "_values_read", None)
    if read is None:
        return None
    return [name for name, value in _values(run).items() if name not in read or read[name] != value]


def _values(run: Run) -> dict[str, Any]:
    """Return the values of the run's fields, without those that are deferred."""
    fields = run._meta.concrete_fields
    return {f.attname: run.__dict__[f.attname] for f in fields if f.attname in run.__dict__}


def with_labels(error: ValidationError) -> ValidationError:
    """Give the errors of ``Run`` the labels of its fields, in place of the attributes' names."""
    for each in ValidationError([error]).error_list:
        if each.params and {"name", "message"} == each.params.keys():
            name = each.params["name"]
            field, _dot, place = name.partition(".")
            label = capfirst(getattr(Run, field).field.verbose_name)
            each.params["name"] = f"{label}: {name}" if place else label
    return error


class ChangelistForm(forms.ModelForm):
    """A row of the list that can be edited there (``list_editable``)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        remember_values(self.instance)


def day_field(label: Any) -> forms.DateField:
    """Return a field for a day, which browsers show as a calendar."""
    widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    return forms.DateField(label=label, required=False, input_formats=["%Y-%m-%d"], widget=widget)


class RangeForm(forms.Form):
    """The first and the last day."""

    since = day_field(gettext_lazy("From"))
    until = day_field(gettext_lazy("To"))

    def clean(self) -> Any:
        since, until = (self.cleaned_data.get(name) for name in ("since", "until"))
        if since and until and until < since:
            raise ValidationError(_("The range ends before it begins."))
        return self.cleaned_data


class ActorForm(forms.Form):
    """The ID of an Actor."""

    act_id = forms.CharField(label=gettext_lazy("Actor ID"), required=False, max_length=64)


class RunInlineFormSet(forms.BaseInlineFormSet):
    """The formset of an inline of runs, which refuses to delete an unfinished run."""

    def clean(self) -> None:
        super().clean()
        ids = [form.instance.pk for form in self.deleted_forms]
        rows = Run.objects.using(router.db_for_write(Run)).filter(pk__in=ids)
        # So that none is resurrected before it is deleted.
        is_locked = bool(ids) and connections[rows.db].in_atomic_block
        for run in rows.lock_rows() if is_locked else rows:
            if not run.is_finished:
                raise ValidationError(
                    _("Only finished runs can be deleted. %(run)s is: %(status)s."),
                    params={"run": run.pk, "status": run.get_status_display()},
                )


class OwnerSelect(AutocompleteSelect):
    """Django's, but values that are not valid primary keys are ignored and not queried."""

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        return super().optgroups(name, [each for each in value if self._can_be_key(each)], attrs)

    def _can_be_key(self, value: str) -> bool:
        key = self.field.target_field
        try:
            key.run_validators(key.to_python(value))
        except ValidationError:
            return False
        return True


def owner_widget(site: Any, request: HttpRequest, field: Any, is_searched: bool) -> Any:
    """Return the widget of a foreign key to owners; None for Django's own.

    The widget for raw IDs links to pages that not every viewer may see.
    """
    if site.is_registered(field.related_model) and not can_see(site, request, field.related_model):
        return AdminTextInputWidget()
    return OwnerSelect(field, site) if is_searched else None


class RunForm(forms.ModelForm):
    """What staff may say of a run. Of a new one, nothing but its owner is needed."""

    DEFAULTED = ("act_id", "build_id", "general_access")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self._defaulted:
            self.fields[name].required = False
            if name != "general_access":
                self.fields[name].initial = None
                self.fields[name].show_hidden_initial = False
                self.fields[name].help_text = _("Leave empty to generate a new one.")

    def clean(self) -> Any:
        super().clean()
        for name in self._defaulted:
            if not self.cleaned_data.get(name) and name not in self.errors:
                self.cleaned_data[name] = getattr(Run(), name)
        # A subclass may have one of the two only, or none.
        owners = [name for name in ("user", "organization") if name in self.fields]
        chosen = [
            self.cleaned_data.get(name, getattr(self.instance, f"{name}_id"))
            for name in ("user", "organization")
        ]
        if owners and owners[0] not in self.errors and chosen.count(None) != 1:
            self.add_error(owners[0], ONE_OWNER)
        return self.cleaned_data

    def add_error(self, field: str | None, error: Any) -> None:
        super().add_error(
            field, with_labels(error) if isinstance(error, ValidationError) else error
        )

    @property
    def _defaulted(self) -> list[str]:
        is_new = self.instance._state.adding
        return [name for name in self.DEFAULTED if is_new and name in self.fields]
