"""Page of the report as HTML: its template, style and script, and figures as SVG within it."""
