"""From an event to a signed plan: `engine.Engine` reacts, `planner.Planner` looks, sizes and
prices."""
