"""Pictures as functions of tensors: `SceneTensors` in, `Renderer.render_tensors` out, see docs/gradients.md.

tensors.py holds what a picture depends on; tracing.py finds rays by the code of ordinary pictures and freezes what they
meet; shading.py repeats on it, in torch, what light does there, by the formulas of formulas.py; drawing.py joins all.
"""
