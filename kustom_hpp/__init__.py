"""The async-first client for Kustom's Hosted Payment Page (HPP).

    import kustom_hpp as hpp

    async with hpp.HPPClient.from_env() as client:
        session = await client.create_session(hpp.CreateSessionRequest(
            payment_session_url=client.order_url("92d97f60-7a78-46a5-8f68-c56fe52dc4af"),
            merchant_urls=hpp.MerchantUrls(success="https://shop.example/thanks?hpp={{session_id}}")))
        print(session.payment_page)

An error always says whether the session may exist: `except hpp.OutcomeUnknownError` means it may, never repeat the call;
`except hpp.HPPError` after it means it does not.

Implementation note: the names are loaded, all of them, when somebody takes the first one, not by `import kustom_hpp` alone.
pytest imports this package at the start of every run in whose environment it is installed, to find its plugin; that run
may have nothing to do with payments, or want to replace parts of asyncio and aiohttp before they are loaded.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kustom_hpp._exports import *  # noqa: F403
else:
    # Not for type checkers: to them a module's __getattr__ means that it has every name.

    def __getattr__(name: str) -> Any:
        """A module of the package or a public name, loaded now."""
        if name in {"__all__", "__version__"} or not name.startswith("__"):
            # Modules first: while the public names are being loaded, modules ask here for each other.
            module = f"{__name__}.{name}"
            if importlib.util.find_spec(module) is not None:
                return importlib.import_module(module)
            public = importlib.import_module(f"{__name__}._exports")
            if hasattr(public, name):
                globals()[name] = getattr(public, name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """All that can be had."""
        return sorted({*globals(), *importlib.import_module(f"{__name__}._exports").__all__})
