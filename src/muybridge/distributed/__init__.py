"""The other processes of a job: ranks, their collectives, a watchdog, signals to stop, Ray tasks."""
