"""The channels of a feature image.

Radiometric channels are linear radiance, averaged over all samples of a pixel (a miss counts as 0); normal, position
and roughness are averaged over the samples that hit.
"""

import numpy as np

MASK = slice(0, 1)  # share of the samples that hit
HIT_NORMAL = slice(1, 4)  # camera space, facing the camera
HIT_POSITION = slice(4, 7)  # camera space, scene units
HIT_DIFFUSE = slice(7, 10)
HIT_SPECULAR = slice(10, 13)
HIT_ROUGHNESS = slice(13, 14)
HIT_EMISSION = slice(14, 17)
IRRADIANCE = slice(17, 20)  # direct light that a white diffuse surface would reflect
DIRECT = slice(20, 23)  # the same times the diffuse albedo, sample by sample
HIGHLIGHT = slice(23, 26)  # direct light in the specular lobe
REFLECTION = slice(26, 29)  # what the specular lobe sees of other surfaces under direct light
RAY_CHANNELS = 29
GEOMETRY = np.r_[HIT_NORMAL, HIT_POSITION, HIT_ROUGHNESS]
