"""The bus: facts from one service to the groups of others."""
