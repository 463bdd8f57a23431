"""Experiments of many trainings: the plan of measurements, the leaderboard, sweeps, tuning."""
