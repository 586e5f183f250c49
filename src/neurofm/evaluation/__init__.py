"""Tasks, probes, baselines and the scoreboard."""
