"""Quantised attention after SageAttention2++ (2505.21136): 8-bit products, with norm, RoPE and K's mean fused in front.

naive.py      the arithmetic in plain torch, and exact attention in float64
quantise.py   the prologue: launches the Triton kernels of prologue.py
launch.py     the main loop: launches the Triton kernels of main_loop.py
operator.py   `sageattn` and its fused form: checks, torch operators, gradients
device.py     which GPUs, types and widths are supported
"""
