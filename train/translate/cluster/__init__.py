"""Translations that other processes share: slides band by band, other pictures one each."""
