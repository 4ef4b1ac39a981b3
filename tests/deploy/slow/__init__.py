"""Tests of a built image and of its processes; they take minutes and need root, so only `nox -s deploy` runs them."""
