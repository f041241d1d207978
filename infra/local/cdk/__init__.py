"""The CDK app on an emulator."""
