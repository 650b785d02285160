"""Sequences of pictures: which frames there are (`frames`), who draws them (`drawing`, `farm`), what was done
(`manifest`), and the run that brings these together (`run`)."""
