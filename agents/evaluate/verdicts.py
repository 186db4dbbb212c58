"""What a comparison says, in sentences and as a table for the terminal.

The first sentence names the arm that earned most, whoever it is.
"""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from agents.bidders.arms import NO_OP, POLICY, STATIC
from agents.measures.intervals import Interval

MIN_TRAININGS = 3  # of each arm, for an interval over trainings to decide
COLUMNS = (
    "IQM: mean of the middle half of the episodes. 95 %: its bootstrap interval. mean: of all "
    "episodes. share: profit over what the best bid would have earned after the fact. wins: share "
    "of bids that won. bid: bids over the net profit that they were made for."
)

Arms = dict[str, dict[str, Any]]  # arm -> scenario -> agents.evaluate.comparison summary


def arm_table(scenario: str, arms: Arms) -> Table:
    """Terminal table of one scenario, best arm first; it fits 80 columns. COLUMNS explains it."""
    title = f"{scenario}: profit per episode (ETH)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("arm", "IQM", "95 %", "mean", "share", "wins", "bid"):
        # A long name is wrapped, so that no number is cut.
        words = name == "arm"
        table.add_column(name, justify="left" if words else "right", no_wrap=not words)
    for arm in by_profit(arms, scenario):
        v = arms[arm][scenario]
        low, high = v["iqm_95_eth"]
        cells = [f"{v['iqm_eth']:.3f}", f"{low:.3f}-{high:.3f}", f"{v['mean_eth']:.3f}"]
        cells += [f"{v[k]:.2f}" for k in ("share_of_best_response", "win_rate", "bid_share")]
        table.add_row(arm, *cells, style="bold" if arm == POLICY else None)
    return table


def by_profit(arms: Arms, scenario: str) -> list[str]:
    """Names of the arms, the one with the highest IQM first."""
    return sorted(arms, key=lambda arm: -arms[arm][scenario]["iqm_eth"])


def strongest_other(arms: Arms, scenario: str) -> str:
    """The arm with the highest IQM beside the policy.

    A learner that is the policy itself, every episode equal, is not another arm.
    """
    others = [arm for arm in by_profit(arms, scenario) if arm not in (POLICY, NO_OP)]
    apart = [arm for arm in others if not _same(arms[arm][scenario])]
    return (apart or others)[0]


def _same(values: dict[str, Any]) -> bool:
    gap = values["policy_minus_arm_iqm_eth"]
    return gap["value"] == gap["low"] == gap["high"] == 0.0


def verdict(arms: Arms, scenario: str) -> list[str]:
    """Sentences: which arm earned most and by how much, then the policy against the best static.

    An arm earns more or less where the interval of the paired difference excludes 0; where it does
    not, the difference is not shown.
    """
    rival = strongest_other(arms, scenario)
    lines = [f"{scenario}: {_ranking(arms, rival, scenario)}"]
    if rival != STATIC:
        lines.append(f"{scenario}: {_against_static(arms, scenario)}")
    return lines


def _ranking(arms: Arms, rival: str, scenario: str) -> str:
    ours, theirs = arms[POLICY][scenario]["iqm_eth"], arms[rival][scenario]["iqm_eth"]
    gap = Interval(**arms[rival][scenario]["policy_minus_arm_iqm_eth"])
    name, facts = _named(rival, arms[rival][scenario]), _facts(ours, theirs, gap)
    if gap.low > 0.0:
        return (
            f"the policy earns most, {ours:.4f} ETH per episode (IQM); next is {name} with "
            f"{theirs:.4f} ({facts})."
        )
    if gap.high < 0.0:
        return (
            f"{name} earns most, {theirs:.4f} ETH per episode (IQM); the policy earns less, "
            f"{ours:.4f} ({facts}).{_why(arms, rival, scenario)}"
        )
    if theirs > ours:
        leader = f"{name} leads with {theirs:.4f} ETH per episode (IQM)"
        other = f"the policy with {ours:.4f}"
    else:
        leader = f"the policy leads with {ours:.4f} ETH per episode (IQM)"
        other = f"{name} with {theirs:.4f}"
    return f"{leader}; {other} is not shown to differ ({facts}).{_why(arms, rival, scenario)}"


def _against_static(arms: Arms, scenario: str) -> str:
    ours, theirs = arms[POLICY][scenario], arms[STATIC][scenario]
    gap = Interval(**theirs["policy_minus_arm_iqm_eth"])
    if gap.low > 0.0:
        kind = "earns more"
    else:
        kind = "earns less" if gap.high < 0.0 else "is not shown to earn more"
    return (
        f"against {_named(STATIC, theirs)} with {theirs['iqm_eth']:.4f} the policy {kind} "
        f"({_facts(ours['iqm_eth'], theirs['iqm_eth'], gap)})."
    )


def _facts(ours: float, theirs: float, gap: Interval) -> str:
    ratio = f"ratio {ours / theirs:.2f}, " if theirs > 0.0 else ""
    return f"{ratio}paired difference {gap.value:+.4f}, 95 % {gap.low:+.4f} to {gap.high:+.4f}"


def _named(arm: str, values: dict[str, Any]) -> str:
    """An arm with the setting that validation chose for it."""
    setting = values.get("setting", "")
    return f'"{arm}" ({setting})' if setting else f'"{arm}"'


def _why(arms: Arms, rival: str, scenario: str) -> str:
    """Where the policy stands apart from an arm that it does not beat."""
    ours, theirs = arms[POLICY][scenario], arms[rival][scenario]
    return (
        f" The policy wins {ours['win_rate']:.0%} of its bids at a mean bid of "
        f"{ours['bid_share']:.0%} and bids in {ours['participation']:.0%} of the slots with an "
        f"opportunity; the other wins {theirs['win_rate']:.0%} at {theirs['bid_share']:.0%} and "
        f"bids in {theirs['participation']:.0%}."
    )


def ingredient_lines(ingredients: dict[str, dict[str, Any]], scenario: str) -> list[str]:
    """A sentence for each ingredient: what it adds, or that it is not shown to add anything.

    The interval over trainings decides where both arms have MIN_TRAININGS, else that over episodes.
    """
    return [f"{scenario}: {name} {_found(found)}." for name, found in ingredients.items()]


def _found(found: dict[str, Any]) -> str:
    best, average = Interval(**found["iqm_eth"]), Interval(**found["mean_eth"])
    over = found["over_trainings"]
    trained, all_ = (over["trainings_with"], over["trainings_without"]), Interval(**over["iqm_eth"])
    arms = f"{found['with']} minus {found['without']}"
    between = f"best of each {_gap(best)}, mean {_gap(average)}"
    counts = "{} and {} trainings".format(*trained)
    if min(trained) < MIN_TRAININGS:
        too_few = f"over episodes alone, for {counts} are too few"
        return f"{_effect(best)} {too_few}: {arms}, {between}"
    return f"{_effect(all_)}: {arms} {_gap(all_)} over {counts}; {between}"


def _effect(gap: Interval) -> str:
    if gap.low > 0.0:
        return "adds to the profit"
    return "costs profit" if gap.high < 0.0 else "is not shown to add anything"


def _gap(gap: Interval) -> str:
    return f"{gap.value:+.4f} ETH (95 % {gap.low:+.4f} to {gap.high:+.4f})"
