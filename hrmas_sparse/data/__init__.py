"""Spikes: events, the spike cache, augmentation."""
