"""The options that select the API, shared by the commands that call it."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from attrs import asdict, frozen
from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kustom_hpp.client import HPPClient
    from kustom_hpp.events import Hook


@Parameter(name="*")  # its fields are options of the command itself
@frozen(kw_only=True)
class ConnectionOptions:
    """Options that select the API; each one wins over its variable."""

    base_url: Annotated[str | None, Parameter(help="API base URL, e.g. a sandbox. [env: KUSTOM_HPP_BASE_URL]")] = None
    environment: Annotated[
        Literal["live", "playground"] | None,
        Parameter(help="Environment; default: from the key. [env: KUSTOM_HPP_ENVIRONMENT]"),
    ] = None
    username: Annotated[str | None, Parameter(help="The key's username in the portal. [env: KUSTOM_HPP_USERNAME]")] = (
        None
    )

    proxy: Annotated[
        str | None,
        Parameter(help="HTTP proxy, e.g. proxy.example:3128; default: HTTPS_PROXY, NO_PROXY. [env: KUSTOM_HPP_PROXY]"),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments for `HPPClient.from_env`; None for an option that is absent."""
        return asdict(self)

    def client(self, hooks: "Iterable[Hook]" = (), **more: Any) -> "HPPClient":
        """Return a client with the settings of the environment and these options.

        Raises:
            ConfigError: The settings are invalid.

        """
        # Imported here: the help of a command needs the options and no client.
        from kustom_hpp.client import HPPClient

        # HTTPS_PROXY and NO_PROXY hold for a person's commands; a service says so with trust_env=True.
        return HPPClient.from_env(**self.settings(), trust_env=self.proxy is None, hooks=hooks, **more)
