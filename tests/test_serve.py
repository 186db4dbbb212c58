"""`serve.py` as a user runs it: on the local chain with real contracts, killed and started again,
and with every wrong setting."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import devnet
from devnet.artifacts import artifact
from devnet.config import AnvilConfig, DevnetConfig
from devnet.local import Running
from tests.support.frozen_policy import write_fixed_fraction_policy
from tests.support.programs import (
    PATIENCE_S,
    ROOT,
    end_of,
    line_of,
    processes_of,
    program,
    until,
)

with warnings.catch_warnings():
    # web3 imports a module of websockets that is about to go
    warnings.simplefilter("ignore", DeprecationWarning)
    from web3 import Web3

REPORT_KEYS = (
    "chain_id seconds heads pending_seen opportunities decisions bundles_sent included failed "
    "realised_profit_wei expected_profit_wei gas_spent_wei lost_by_reason latency_us "
    "state_mismatches reorgs_handled reconnects"
)
WORLD_S = 1800.0  # a bound: the world ends with its tests
HEAVY = ("torch", "ray", "stable_baselines3", "sb3_contrib", "envs", "agents", "devnet", "history")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its kernels are compiled too: a world that waits for that has poor users at the end."""
    folder = write_fixed_fraction_policy(tmp_path_factory.mktemp("run") / "policy")
    code = f"import pathlib, live.server; live.server.load_policy(pathlib.Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def world(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A local chain with blocks every second and its usual traffic."""
    manifest = tmp_path_factory.mktemp("devnet") / "devnet.json"
    anvil = AnvilConfig(slot_s=1.0, block_gas_limit=2_400_000)
    with devnet.running(DevnetConfig(anvil=anvil, manifest=manifest, lifetime=WORLD_S)) as running:
        yield running


@pytest.fixture(scope="module")
def arguments(
    world: Running, policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[str]]:
    """Command line of a server on `world`, its files in a folder of its own."""
    folder = tmp_path_factory.mktemp("state")
    manifest = folder / "deployment.json"
    manifest.write_text(json.dumps(world.manifest))

    def build(*more: str) -> list[str]:
        return [
            f"--node.url={world.ws_url}",
            f"--deployment={manifest}",
            f"--policy={policy}",
            f"--state_dir={folder}",
            # a machine with much else to do is no fault of the node
            f"--node.connect_timeout_s={PATIENCE_S}",
            f"--node.request_timeout_s={PATIENCE_S}",
            *more,
        ]

    return build


def start(arguments: list[str], world: Running, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "serve.py"), *arguments],
        cwd=cwd,
        env=dict(os.environ, SEARCHER_KEY=world.searcher_key),
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = PATIENCE_S) -> str:
    try:
        _, errors = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return errors


