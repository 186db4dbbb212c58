"""From an event to a plan: `engine.Engine` reacts, `planner.Planner` looks, sizes and prices,
`dispatch.Dispatch` journals and sends."""
