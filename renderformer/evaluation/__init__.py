"""Evaluation of models: metrics, comparison with ray casting and path tracing, reports."""
