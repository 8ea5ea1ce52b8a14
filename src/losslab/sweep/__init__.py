"""Many runs from one sweep file: planned, shared out among processes, and never run twice."""
