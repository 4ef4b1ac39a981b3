"""Secrets: where they stand, how they are written, and the redactor, which hides them in all that leaves a process."""

from .redaction import ANSI_CODES, HIDDEN, Redactor, redact, redact_error, redact_json, redact_values, redactor

__all__ = ["ANSI_CODES", "HIDDEN", "Redactor", "redact", "redact_error", "redact_json", "redact_values", "redactor"]
