"""Sizes that the whole codec family shares. All blocks state their shapes for one tile."""

TILE = 512  # pixels: 504 and 4 of context on each side
LATENT_STRIDE = 16
HYPER_STRIDE = 32
LEVELS = 8  # quality levels 0 to 7
QUALITY_STEPS = 16  # a quality lies on sixteenths of a level

LATENT_SIZE = TILE // LATENT_STRIDE
HYPER_SIZE = TILE // HYPER_STRIDE
PATCH_CHANNELS = 3 * LATENT_STRIDE**2

# Backbone scales by name: features at 1 / stride of the image's resolution.
SCALES = {"sixteenth": 16, "eighth": 8, "quarter": 4, "half": 2, "full": 1}
