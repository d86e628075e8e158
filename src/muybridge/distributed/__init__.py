"""The other processes of a job: ranks and collectives, the watchdog, stop signals, Ray tasks."""
