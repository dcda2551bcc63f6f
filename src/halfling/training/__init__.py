"""Training: pretraining, distillation, fine-tuning and exits on one Trainer, with losses that are functions."""
