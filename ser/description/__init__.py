"""Description of a corpus: computation, tables for the terminal, and figures."""
