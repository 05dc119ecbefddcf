"""Training: data, losses, a trainer that resumes, error figures."""
