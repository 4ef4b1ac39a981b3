"""How events, spans and metrics leave: a bounded sender, a journal on disk, and what an endpoint's errors mean."""
