"""What is measured: speed beside PyTorch, the recipes, the pipeline; and the pages that show it."""
