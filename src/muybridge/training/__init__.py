"""From settings to a trained network: job, schedule, optimizer, checkpoints, the loop."""
