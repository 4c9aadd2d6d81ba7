"""From a net's description to its plan: rules, splits, wiring, and who needs backward."""
