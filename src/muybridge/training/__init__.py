"""Learning: from settings to a job, schedule, optimiser, checkpoints, the loop."""
