"""The scenarios of ``make test-engines``: one module for each kind of engine."""
