"""HBN-EEG: what the releases' events and tables say, as trials, blocks, targets and reasons to leave a recording out.

Shirazi et al. (2024), https://doi.org/10.1101/2024.10.03.615261; the tasks are described in the releases' README.
"""
