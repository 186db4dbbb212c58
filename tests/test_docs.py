"""The pages under docs/kernels say what the docstrings say, and no kernel module is left out."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "kernels"
LINK = re.compile(r"\]\(([^)#]+)\)")


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The kernels and their pages, to be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("kernels", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    assert generate("--root", str(tmp_path)).returncode == 0
    return tmp_path


def test_committed_pages_are_up_to_date() -> None:
    finished = generate("--check")
    assert finished.returncode == 0, finished.stderr


def test_a_changed_docstring_makes_its_page_stale(checkout: Path) -> None:
    root = str(checkout)
    assert generate("--check", "--root", root).returncode == 0
    module = checkout / "kernels" / "auction.py"
    module.write_text(module.read_text() + '\n\ndef bid_a_unit() -> int:\n    """One * one."""\n')
    stale = generate("--check", "--root", root)
    assert stale.returncode == 1
    assert stale.stderr.startswith("out of date: fees.md; run python docs/generate.py")
    assert generate("--root", root).stdout.split() == ["written:", "fees.md"]
    page = (checkout / "docs" / "kernels" / "fees.md").read_text()
    assert (
        "### bid_a_unit\n\n```python\ndef bid_a_unit() -> int\n```\n\n*Python.* One * one." in page
    )
    assert generate("--check", "--root", root).returncode == 0


def test_a_page_of_nothing_is_removed(checkout: Path) -> None:
    left_over = checkout / "docs" / "kernels" / "old.md"
    left_over.touch()
    assert generate("--check", "--root", str(checkout)).returncode == 1
    assert generate("--root", str(checkout)).returncode == 0
    assert not left_over.exists()


def test_a_module_without_a_family_is_named(checkout: Path) -> None:
    (checkout / "kernels" / "zebra.py").write_text('"""Stripes."""\n')
    for arguments in ([], ["--check"]):
        finished = generate(*arguments, "--root", str(checkout))
        assert finished.returncode == 1
        assert "kernels/zebra.py belongs to no family" in finished.stderr
        assert "FAMILIES in docs/generate.py" in finished.stderr


def test_a_new_module_of_a_known_family_is_picked_up(checkout: Path) -> None:
    (checkout / "kernels" / "uniswap_v3" / "oracle.py").write_text('"""Observations."""\n')
    assert generate("--root", str(checkout)).returncode == 0
    page = (checkout / "docs" / "kernels" / "uniswap_v3.md").read_text()
    assert "## kernels.uniswap_v3.oracle\n" in page
    index = (checkout / "docs" / "kernels" / "README.md").read_text()
    assert "- `kernels.uniswap_v3.oracle`: Observations." in index


def test_links_lead_somewhere() -> None:
    for page in PAGES.glob("*.md"):
        for target in LINK.findall(page.read_text()):
            assert (PAGES / target).exists(), f"{page.name} links to {target}"
