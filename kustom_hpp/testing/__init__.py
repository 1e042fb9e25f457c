"""A pytest plugin for the tests of shops, with the fixtures `kustom_sandbox` and `kustom_client`; see `plugin`."""
