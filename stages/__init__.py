"""The pipeline's stages: one small script each, over the modules in `stages.shared`."""
