"""Settings: the YAML files that are shipped, and what every configuration of the house shares:
typed fields with ranges (`settings`), reading them from files and arguments (`reading`), and the
keys that were renamed (`moved`).
"""
