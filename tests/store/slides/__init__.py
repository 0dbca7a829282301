"""Tests of `store.slides`."""
