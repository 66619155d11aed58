"""The actor-run resource of the Apify platform as a Django reusable app."""

__version__ = "1.0.0rc1"
