"""Training: settings to job, network, schedule, optimizer, loop, checkpoints. `train.train` runs all of it."""
