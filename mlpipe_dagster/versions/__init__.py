"""Model versions: packages followed, champions promoted and shown, retraining started and watched."""
