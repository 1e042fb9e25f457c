"""Where the commands that call the API call it: options, else the environment."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from attrs import asdict, frozen
from cyclopts import Parameter

from kustom_hpp.client import HPPClient
from kustom_hpp.events import Hook


@Parameter(name="*")  # its fields are options of the command itself
@frozen(kw_only=True)
class ConnectionOptions:
    """Options that say where to call and as whom; each wins over its variable."""

    base_url: Annotated[
        str | None, Parameter(help="Call this place, such as a sandbox. [env: KUSTOM_HPP_BASE_URL]")
    ] = None
    environment: Annotated[
        Literal["live", "playground"] | None,
        Parameter(help="Which of Kustom's two worlds; by default what the key says. [env: KUSTOM_HPP_ENVIRONMENT]"),
    ] = None
    username: Annotated[
        str | None, Parameter(help="The portal's username that goes with the key. [env: KUSTOM_HPP_USERNAME]")
    ] = None

    def settings(self) -> dict[str, Any]:
        """As arguments of `HPPClient.from_env`; None where nothing was said."""
        return asdict(self)

    def client(self, hooks: Iterable[Hook] = (), **more: Any) -> HPPClient:
        """A client from the environment and these options.

        Args:
            hooks: of the client.
            more: arguments of the client that no option gives.

        Raises:
            ConfigError: the settings cannot work.

        """
        return HPPClient.from_env(**self.settings(), hooks=hooks, **more)
