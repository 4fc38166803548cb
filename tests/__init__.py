"""Tests; each fails when what it guards breaks."""
