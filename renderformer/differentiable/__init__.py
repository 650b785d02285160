"""Pictures as functions of tensors: `SceneTensors` in, `Renderer.render_tensors` out, see docs/gradients.md.

tensors.py holds what a picture depends on. tracing.py casts rays by the code of ordinary pictures and freezes what they
meet (samples.py). shading.py repeats in torch what light does there, by formulas.py. drawing.py joins all.
"""
