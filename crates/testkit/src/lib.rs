//! A counting client, scripted backends and network namespaces for the tests.
