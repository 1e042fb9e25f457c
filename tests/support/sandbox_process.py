"""A sandbox in a process of its own, with faults of either kind: `python -m tests.support.sandbox_process FAULT...`.

Takes its key from KUSTOM_HPP_API_KEY, if that is set. Its first line of output is {"base_url": ..., "api_key": ...}.
"""

import asyncio
import json
import os
import sys

from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.faults import split_fault
from tests.support.faults import ALL_FAULTS, find_fault


async def serve(texts: list[str]) -> None:
    async with Sandbox(api_key=os.environ.get("KUSTOM_HPP_API_KEY")) as sandbox:
        for text in texts:
            name, parameters = split_fault(text)
            own = {key: parameters.pop(key) for key in tuple(parameters) if key in ALL_FAULTS[name].defaults}
            sandbox.fault(find_fault(name, **own), **parameters)
        print(json.dumps({"base_url": sandbox.base_url, "api_key": sandbox.api_key}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
