"""A host that subclasses every class of the app, and changes nothing that a client sees."""
