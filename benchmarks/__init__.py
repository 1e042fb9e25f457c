"""Benchmarks of kustom_hpp: `python -m benchmarks` from the root of the repository.

What counts is the CPU time that a client's process spends on a request, as a ratio over raw aiohttp in the same process:
ratios hold where absolute times do not, on a busy machine too. The server is a process of its own and counts requests.
"""
