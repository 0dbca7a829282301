"""Evaluation: a run and its store in, scores, tables and contact sheets out."""
