"""An example project that predicts flight delays and congestion at airports."""
