"""Many trainings: leaderboard, sweeps, tuning."""
