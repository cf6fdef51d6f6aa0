"""Recurrent spiking networks built from motifs, trained with TSSL-BP, their architecture found by HRMAS."""

__version__ = "0.1.0"
