"""How many replicas a load needs: measured and predicted costs, a simulation of bursts, and the plan that follows."""
