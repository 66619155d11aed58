"""A proof by history: clients do everything at once, and one order explains every answer.

``make test-history``. See ``__main__`` for how to run it, ``model`` for what the app promises,
and ``checker`` for how an order is looked for.
"""
