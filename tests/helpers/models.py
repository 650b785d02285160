"""Settings of models that a test can build and train."""

from __future__ import annotations

# Both stages are 64 wide with one head. A test adds the layers of the view stage and the output.
SMALL = {
    "latent_dim": 64,
    "num_layers": 2,
    "num_heads": 1,
    "dim_feedforward": 96,
    "num_register_tokens": 2,
    "vertex_pe_num_freqs": 6,
    "texture_encode_patch_size": 1,
    "view_transformer_latent_dim": 64,
    "view_transformer_ffn_hidden_dim": 96,
    "view_transformer_n_heads": 1,
}
# A V1 model, and what makes it an extension with ray casting.
DENSE = {
    **SMALL,
    "view_transformer_n_layers": 4,
    "dpt_features": 16,
    "dpt_out_channels": [8, 8, 16, 16],
}
SHADING = {"ray_features": "light_cache", "output": "correction", "view_transformer_include_self_attn": False}
