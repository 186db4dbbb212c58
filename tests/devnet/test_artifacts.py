"""Artifacts: the bytecode is the one on mainnet, and a failed fetch leaves nothing behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from eth_utils.crypto import keccak

from devnet import artifacts
from devnet.artifacts import NPM_ARTIFACTS, ArtifactError, anvil_binary, artifact, npm_folder

# init code hashes that the deployed periphery contracts compute pool addresses with
V2_PAIR_INIT_CODE = "96e8ac4277198ff8b6f785478aa9a39f403cb768dd02cbee326c3e7da348845f"
V3_POOL_INIT_CODE = "e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54"


@pytest.mark.parametrize("name", [*NPM_ARTIFACTS, "Token", "Executor"])
def test_every_contract_has_code_and_abi(name: str) -> None:
    contract = artifact(name)
    assert len(contract.bytecode) > 1000
    assert any(entry.get("type") == "function" for entry in contract.abi)


def test_pools_are_the_deployed_ones() -> None:
    assert keccak(artifact("UniswapV2Pair").bytecode).hex() == V2_PAIR_INIT_CODE
    assert keccak(artifact("UniswapV3Pool").bytecode).hex() == V3_POOL_INIT_CODE
    assert bytes.fromhex(V2_PAIR_INIT_CODE) in artifact("UniswapV2Router02").bytecode


def test_unknown_contract_lists_the_known_ones() -> None:
    with pytest.raises(ArtifactError, match=r"unknown contract 'Router'.*Executor.*WETH9"):
        artifact("Router")


def test_altered_bytecode_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, _ = NPM_ARTIFACTS["WETH9"]
    file = tmp_path / "node_modules" / holder / "WETH9.json"
    file.parent.mkdir(parents=True)
    code = artifact("WETH9").bytecode[:-1] + b"\x00"
    file.write_text(json.dumps({"abi": [], "bytecode": "0x" + code.hex()}))
    monkeypatch.setattr(artifacts, "npm_folder", lambda: tmp_path)
    with pytest.raises(ArtifactError, match="WETH9: creation code"):
        artifacts._from_npm("WETH9")


def test_anvil_is_the_pinned_version() -> None:
    pinned = json.loads((artifacts.CONTRACTS / "package.json").read_text())["dependencies"]
    output = subprocess.run([anvil_binary(), "--version"], capture_output=True, text=True)
    assert f"anvil Version: {pinned['@foundry-rs/anvil']}" in output.stdout
    assert all(version[0].isdigit() for version in pinned.values()), "ranges are not pins"


def test_unreachable_registry_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "empty-npm-cache"))
    with pytest.raises(ArtifactError, match="npm_config_registry at a reachable"):
        npm_folder()
    assert [path.name for path in (tmp_path / "mevrl").iterdir()] == ["npm.lock"]


def test_two_processes_install_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both processes get the folder; a counter file shows that only one of them installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = (
        "import time\n"
        "from pathlib import Path\n"
        "from devnet import artifacts\n"
        "def slow_install(arguments, folder):\n"
        f"    with open({str(tmp_path / 'installs')!r}, 'a') as file: file.write('x')\n"
        "    time.sleep(1)\n"
        "    (folder / 'node_modules').mkdir()\n"
        "artifacts._run_npm = slow_install\n"
        "assert (artifacts.npm_folder() / 'node_modules').is_dir()\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert (tmp_path / "installs").read_text() == "x"
