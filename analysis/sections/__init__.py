"""The sections of the report, one package per question."""
