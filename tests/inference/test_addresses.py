"""Which Tritons a setting names, and how names follow what the machine's resolver says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.inference.addresses import Addresses, Endpoint
from gateway.settings import Settings
from tests.conftest import ROOT
from tests.support.waiting import UNTIL_S

FOLLOW = """
import asyncio, sys
from pathlib import Path
import structlog
from gateway.inference.addresses import Addresses, Endpoint

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # it would log where the answers go

async def follow():
    addresses = Addresses([Endpoint("tritons.test", 8001), Endpoint("::1", 9)])
    for line in sys.stdin:
        Path("/etc/hosts").write_text(line.replace(";", "\\n"))
        print(" ".join(str(one) for one in sorted(await addresses.resolve())), flush=True)

asyncio.run(follow())
"""


def test_settings_name_endpoints() -> None:
    assert [str(end) for end in Settings().triton_endpoints] == ["127.0.0.1:8101"]
    assert [str(end) for end in Settings(triton_host="::1").triton_endpoints] == ["[::1]:8101"]
    given = "triton-0.triton:8001, [fd00::7]:8001,10.0.0.1:8001,10.0.0.1:8001"
    named = Settings(triton_addresses=given)
    assert [str(end) for end in named.triton_endpoints] == ["triton-0.triton:8001", "[fd00::7]:8001", "10.0.0.1:8001"]
    assert {"triton-0.triton", "fd00::7", "10.0.0.1"} <= named.own_hosts


@pytest.mark.parametrize("text", ["triton", "triton:", ":8001", "::1:8001", "[::1]", "a:0", "a:65536", "http://a:1"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        Settings(triton_addresses=text)


async def test_a_name_that_leads_nowhere_has_no_address() -> None:
    assert await Addresses([Endpoint("a..b", 1), Endpoint("x" * 300, 1)]).resolve() == frozenset()


def test_a_name_is_followed_as_this_machine_resolves_it(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.touch()
    own = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && echo ready && exec "$@"', str(hosts)]
    with subprocess.Popen(
        [*own, sys.executable, "-c", FOLLOW], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            pytest.skip("a hosts file of one's own takes root and `unshare --mount`")

        def addresses(*lines: str) -> list[str]:
            process.stdin.write(";".join(lines) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return process.stdout.readline().split()  # type: ignore[union-attr]

        try:
            two = ["127.0.0.2:8001", "127.0.0.3:8001", "[::1]:9"]
            assert addresses("127.0.0.3 tritons.test", "127.0.0.2 tritons.test", "fd00::1 tritons.test") == two
            assert addresses("127.0.0.4 tritons.test") == ["127.0.0.4:8001", "[::1]:9"]
            assert addresses("fd00::1 tritons.test") == ["[::1]:9", "[fd00::1]:8001"]
            assert addresses("127.0.0.9 others.test") == ["[::1]:9", "[fd00::1]:8001"], (
                "a failed look-up takes none away"
            )
        finally:
            process.stdin.close()
            process.wait(UNTIL_S)