def rows_of(journal: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM decisions WHERE tx_hash IS NOT NULL").fetchall()
    connection.close()
    return [dict(row) for row in rows]


def mined_in(journal: Path) -> list[dict[str, Any]]:
    return [row for row in rows_of(journal) if row["block_number"] is not None]


class Reader:
    """What an independent web3 client reads from the chain."""

    def __init__(self, world: Running) -> None:
        self.client = Web3(Web3.HTTPProvider(world.http_url))
        self.weth = self.client.eth.contract(
            address=Web3.to_checksum_address(world.manifest["weth"]), abi=artifact("WETH9").abi
        )
        self.executor = Web3.to_checksum_address(world.manifest["executor"]["address"])
        self.account = Web3.to_checksum_address(world.manifest["executor"]["owner"])

    def executor_weth(self) -> int:
        return int(self.weth.functions.balanceOf(self.executor).call())

    def account_nonce(self) -> int:
        return self.client.eth.get_transaction_count(self.account)

    def wait_until_idle(self) -> None:
        """A server that has stopped may have left a transaction to be mined."""
        count = self.client.eth.get_transaction_count
        until(
            lambda: count(self.account, "pending") <= self.account_nonce(),
            "the account's transactions to be mined",
        )

    def receipt(self, hash_: str) -> Any:
        return self.client.eth.get_transaction_receipt(Web3.to_bytes(hexstr=hash_))  # type: ignore


def included_in(state: Path) -> int:
    """Plans that the journal in a folder knows to be included."""
    try:
        return sum(
            row["status"] == "included" for j in state.glob("*.sqlite") for row in rows_of(j)
        )
    except sqlite3.OperationalError:  # it is just being made
        return 0


def settle(start_again: Callable[[], subprocess.Popen[str]], reader: Reader, journal: Path) -> None:
    """What was sent in a server's last moments may be mined after it: the next start settles it."""

    def settled() -> bool:
        reader.wait_until_idle()
        if all(row["status"] != "open" for row in rows_of(journal)):
            return True
        finish(start_again())
        return False

    until(settled, "a journal without open transactions")


@pytest.mark.devnet
def test_served_profit_is_on_the_chain_to_the_wei(
    world: Running, arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    reader = Reader(world)
    reader.wait_until_idle()
    before, nonce_before = reader.executor_weth(), reader.account_nonce()
    state, path = tmp_path / "state", tmp_path / "report.json"
    own = f"--state_dir={state}", f"--report={path}"
    process = start(arguments("--duration=1200", *own), world, tmp_path)
    until(lambda: included_in(state) >= 2, "two included plans")
    first = reader.client.eth.block_number
    until(lambda: reader.client.eth.block_number >= first + 10, "ten further blocks")
    process.send_signal(signal.SIGINT)
    errors = finish(process)
    report = json.loads(path.read_text())
    [journal] = state.glob("*.sqlite")
    reported = sum(int(row["realised_wei"]) for row in mined_in(journal))
    settle(lambda: start(arguments("--duration=2", *own), world, tmp_path), reader, journal)
    rows = mined_in(journal)
    assert sum(int(row["realised_wei"]) for row in rows) == reader.executor_weth() - before > 0
    assert set(REPORT_KEYS.split()) <= set(report)
    assert report["chain_id"] == 31337
    assert report["included"] >= 2, errors
    assert report["realised_profit_wei"] == reported > 0
    assert report["executor_balance_change_wei"] == report["realised_profit_wei"]
    assert report["state_mismatches"] == report["unchallenged_violations"] == 0, errors
    assert report["states_compared"] >= 10
    assert report["pending_seen"] > 0
    latency = report["latency_us"]["frame_to_signed"]
    assert set(latency) == {"p50", "p99", "max", "n"}
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]
    assert world.searcher_key[2:] not in errors + path.read_text()
    assert "Traceback" not in errors
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.json", "state"]
    assert reader.account_nonce() - nonce_before == len(rows)
    for row in rows:
        receipt = reader.receipt(row["tx_hash"])
        assert receipt["status"] == (row["status"] != "failed")
        assert int(row["gas_cost_wei"]) == receipt["gasUsed"] * receipt["effectiveGasPrice"]
        if row["unchallenged"]:
            assert row["realised_wei"] == row["expected_wei"]


@pytest.mark.devnet
def test_killed_in_the_middle_and_started_again(
    world: Running, arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    reader = Reader(world)
    # the account may have a past: only what this journal adds is compared
    reader.wait_until_idle()
    before, nonce_before = reader.executor_weth(), reader.account_nonce()
    state = tmp_path / "state"
    own = (f"--state_dir={state}", f"--report={tmp_path / 'report.json'}")
    process = start(arguments(*own, "--duration=1200"), world, tmp_path)
    until(lambda: included_in(state) >= 2, "two included plans")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [journal] = state.glob("*.sqlite")
    sent_before = {row["tx_hash"] for row in rows_of(journal)}
    assert sent_before
    errors = finish(start(arguments(*own, "--duration=4"), world, tmp_path))
    settle(lambda: start(arguments(*own, "--duration=2"), world, tmp_path), reader, journal)
    rows = rows_of(journal)
    assert [row for row in rows if row["status"] == "open"] == [], errors
    mined = mined_in(journal)
    # every nonce was used exactly once, and by a transaction that the journal knows
    assert sorted(row["nonce"] for row in mined) == list(
        range(nonce_before, reader.account_nonce())
    )
    assert sum(int(row["realised_wei"]) for row in mined) == reader.executor_weth() - before
    assert len({row["raw"] for row in rows}) == len(rows)
    for row in mined:
        assert reader.receipt(row["tx_hash"])["blockNumber"] == row["block_number"]


@pytest.mark.devnet
def test_interrupted_twice_it_reports_at_once_and_leaves_no_process(
    policy: Path, tmp_path: Path
) -> None:
    """On a local chain of its own, which it also ends."""
    chain = tmp_path / "chain.yaml"
    chain.write_text(f"anvil: {{slot_s: 12.0}}\nmanifest: {tmp_path / 'devnet.json'}\n")
    path = tmp_path / "report.json"
    own = (
        f"--policy={policy}",
        f"--local_chain={chain}",
        f"--state_dir={tmp_path}",
        f"--report={path}",
    )
    with program(ROOT / "serve.py", *own, cwd=tmp_path) as process:
        line_of(process.stderr, "local chain ...")
        line_of(process.stderr, "included 0")
        for _ in range(2):
            process.send_signal(signal.SIGINT)
        code, errors = end_of(process)
        until(lambda: not processes_of(process.pid), "the end of all processes")
    assert code == 0
    assert "ending" in errors
    assert "Traceback" not in errors
    assert json.loads(path.read_text())["heads"] >= 1


@pytest.mark.devnet
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_service_has_begun(
    number: signal.Signals, policy: Path, world: Running, tmp_path: Path
) -> None:
    """The node's port accepts, and never answers."""
    deployment = tmp_path / "deployment.json"
    deployment.write_text(json.dumps(world.manifest))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        own = (
            *(f"--policy={policy}", f"--deployment={deployment}", "--key=env:SEARCHER_KEY"),
            *(f"--node.url=ws://127.0.0.1:{silent.getsockname()[1]}", "--node.chain_id=31337"),
            f"--node.connect_timeout_s={PATIENCE_S}",
        )
        key = {"SEARCHER_KEY": world.searcher_key}
        with program(ROOT / "serve.py", *own, cwd=tmp_path, **key) as process:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                process.send_signal(number)
                code, errors = end_of(process)
    assert code == 128 + number
    assert errors.splitlines()[-1] == "Stopped."
    assert "Traceback" not in errors
    assert [file.name for file in tmp_path.iterdir()] == ["deployment.json"]


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    """serve.py as a module: starting a process for every wrong setting would take a minute."""
    spec = importlib.util.spec_from_file_location("serve", ROOT / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(
    serve: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    try:
        code = serve.main(arguments)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    return code, capsys.readouterr().err


DEPLOYMENT = {
    "chain_id": 31337,
    "slot_s": 1.0,
    "weth": "0x" + "01" * 20,
    "tokens": [
        {"address": "0x" + "01" * 20, "symbol": "WETH", "decimals": 18},
        {"address": "0x" + "02" * 20, "symbol": "DAI", "decimals": 18},
    ],
    "exchanges": [
        {"factory": "0x" + f"{3 + i:02x}" * 20, "router": "0x" + f"{5 + i:02x}" * 20}
        for i in range(2)
    ],
    "pools": [
        {
            "address": "0x" + f"{7 + i:02x}" * 20,
            "factory": "0x" + f"{3 + i:02x}" * 20,
            "token0": "0x" + "01" * 20,
            "token1": "0x" + "02" * 20,
            "fee_numerator": 997,
            "fee_denominator": 1000,
        }
        for i in range(2)
    ],
    "executor": {
        "address": "0x" + "09" * 20,
        "owner": "0x" + "0a" * 20,
        "gas_base": 1,
        "gas_per_hop": 1,
        "gas_bid": 1,
    },
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--risk.max_profit_wei=1"], "risk.max_profit_wei"),
        (["--risk.max_open=many"], "risk.max_open"),
        (["--engine.fee_bump_percent=1"], "engine.fee_bump_percent is 1"),
        (["--policy=nowhere"], "policy folder nowhere does not exist"),
        (["--node.url=ws://127.0.0.1:9"], "does not answer"),
        (["--node.url=http://127.0.0.1:9"], "node.url"),
        (["--key=env:NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"),
        (["--deployment=nowhere.json"], "deployment nowhere.json cannot be read"),
        (["--bars=nowhere.parquet"], "nowhere.parquet"),
    ],
)
def test_wrong_settings_end_with_a_message_and_leave_nothing(
    wrong: list[str],
    message: str,
    serve: ModuleType,
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCHER_KEY", "0x" + "11" * 32)
    Path("deployment.json").write_text(json.dumps(DEPLOYMENT))
    valid = [
        f"--policy={policy}",
        "--node.url=ws://127.0.0.1:9",
        "--node.connect_timeout_s=1",
        "--deployment=deployment.json",
    ]
    code, errors = outcome(serve, [*valid, *wrong], capsys)
    assert code == 2
    assert message in errors
    assert [file.name for file in tmp_path.iterdir()] == ["deployment.json"]


def test_unknown_key_in_a_file_is_named(
    serve: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("dry_run: true\nnode:\n  adress: ws://127.0.0.1:1\n")
    code, errors = outcome(serve, [f"--config={path}"], capsys)
    assert code == 2
    assert "adress" in errors


def test_a_policy_with_other_fields_is_refused(
    serve: ModuleType, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((policy / "manifest.json").read_text())
    manifest["fields"][3][0] = "another"
    folder = tmp_path / "policy"
    folder.mkdir()
    for file in policy.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))
    code, errors = outcome(serve, [f"--policy={folder}"], capsys)
    assert code == 2
    assert "fields[3]" in errors


@pytest.mark.devnet
def test_another_chain_is_refused(
    serve: ModuleType,
    world: Running,
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SEARCHER_KEY", world.searcher_key)
    state = tmp_path / "state"
    wrong = arguments("--node.chain_id=1", f"--state_dir={state}")
    code, errors = outcome(serve, wrong, capsys)
    assert code == 2
    assert "node.chain_id is 1" in errors
    assert "31337" in errors
    monkeypatch.setenv("SEARCHER_KEY", "0x" + "11" * 32)
    code, errors = outcome(serve, arguments(f"--state_dir={state}"), capsys)
    assert code == 2
    assert "use the owner's key" in errors
    assert not state.exists()


def test_the_mainnet_example_is_a_dry_run(serve: ModuleType) -> None:
    config = serve.read_arguments([f"--config={ROOT / 'configs' / 'serve-mainnet.yaml'}"])
    assert config.dry_run
    assert config.node.chain_id == 1
    assert config.key.startswith("env:")


def test_serving_loads_neither_learners_nor_the_local_chain() -> None:
    code = f"import sys, serve\nprint([name for name in {HEAVY!r} if name in sys.modules])\n"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
