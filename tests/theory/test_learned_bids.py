"""MaskablePPO finds the bids that theory calls best, through the trainer that trains policies.

Minutes of training; the figures behind each threshold are in docs/learning.md.
"""

import pytest

from agents.studies.known_bids import LEARNED, check

pytestmark = pytest.mark.theory


@pytest.mark.parametrize("name", LEARNED)
def test_learned_bids(name: str) -> None:
    findings = check(name)
    print(*findings, sep="\n")
    assert any(finding.holds is not None for finding in findings)
    assert not [finding for finding in findings if finding.holds is False]
