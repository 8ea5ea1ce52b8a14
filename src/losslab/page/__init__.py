"""Pictures, and the page of a comparison."""
