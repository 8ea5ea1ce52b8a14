"""Private parts of other libraries, each with what it is for and what to do when a release takes it away."""
