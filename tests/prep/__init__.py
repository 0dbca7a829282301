"""Tests of `prep`."""
