"""For the tests of shops: a pytest plugin with the fixtures `kustom_sandbox` and `kustom_client`, see `plugin`."""
