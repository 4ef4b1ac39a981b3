"""The delivery of events, spans and metrics: a bounded sender, a journal on disk, and diagnoses of endpoint errors."""
