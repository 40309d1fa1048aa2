"""More replicas for more listeners: how much each adds, and how soon one comes."""
