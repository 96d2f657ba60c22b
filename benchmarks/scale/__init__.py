"""How the operator does with thousands of cycles, beside the control plane that it loads."""
