"""The API's resources in a serving region."""
