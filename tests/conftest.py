"""What every test shares: the settings of Hypothesis."""

from hypothesis import settings

# A deadline would time the machine, and the first call of a kernel compiles it.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
