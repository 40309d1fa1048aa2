"""How a frame is computed: one function in four ways."""
