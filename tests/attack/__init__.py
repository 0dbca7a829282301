"""Seeded attacks on what the programs promise: kills, damage, two at once, hostile input, pictures without tissue."""
