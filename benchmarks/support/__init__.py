"""What several benchmarks share; no benchmark lives here."""
