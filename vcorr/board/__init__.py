"""The leaderboard: a folder of static pages made from run directories (docs/board.md)."""
