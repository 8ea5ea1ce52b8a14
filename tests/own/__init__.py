"""A folder as a user would have it, with a task, a loss, a data set and a metric of its own."""
