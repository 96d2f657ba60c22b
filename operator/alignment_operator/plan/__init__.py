"""Pure decisions: what was observed and the time in, actions and the next status out. No clock, no I/O."""
