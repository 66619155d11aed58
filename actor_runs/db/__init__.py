"""Helpers for databases, and the uses of Django's private API. They know nothing about runs."""
