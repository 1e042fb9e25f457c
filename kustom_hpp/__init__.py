"""The async-first client for Kustom's Hosted Payment Page (HPP).

    import kustom_hpp as hpp

    async with hpp.HPPClient.from_env() as client:
        session = await client.create_session(hpp.CreateSessionRequest(
            payment_session_url=client.order_url("92d97f60-7a78-46a5-8f68-c56fe52dc4af"),
            merchant_urls=hpp.MerchantUrls(success="https://shop.example/thanks?hpp={{session_id}}")))
        print(session.payment_page)

Every error says whether the session may exist. `except hpp.OutcomeUnknownError`: it may, so do not repeat the call.
`except hpp.HPPError` after it: it does not.

Implementation note: `import kustom_hpp` loads nothing; the first use of a name loads all of them. pytest imports this package
in every run to find its plugin, also in a run that has nothing to do with payments or that patches asyncio first.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kustom_hpp._exports import *
    from kustom_hpp._version import __version__ as __version__
else:
    # Not for type checkers: to them a module's __getattr__ means that it has every name.

    def __getattr__(name: str) -> Any:
        """Load and return a module of the package or a public name."""
        if name in {"__all__", "__version__"} or not name.startswith("__"):
            # Modules first: while the public names load, modules import each other through this function.
            module = f"{__name__}.{name}"
            if importlib.util.find_spec(module) is not None:
                return importlib.import_module(module)
            public = importlib.import_module(f"{__name__}.{'_version' if name == '__version__' else '_exports'}")
            if hasattr(public, name):
                globals()[name] = getattr(public, name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Return all names."""
        return sorted({*globals(), "__version__", *importlib.import_module(f"{__name__}._exports").__all__})
