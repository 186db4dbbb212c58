"""What was decided and what came of it: plans, risk, journal, outcomes, settlement, metrics."""
