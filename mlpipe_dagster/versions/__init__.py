"""Model versions: following packages, promoting and showing champions, starting and watching retraining."""
