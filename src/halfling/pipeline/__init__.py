"""The pipeline: a recipe, and the stages that follow from it."""
