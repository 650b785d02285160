"""Training: datasets with ray features, augmentation, the loop. Imported by the command line only."""
