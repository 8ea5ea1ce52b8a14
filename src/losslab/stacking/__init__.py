"""Many runs trained as one."""
