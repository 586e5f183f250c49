"""What CI does: plan the stages that are out of date, run each in a job of its own, and gather what the jobs made."""
