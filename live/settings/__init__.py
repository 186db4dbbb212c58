"""What a server is told: its settings (`config`) and the contracts it may trade (`deployment`)."""
