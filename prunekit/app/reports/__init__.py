"""Many runs together: tables, intervals and figures."""
