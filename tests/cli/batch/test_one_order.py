"""`kustom-hpp batch` with one KCO order in two spellings: one session, by the sandbox's record."""

import json
from pathlib import Path

import pytest

from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import Cli
from tests.support.batch_files import read
from tests.support.orders import ORDER_ID, SPELLINGS, url_of


@pytest.fixture(params=SPELLINGS.values(), ids=list(SPELLINGS))
def urls(request: pytest.FixtureRequest, at_sandbox: ThreadedSandbox, environment: pytest.MonkeyPatch) -> list[str]:
    """The order's URL in another spelling, and in the usual one."""
    base_url = at_sandbox.base_url.replace("127.0.0.1", "localhost")
    environment.setenv("KUSTOM_HPP_BASE_URL", base_url)
    url = url_of(base_url, ORDER_ID)
    return [request.param(url), url]


def sent(sandbox: ThreadedSandbox) -> list[str]:
    """The orders' URLs of all POSTs, as they came."""
    return [json.loads(post.body)["payment_session_url"] for post in sandbox.record.posts]


def write(path: Path, *urls: str, first: int = 0) -> str:
    """Write an input in the form of its name."""
    rows = list(enumerate(urls, start=first))
    lines = [json.dumps({"key": f"k{number}", "request": {"payment_session_url": url}}) for number, url in rows]
    if path.suffix == ".csv":
        lines = ["key,payment_session_url", *(f"k{number},{url}" for number, url in rows)]
    path.write_text("\n".join(lines))
    return str(path)


def options(folder: Path) -> list[str]:
    return ["--output", str(folder / "out.jsonl"), "--journal", str(folder / "j.db")]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_in_one_file(cli: Cli, at_sandbox: ThreadedSandbox, urls: list[str], tmp_path: Path, form: str) -> None:
    path = write(tmp_path / f"in.{form}", *urls)
    assert cli("batch", path, "--dry-run").code == 2
    assert cli("batch", path, *options(tmp_path)).code == 1
    lines = {line["key"]: line for line in read(tmp_path / "out.jsonl")}
    assert {key: line["state"] for key, line in lines.items()} == {"k0": "created", "k1": "failed"}
    assert "payment_session_url: is that of line" in lines["k1"]["error"]["message"]
    assert sent(at_sandbox) == urls[:1]
    assert len(at_sandbox.record.created) == 1


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_in_two_files_with_one_journal(
    cli: Cli, at_sandbox: ThreadedSandbox, urls: list[str], tmp_path: Path, form: str
) -> None:
    assert cli("batch", write(tmp_path / f"one.{form}", urls[0]), *options(tmp_path)).code == 0
    assert cli("batch", write(tmp_path / f"two.{form}", urls[1], first=1), *options(tmp_path)).code == 1
    [line] = read(tmp_path / "out.jsonl")
    assert (line["key"], line["state"]) == ("k1", "failed")
    assert "the row 'k0' is for the same KCO order" in line["error"]["message"]
    assert sent(at_sandbox) == urls[:1]
    assert len(at_sandbox.record.created) == 1
