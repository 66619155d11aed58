"""The app on the engines that docs/how-to/engines.md names: `make test-engines`."""
