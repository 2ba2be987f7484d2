"""Ways of estimating V(x), one a file."""
