"""Rules of one's own: compared beside the others, tuned if they have settings, refused by name."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from agents.bidders.arms import FIXED, STATIC, VALIDATION_SEED, play
from agents.bidders.baselines import network_bidder
from agents.bidders.own_rules import bidders_of, load_rules, tuned_rule
from agents.config import DEFAULT_CONFIG, EvaluationConfig, config_to_dict, read_arguments
from agents.evaluate.comparison import compare_all
from agents.evaluate.held_out import HeldOut
from agents.measures.intervals import iqm
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from models.extensions import ExtensionError
from models.frozen import Network

SOURCE = """
    import numpy as np
    from agents.bidders.baselines import greedy

    def Eighty(market):
        return greedy(0.8)

    def Choose(market):
        return {"ten": greedy(0.1), "ninety": greedy(0.9)}

    class Counting:
        '''Bids 90 % from the 31st decision of an episode on.'''
        def __init__(self, market):
            self.restart()
        def restart(self):
            self.seen = 0
        def __call__(self, observations, masks):
            self.seen += 1
            actions = greedy(0.9)(observations, masks)
            return actions if self.seen > 30 else np.zeros_like(actions)

    policy = Eighty
    number = 5
    Nothing = lambda market: None
    Empty = lambda market: {}
    Broken = lambda market: 1 / 0
    Fails = lambda market: lambda observations, masks: observations[:, 10_000]
    Floats = lambda market: lambda observations, masks: np.zeros(len(masks))
    Short = lambda market: lambda observations, masks: np.zeros(1, np.int64)
    Outside = lambda market: lambda observations, masks: np.full(len(masks), -1)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module `rules_here` in the folder in which the command is started, and nowhere else."""
    file = tmp_path / "rules_here.py"
    file.write_text(dedent(SOURCE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield file
    sys.modules.pop("rules_here", None)


def quick(*rules: str) -> EvaluationConfig:
    return EvaluationConfig(seeds=1, episodes=16, resamples=50, scenarios=("default",), rules=rules)


def test_a_rule_plays_the_episodes_of_the_comparison(
    market: MarketConfig, paths: PricePaths, tmp_path: Path, module: Path
) -> None:
    config = quick("rules_here:Eighty", "rules_here:Choose", "rules_here:Counting")
    kept, steps = tmp_path / "kept", []
    # Where all proposers take bundles, the rules of the table do not bid in public either.
    held_out = HeldOut(market.changed({"blocks.mev_boost_share": 1.0}), paths, config)
    layer = np.zeros((ACTIONS, SIZE), np.float32), np.arange(ACTIONS, dtype=np.float32)
    policy = network_bidder(Network((layer,)))
    (found,) = compare_all(policy, held_out, folder=kept, progress=lambda *at: steps.append(at))
    np.testing.assert_array_equal(found.scores["Eighty"], found.scores["greedy 80 %"])
    assert found.settings["Choose"] in ("ten", "ninety")
    assert found.tried["Choose"] == 2
    assert "Eighty" not in found.tried
    if found.settings["Choose"] == "ninety":
        np.testing.assert_array_equal(found.scores["Choose"], found.scores["greedy 90 %"])
    # It remembers, and begins anew with the episodes: it misses ten slots of 32.
    assert 0.3 < found.scores["Counting"].mean() / found.scores["greedy 90 %"].mean() < 1.0
    assert set(FIXED) | {STATIC, "Eighty", "Choose", "Counting"} < set(found.scores)
    assert steps[-1][0] == steps[-1][1]
    assert found.summary(config)["Choose"]["settings_tried"] == 2
    # What is finished is not played again, unless the file of the rule changes.
    before = {file.name for file in kept.iterdir()}
    compare_all(policy, held_out, folder=kept)
    assert {file.name for file in kept.iterdir()} == before
    module.write_text(module.read_text() + "\n# edited\n")
    compare_all(policy, held_out, folder=kept)
    assert len({file.name for file in kept.iterdir()} - before) == 3


def test_validation_chooses_the_setting(market: MarketConfig, paths: PricePaths) -> None:
    validation = MarketVectorEnv(16, market, paths, split="validation")
    chosen = tuned_rule("rules_here:Choose", market, validation)
    scores = {
        setting: float(iqm(play(bidder, validation, VALIDATION_SEED).profit_eth))
        for setting, bidder in bidders_of("rules_here:Choose", market).items()
    }
    assert chosen.setting == max(scores, key=scores.__getitem__)
    assert scores["ten"] != scores["ninety"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("rules_here:Missing", "has no 'Missing'; give MODULE:NAME"),
        ("rules_hear:Eighty", "no module rules_hear.*PYTHONPATH"),
        ("rules_here", "no import path; give MODULE:NAME"),
        ("rules_here:", "no import path"),
        ("rules_here:number", "of type int"),
        ("rules_here:policy", "another arm 'policy'; rename"),
        ("rules_here:Nothing", "NoneType, which cannot bid"),
        ("rules_here:Empty", "no names with bidders"),
        ("rules_here:Broken", "ZeroDivisionError"),
        ("rules_here:Fails", "its bidder ends in IndexError"),
        ("rules_here:Floats", r"float64\[3\] for 3 markets; give an integer"),
        ("rules_here:Short", r"int64\[1\] for 3 markets"),
        ("rules_here:Outside", r"actions \[-1, -1, -1\]; give 0 to"),
    ],
)
def test_wrong_rules_are_refused_with_path_and_remedy(name: str, problem: str) -> None:
    with pytest.raises(ExtensionError, match=f"evaluation.rules: '{name}': .*{problem}"):
        load_rules([name])


def test_a_module_that_does_not_import_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rules_here.py").write_text("import surely_not_installed\n")
    with pytest.raises(ExtensionError, match="its module needs surely_not_installed; install it"):
        load_rules(["rules_here:Rule"])
    (tmp_path / "rules_here.py").write_text("1 / 0\n")
    with pytest.raises(ExtensionError, match=r"ZeroDivisionError.*mend the module"):
        load_rules(["rules_here:Rule"])


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ExtensionError, match="another arm 'Eighty'"):
        load_rules(["rules_here:Eighty", "rules_here:Eighty"])


def test_the_configuration_names_rules() -> None:
    arguments = ["--config", str(DEFAULT_CONFIG), "--evaluation.rules", '["rules_here:Eighty"]']
    config, _ = read_arguments(arguments)
    assert config.evaluation.rules == ("rules_here:Eighty",)
    assert json.loads(json.dumps(config_to_dict(config)))["evaluation"]["rules"] == [
        "rules_here:Eighty"
    ]
