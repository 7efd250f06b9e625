"""TLS and mutual TLS to a real Triton with real certificates, and settings of it that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.__main__ import main
from gateway.errors import GatewayError, ModelUnavailable
from gateway.inference.addresses import Address, Endpoint
from gateway.inference.bundle import read_manifest
from gateway.limits.deadline import Deadline
from gateway.observability.metrics import Metrics
from gateway.parts import triton_server, triton_tls
from gateway.settings import Settings
from scripts.triton.staged import StagedTriton
from tests.conftest import free_ports
from tests.support.waiting import UNTIL_S

NAME = "triton.example.org"


@dataclass(frozen=True, slots=True)
class Files:
    """Certificates in a folder: of the authority, of Triton, of the gateway; and those of somebody else."""

    folder: Path

    def __post_init__(self) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(self.of("ca"))
        stranger.cert_pem.write_to_path(self.of("other-ca"))
        made = {"triton": authority.issue_cert(NAME), "gateway": authority.issue_cert("gateway@example.org")}
        for name, cert in {**made, "stranger": stranger.issue_cert("gateway@example.org")}.items():
            cert.private_key_pem.write_to_path(self.of(f"{name}-key"))
            cert.cert_chain_pems[0].write_to_path(self.of(name))

    def of(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def triton(bundle: Path, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StagedTriton]:
    """A Triton that asks for a certificate."""
    options = (
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={files.of('triton')}",
        f"--grpc-server-key={files.of('triton-key')}",
        f"--grpc-root-cert={files.of('ca')}",
    )
    with ExitStack() as exits:
        made = StagedTriton("127.0.0.1", free_ports(3), tmp_path_factory.mktemp("tls") / "triton", bundle, options)
        exits.callback(made.kill)
        made.start().wait_ready()
        yield made


async def connects(triton: StagedTriton, settings: dict[str, Any], name: str = NAME) -> bool:
    """Return whether a gateway with these settings reaches it, which names it so."""
    manifest = read_manifest(triton.repository)
    given = Settings(model_repository=triton.repository, **settings)
    address = Address(Endpoint.parse(triton.address), name)
    server = triton_server(given, manifest, Metrics(), address, triton_tls(given))
    try:
        served = await server.served_parameters(Deadline.after(UNTIL_S))
    except ModelUnavailable:
        return False
    except GatewayError as error:
        pytest.fail(error.detail)
    else:
        return {one["bundle_id"] for one in served.values()} == {manifest.bundle_id}
    finally:
        await server.close()


@pytest.mark.heavy
async def test_both_sides_show_whom_they_are(triton: StagedTriton, files: Files) -> None:
    alone = {"triton_tls": True, "triton_ca_file": files.of("ca")}
    good = {**alone, "triton_cert_file": files.of("gateway"), "triton_key_file": files.of("gateway-key")}
    stranger = {"triton_cert_file": files.of("stranger"), "triton_key_file": files.of("stranger-key")}
    assert await connects(triton, good)
    assert not await connects(triton, {**good, "triton_ca_file": files.of("other-ca")}), "who Triton is"
    assert not await connects(triton, good, "another.example.org"), "whose certificate it is"
    assert await connects(triton, {**good, "triton_server_name": NAME}, "127.0.0.1")
    assert not await connects(triton, good, "127.0.0.1"), "an address that is not in it"
    assert not await connects(triton, alone), "without a certificate"
    assert not await connects(triton, {**good, **stranger}), "with one that Triton does not know"
    assert not await connects(triton, {}), "in the clear"
    assert await connects(triton, good)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"TRITON_CA_FILE": "absent"}, "TRITON_CA_FILE cannot be used: No such file"),
        ({"TRITON_CA_FILE": "gateway-key"}, "TRITON_CA_FILE cannot be used: not in PEM form"),
        ({"TRITON_CERT_FILE": "gateway"}, "given together"),
        ({"TRITON_CERT_FILE": "gateway", "TRITON_KEY_FILE": "triton-key"}, "the key is not the certificate's"),
        ({"TRITON_CERT_FILE": "gateway-key", "TRITON_KEY_FILE": "gateway"}, "TRITON_CERT_FILE and TRITON_KEY_FILE"),
        ({"TRITON_CERT_FILE": "absent", "TRITON_KEY_FILE": "gateway-key"}, "cannot be used: No such file"),
        ({"TRITON_CA_FILE": "ca", "TRITON_TLS": "false"}, "need TRITON_TLS=true"),
    ],
)
def test_files_that_cannot_be_used_are_refused_at_the_start(
    given: dict[str, str],
    said: str,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_TLS", "true")
    for name, value in given.items():
        monkeypatch.setenv(name, files.of(value) if name.endswith("FILE") else value)
    assert main(arguments=["--check"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("gateway: TRITON_")
    assert said in told
    assert "PRIVATE KEY" not in told


def test_good_files_pass_the_check(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"CA_FILE": files.of("ca"), "CERT_FILE": files.of("gateway"), "KEY_FILE": files.of("gateway-key")}
    for name, value in {**given, "TLS": "true"}.items():
        monkeypatch.setenv(f"TRITON_{name}", value)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MODEL_REPOSITORY", str(tmp_path / "models"))
    assert main(arguments=["--check"]) == 0
    assert capsys.readouterr().err == ""
