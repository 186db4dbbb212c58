"""Tables beside the comparison: the learner in auctions whose best bids are known.

What is finished lies in the run's folder `studies` and is not repeated when a run is continued.
"""

import json
from pathlib import Path
from typing import Any

from agents.config import StudiesConfig
from agents.findings import as_json, table
from agents.hidden_competition import report as competition_report
from agents.hidden_competition.study import Study, compared
from agents.processes import as_finished
from agents.progress import Report, Stages
from agents.report.figures import save_figure
from agents.runs import write_text
from agents.studies.known_bids import CHECKS, check

HIDDEN_COMPETITION, KNOWN_BIDS = "hidden_competition", "known_bids"
FIGURE = "hidden_competition.png"
HIDDEN_RIVALS = (
    "Sealed-bid auctions whose unseen regime changes how many rivals bid and how hard; shares of "
    "the profit of one who sees the highest rival bid, on held-out chains; ranges over trainings. "
    "The gap is (arm - best static) / (Bayes with the same information - best static)."
)
PLAYED_AND_LEARNED = (
    "Played: the compiled auctions against closed forms. Learned: MaskablePPO in them, one seed "
    "each; the bounds are those of tests/theory."
)


def run_studies(
    run: Path, config: StudiesConfig, workers: int, stages: Stages
) -> dict[str, dict[str, Any]]:
    """The studies that a configuration asks for, by name; nothing where it asks for none.

    hidden_competition: scenario -> `agents.hidden_competition.study.summarise` and seconds;
    known_bids: check -> findings.
    """
    if not config.hidden_competition and not config.known_bids:
        return {}
    folder = run / "studies"
    folder.mkdir(exist_ok=True)
    found = {}
    if config.hidden_competition:
        with stages.stage("hidden competition") as progress:
            found[HIDDEN_COMPETITION] = _hidden_competition(folder, config, workers, progress)
    if config.known_bids:
        with stages.stage("known bids") as progress:
            found[KNOWN_BIDS] = _known_bids(folder, workers, progress)
    return found


def _hidden_competition(
    folder: Path, config: StudiesConfig, workers: int, progress: Report
) -> dict[str, Any]:
    """A file per scenario."""
    each = config.hidden_competition_seeds + config.stateless_seeds
    done, total = 0, each * len(config.hidden_competition)
    summaries: dict[str, Any] = {}
    for place, name in enumerate(config.hidden_competition, 1):
        file = folder / f"hidden-competition-{name}.json"
        if not file.is_file():
            study = Study(
                scenario=name,
                seeds=config.hidden_competition_seeds,
                stateless_seeds=config.stateless_seeds,
                steps=config.steps,
                chains=config.chains,
                workers=workers,
            )

            def trained(_: str) -> None:
                nonlocal done
                done += 1
                progress(done, total)

            _write(file, compared(study, name, trained))
        summaries[name] = json.loads(file.read_text())
        done = each * place
        progress(done, total)
    return summaries


def _known_bids(folder: Path, workers: int, progress: Report) -> dict[str, Any]:
    """One file, rewritten after every check."""
    file = folder / "known-bids.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    open_ = {name: (name,) for name in CHECKS if name not in known}
    for name, findings in as_finished(check, open_, workers):
        known[name] = as_json(findings)
        _write(file, known)
        progress(len(known), len(CHECKS))
    return {name: known[name] for name in CHECKS}


def _write(file: Path, content: dict[str, Any]) -> None:
    write_text(file, json.dumps(content, indent=1, allow_nan=False) + "\n")


def draw_studies(studies: dict[str, dict[str, Any]], figures: Path) -> None:
    """Figures of what `run_studies` found."""
    if HIDDEN_COMPETITION in studies:
        save_figure(competition_report.figure(studies[HIDDEN_COMPETITION]), figures / FIGURE)


def studies_lines(studies: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown of what `run_studies` found: tables, and each bound with the value beside it."""
    lines = []
    if HIDDEN_COMPETITION in studies:
        summaries = studies[HIDDEN_COMPETITION]
        asked = {
            name: as_json(competition_report.findings(summary))
            for name, summary in summaries.items()
            if name in competition_report.ASKED
        }
        lines += [
            "## Hidden rivals",
            "",
            HIDDEN_RIVALS,
            "",
            *competition_report.markdown(summaries),
            "",
            *([*table(asked), ""] if asked else []),
            f"![hidden competition](figures/{FIGURE})",
            "",
        ]
    if KNOWN_BIDS in studies:
        lines += [
            "## Bids that theory knows",
            "",
            PLAYED_AND_LEARNED,
            "",
            *table(studies[KNOWN_BIDS]),
            "",
        ]
    return lines
