"""Makes the leaderboard, a folder of static pages, from run directories (docs/board.md)."""
