"""Updates: the template's releases in a git repository of their own, and projects that are made from them.

`releases.py` makes both; `edits.py` holds what an owner may have done in between.
"""
