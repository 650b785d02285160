"""Training: data sets with ray features, augmentation, the loop."""
